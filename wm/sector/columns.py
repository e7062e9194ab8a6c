"""Many columns into one array, laid out so that a GPU writes it at the speed of its memory.

Stacked along the last axis, 32 neighbouring threads would each run the code of another column. In a batch
the columns are therefore stacked as rows first, and the array is transposed as a whole.
"""

import jax
import jax.numpy as jnp
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
    # Without the constraint the compiler would choose the layout that makes the transposition free.
    rows = with_layout_constraint(rows, Layout(tuple(range(rows.ndim))))
    return jnp.swapaxes(rows, -1, -2)
