"""Where the kernels of the network and of separation run, and the switch that turns them on and off.

They are written in Pallas for Triton and run by themselves on the cards that they were judged on: imagined
hours at KLAS with and without them returned the same (launch.tune_expert, the same keys). On other cards
OPENSCOPE_WM_KERNELS=1 turns them on where they can run; 0 turns them off everywhere. Where they do not run,
the plain functions that they equal do.
"""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp

SWITCH = "OPENSCOPE_WM_KERNELS"
OLDEST = 8.0  # compute capability of an Ampere card, the oldest that multiplies bfloat16
JUDGED = 9.0  # of H100 and H200


def used() -> bool:
    """Whether kernels are used: on Hopper cards, and where the switch is 1 on all since Ampere."""
    switch = os.environ.get(SWITCH, "")
    if switch == "0" or jax.default_backend() != "gpu":
        return False
    capability = float(jax.local_devices()[0].compute_capability)
    return capability == JUDGED or (switch == "1" and capability >= OLDEST)


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
