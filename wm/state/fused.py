"""A loop over frames as one GPU kernel, for a body that treats every aircraft by itself.

XLA compiles such a loop to several kernels, each of which reads the same columns and repeats arithmetic. A
Pallas kernel (Triton) loads the columns of a block of aircraft once, keeps them in registers over all frames,
and writes each result once. On a CPU `jax.lax.scan` runs the same body.
Letters: K frames, N aircraft.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from wm.sector import kernels

BLOCK = 128  # aircraft of one kernel program, a power of two
WARPS = 4  # one thread an aircraft


def scan_frames(body: Callable, carry: Any, constants: Any, frames: int) -> tuple[Any, Any]:
    """`jax.lax.scan` of `body(carry, constants, frame) -> (carry, out)` over `frames` frame numbers.

    carry: pytree of `[N]` columns; constants: pytree of `[N]` columns or scalars; out: pytree of `[N]`
    columns, returned as `[K, N]`. `body` is elementwise over N and closes over no array.
    """
    shape = jax.tree.leaves(carry)[0].shape
    constants = jax.tree.map(lambda x: jnp.broadcast_to(x, shape), constants)
    if jax.default_backend() != "gpu":  # a kernel that cannot run takes long to trace
        return _scan(body, carry, constants, frames)
    return jax.lax.platform_dependent(
        carry,
        constants,
        cuda=partial(scan_in_kernel, body, frames=frames),
        default=partial(_scan, body, frames=frames),
    )


def _scan(body, carry, constants, frames: int):
    def step(carry, frame):
        return body(carry, constants, frame)

    return jax.lax.scan(step, carry, jnp.arange(frames))


def scan_in_kernel(body, carry, constants, frames: int, interpret: bool = False):
    """`scan_frames` by the kernel; `interpret` runs it on a CPU, slowly. Constants are `[N]` already."""

    @jax.custom_batching.custom_vmap
    def run(carry, constants):
        return _launch(body, carry, constants, frames, interpret)

    @run.def_vmap
    def _(axis_size, in_batched, carry, constants):
        carry, constants = kernels.on_all(axis_size, tuple(in_batched), (carry, constants))
        carry, out = run(carry, constants)
        out = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), out)
        return (carry, out), jax.tree.map(lambda _: True, (carry, out))

    return run(carry, constants)


def _stored(dtype):
    """The type in which a kernel keeps values of `dtype`: a GPU has no memory of single bits."""
    return jnp.dtype(jnp.int8) if dtype == jnp.bool_ else dtype


def _launch(body, carry, constants, frames: int, interpret: bool):
    """The kernel over columns of any one shape, taken as flat."""
    leaves, tree = jax.tree.flatten((carry, constants))
    shape, count = leaves[0].shape, len(jax.tree.leaves(carry))
    kinds = [leaf.dtype for leaf in leaves]
    out = jax.eval_shape(body, carry, constants, jax.ShapeDtypeStruct((), jnp.int32))[1]
    outs, out_tree = jax.tree.flatten(out)
    size = int(np.prod(shape))
    padded = -(-size // BLOCK) * BLOCK

    def kernel(*refs):
        columns = [ref[...].astype(kind) for ref, kind in zip(refs, kinds, strict=False)]
        carry, constants = jax.tree.unflatten(tree, columns)
        carry_refs = refs[len(leaves) : len(leaves) + count]
        out_refs = refs[len(leaves) + count :]

        def frame(number, carry):
            carry, out = body(carry, constants, number)
            for ref, value in zip(out_refs, jax.tree.leaves(out), strict=True):
                ref[number, :] = value.astype(ref.dtype)
            return carry

        carry = jax.lax.fori_loop(0, frames, frame, carry)
        for ref, value in zip(carry_refs, jax.tree.leaves(carry), strict=True):
            ref[...] = value.astype(ref.dtype)

    def flat(x):
        return jnp.pad(x.astype(_stored(x.dtype)).reshape(-1), (0, padded - size))

    column = pl.BlockSpec((BLOCK,), lambda i: (i,))
    track = pl.BlockSpec((frames, BLOCK), lambda i: (0, i))
    results = pl.pallas_call(
        kernel,
        grid=(padded // BLOCK,),
        in_specs=[column] * len(leaves),
        out_specs=[column] * count + [track] * len(outs),
        out_shape=[jax.ShapeDtypeStruct((padded,), _stored(kind)) for kind in kinds[:count]]
        + [jax.ShapeDtypeStruct((frames, padded), _stored(leaf.dtype)) for leaf in outs],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
        name="scan_frames",
    )(*map(flat, leaves))
    columns = [x[:size].reshape(shape).astype(kind) for x, kind in zip(results, kinds[:count], strict=False)]
    tracks = [
        x[:, :size].reshape((frames, *shape)).astype(leaf.dtype)
        for x, leaf in zip(results[count:], outs, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(carry), columns), jax.tree.unflatten(out_tree, tracks)
