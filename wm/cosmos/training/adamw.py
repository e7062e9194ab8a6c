"""AdamW that reads and writes each array once, with a dtype of its own for every array it keeps.

Two billion parameters in float32 with float32 moments take 24 GB before the first activation. Moments in
bfloat16 halve the optimiser's share. bfloat16 has eight bits of mantissa: 0.999 v + 0.001 g², rounded to the
nearest, would never change v. Arrays kept in bfloat16 are therefore rounded up or down at random. The random
bits are hashed from position, step and array, so they are equal on every device and in every run.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from configs.cosmos import OptimizerConfig

Path = tuple[str, ...]
DECAYED = ("kernel", "a", "b")  # names of the matrices and adapters; gains and biases don't decay


@struct.dataclass
class Moments:
    """Running means of the gradient and of its square, shaped like the parameters."""

    mean: Any
    square: Any


def init(params: Any, config: OptimizerConfig) -> Moments:
    """Zero moments in the dtype that `config` says, on the devices that the parameters lie on."""
    zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, config.moments), params)  # noqa: E731
    return Moments(zeros(), zeros())


def learning_rate(config: OptimizerConfig, step: jax.Array) -> jax.Array:
    """Linear warm-up, then half a cosine down to `final_share` at `steps`; without `steps` it stays.

    `step` counts updates done; the first has 1 / warmup of the rate, not zero.
    """
    step = step.astype(jnp.float32)
    warm = jnp.minimum(1.0, (step + 1.0) / max(1, config.warmup))
    if config.steps is None:
        return config.learning_rate * warm
    progress = jnp.clip((step - config.warmup) / max(1, config.steps - config.warmup), 0.0, 1.0)
    cosine = 0.5 * (1.0 + jnp.cos(math.pi * progress))
    return config.learning_rate * warm * (config.final_share + (1.0 - config.final_share) * cosine)


def update(
    gradients: Any,
    moments: Moments,
    params: Any,
    step: jax.Array,
    config: OptimizerConfig,
    scale: Callable[[Path], float] = lambda path: 1.0,
) -> tuple[Any, Moments]:
    """One step of AdamW (Loshchilov and Hutter 2019), clipped by the global norm of all gradients.

    Args:
      gradients: like `params`, any float dtype.
      params: kept in the dtype they come in.
      step: [] int32, updates done before this one.
      scale: factor on the learning rate of a leaf by its path of names.
    """
    rate = learning_rate(config, step)
    shrink = jnp.minimum(1.0, config.max_grad_norm / jnp.maximum(global_norm(gradients), 1e-12))
    count = (step + 1).astype(jnp.float32)
    correct_mean = 1.0 / (1.0 - config.beta1**count)
    correct_square = 1.0 / (1.0 - config.beta2**count)

    def leaf(number: int, path: Path, g, m, v, p):
        g = g.astype(jnp.float32) * shrink
        m = config.beta1 * m.astype(jnp.float32) + (1.0 - config.beta1) * g
        v = config.beta2 * v.astype(jnp.float32) + (1.0 - config.beta2) * g * g
        change = m * correct_mean / (jnp.sqrt(v * correct_square) + config.epsilon)
        value = p.astype(jnp.float32)
        if path[-1] in DECAYED:
            change = change + config.weight_decay * value
        value = value - rate * scale(path) * change
        return tuple(
            rounded(x, dtype, seed(step, 4 * number + which))
            for which, (x, dtype) in enumerate(((value, p.dtype), (m, config.moments), (v, config.moments)))
        )

    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    columns = [jax.tree.leaves(tree) for tree in (gradients, moments.mean, moments.square)]
    rows = [
        leaf(number, names(path), *rest, p)
        for number, ((path, p), *rest) in enumerate(zip(paths, *columns, strict=True))
    ]
    params, mean, square = (treedef.unflatten(column) for column in zip(*rows, strict=True))
    return params, Moments(mean, square)


def global_norm(tree: Any) -> jax.Array:
    """[] float32, square root of the sum of all squares."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(x.astype(jnp.float32))) for x in jax.tree.leaves(tree)))


def names(path: tuple) -> Path:
    """A leaf's path as its names, such as ("blocks", "mlp", "up", "kernel")."""
    return tuple(jax.tree_util.keystr((part,), simple=True) for part in path)


def seed(step: jax.Array, array: int) -> jax.Array:
    """[] uint32, different for every step and array of a run."""
    return _mixed(
        step.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) + jnp.uint32(array * 0x85EBCA77 & 0xFFFFFFFF)
    )


def rounded(x: jax.Array, dtype: Any, seed: jax.Array) -> jax.Array:
    """float32 `x` in `dtype`; for bfloat16 up or down at random, so that the mean over seeds is x."""
    if jnp.dtype(dtype) != jnp.bfloat16:
        return x.astype(dtype)
    position = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    noise = _mixed(position ^ seed) & jnp.uint32(0xFFFF)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
    whole = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    return whole.astype(jnp.bfloat16)  # exact: the lower half is zero


def _mixed(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit (Wellons 2018, "lowbias32")."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
