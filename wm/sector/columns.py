"""Many arrays into one: columns side by side, and padded tables on top of each other.

`stack` lays its result out so that a GPU writes it at the speed of its memory. Stacked along the last axis,
32 neighbouring threads would each run the code of another column. In a batch the columns are therefore
stacked as rows first, and the array is transposed as a whole.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Layout, with_layout_constraint


@jax.custom_batching.custom_vmap
def stack(columns: list[jax.Array]) -> jax.Array:
    """Columns `[..., N]`, all of one shape and dtype, as `[..., N, F]`."""
    return jnp.stack(columns, axis=-1)


@stack.def_vmap
def _stack_batch(axis_size, in_batched, columns):
    columns = [
        column if batched else jnp.broadcast_to(column, (axis_size, *column.shape))
        for column, batched in zip(columns, in_batched[0], strict=True)
    ]
    return _rows_then_transpose(columns), True


@jax.jit
def _rows_then_transpose(columns):
    rows = jnp.stack(columns, axis=-2)  # [E, ..., F, N]
    # Without the constraint XLA picks a layout that makes the transposition free and the write slow.
    rows = with_layout_constraint(rows, Layout(tuple(range(rows.ndim))))
    return jnp.swapaxes(rows, -1, -2)


def stack_padded(trees: list):
    """Stack pytrees of arrays (numpy), padding every axis with zeros to the largest."""

    def leaf(*arrays):
        shape = tuple(max(sizes) for sizes in zip(*(np.shape(x) for x in arrays), strict=True))
        out = np.zeros((len(arrays), *shape), np.asarray(arrays[0]).dtype)
        for i, x in enumerate(arrays):
            out[(i, *(slice(0, n) for n in np.shape(x)))] = x
        return out

    return jax.tree.map(leaf, *trees)
