"""Layers of the Cosmos transformer: dense, norms, rotary positions, attention.

Matrix products run in `dtype`; norms, softmax, rotations and modulation are float32, as in NVIDIA's training.

Dimension letters: B batch, T latent frames, N tokens of a frame, S = T N, D width, H heads, C channels of a
head, K context tokens.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

AttentionName = Literal["auto", "cudnn", "xla"]
EPSILON = 1e-6
HIGHEST = jax.lax.Precision.HIGHEST  # a GPU would otherwise round float32 products to ten bits


def fan_in_normal(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Normal with variance 1 / fan-in, cut at three standard deviations."""
    return jax.random.truncated_normal(key, -3, 3, shape, dtype) * shape[0] ** -0.5


class Dense(nn.Module):
    """x (..., I) -> (..., features), without bias unless asked; `precise` computes in float32 throughout."""

    features: int
    dtype: jnp.dtype
    use_bias: bool = False
    precise: bool = False
    kernel_init: nn.initializers.Initializer = fan_in_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtype = jnp.float32 if self.precise else self.dtype
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = jnp.matmul(x.astype(dtype), kernel.astype(dtype), precision=HIGHEST if self.precise else None)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(dtype)
        return y


class RMSNorm(nn.Module):
    """x / rms(x) * scale over the last axis, in float32."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(jnp.float32)
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * scale


def modulated_norm(x: jax.Array, shift: jax.Array, scale: jax.Array) -> jax.Array:
    """Layer norm of x (B, T, N, D) without parameters of its own, then times 1 + scale, plus shift.

    `shift` and `scale` are (B, T or 1, D) float32: one vector per frame, never expanded to tokens. Returns
    x's dtype.
    """
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + EPSILON)
    return (y * (1 + scale[:, :, None]) + shift[:, :, None]).astype(x.dtype)


def rotary_angles(
    frames: int,
    height: int,
    width: int,
    head_width: int,
    scale: tuple[float, float, float],
    fps: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """(cos, sin), each (T h w, C / 2) float32, for the tokens of `frames` x `height` x `width` patches.

    The channels of a head are shared out among time, height and width; each part has its own base frequency,
    10000 stretched by `scale`. With `fps` time is counted in 1/24 s instead of latent frames.
    """
    side = head_width // 6 * 2
    parts = (head_width - 2 * side, side, side)
    positions = [jnp.arange(count, dtype=jnp.float32) for count in (frames, height, width)]
    if fps is not None:
        positions[0] = positions[0] / fps * 24.0
    angles = []
    for axis, (part, ratio, position) in enumerate(zip(parts, scale, positions, strict=True)):
        base = 10000.0 * ratio ** (part / (part - 2))
        frequency = 1.0 / base ** (jnp.arange(0, part, 2, dtype=jnp.float32) / part)
        shape = [1, 1, 1, part // 2]
        shape[axis] = len(position)
        angle = (position[:, None] * frequency).reshape(shape)
        angles.append(jnp.broadcast_to(angle, (frames, height, width, part // 2)))
    joined = jnp.concatenate(angles, -1).reshape(frames * height * width, head_width // 2)
    return jnp.cos(joined), jnp.sin(joined)


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates x (B, S, H, C) float32: channel i together with channel i + C / 2."""
    cos, sin = (angle[:, None] for angle in angles)
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


def sinusoid(times: jax.Array, width: int) -> jax.Array:
    """(...,) -> (..., width) float32: cosines, then sines, at frequencies from 1 down to 1 / 10000."""
    frequency = jnp.exp(-jnp.log(10000.0) * jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angle = times.astype(jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1)


def attention_name(name: AttentionName, dtype: jnp.dtype) -> str:
    """The kernel that "auto" stands for: cuDNN's for 16-bit numbers on a GPU, else XLA's."""
    if name != "auto":
        return name
    return "cudnn" if jax.default_backend() == "gpu" and jnp.dtype(dtype).itemsize == 2 else "xla"


class Attention(nn.Module):
    """Multi-head attention of x (B, S, D) to `context` (B or 1, K, E), or to itself.

    Queries and keys are RMS-normed per head; those of self-attention are rotated. A context of one row is
    projected once and shared by the batch.
    """

    heads: int
    dtype: jnp.dtype
    kernel: AttentionName = "auto"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        context: jax.Array | None = None,
        angles: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        width = x.shape[-1]
        source = x if context is None else context

        def heads_of(name, tokens):
            y = Dense(width, self.dtype, name=name)(tokens)
            return y.reshape(*tokens.shape[:2], self.heads, width // self.heads)

        query, key, value = heads_of("q", x), heads_of("k", source), heads_of("v", source)
        query, key = RMSNorm(name="q_norm")(query), RMSNorm(name="k_norm")(key)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        query, key = query.astype(self.dtype), key.astype(self.dtype)
        if key.shape[0] != query.shape[0]:
            shape = (query.shape[0], *key.shape[1:])
            key, value = jnp.broadcast_to(key, shape), jnp.broadcast_to(value, shape)
        implementation = attention_name(self.kernel, self.dtype)
        mixed = jax.nn.dot_product_attention(query, key, value, implementation=implementation)
        return Dense(width, self.dtype, name="out")(mixed.reshape(x.shape))
