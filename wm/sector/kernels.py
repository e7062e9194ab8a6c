"""Where the kernels of the network and of separation run, and the switch that turns them on.

They are written in Pallas for Triton and run with OPENSCOPE_WM_KERNELS=1 in the environment. Without it, and
on devices that cannot run them, the plain functions that they equal run.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp

SWITCH = "OPENSCOPE_WM_KERNELS"
OLDEST = 8.0  # compute capability of an Ampere card, the oldest that multiplies bfloat16


def used() -> bool:
    """Whether kernels are used: where the switch is 1, on NVIDIA GPUs since Ampere."""
    if os.environ.get(SWITCH) != "1" or jax.default_backend() != "gpu":
        return False
    return float(jax.local_devices()[0].compute_capability) >= OLDEST


def where_it_runs(kernel: Callable, plain: Callable, *arguments):
    """`kernel(*arguments)` where the computation runs on a GPU that can, else `plain(*arguments)`."""
    if not used():
        return plain(*arguments)
    return jax.lax.platform_dependent(*arguments, cuda=kernel, default=plain)


def on_all(axis_size: int, in_batched, arguments):
    """`arguments` of a `custom_vmap` rule with those repeated over the batch that it does not batch."""
    return jax.tree.map(
        lambda batched, x: x if batched else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
        in_batched,
        arguments,
    )
