"""What the network is trained on: noise levels, the rectified flow of Predict2.5, conditional frames.

A clip x and noise e mix to x_t = (1 - t) x + t e; the network, given x_t and t, predicts the velocity e - x.
Frames that the condition mask marks are given clean, and the network's velocity of them is ignored.

Random numbers are drawn per sample, from one key each, so that a batch may be cut up over devices and
accumulation steps without changing what is drawn. Dimension letters as in `wm/cosmos/networks/dit.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

# (x, level [], by how much the level falls [], key) -> the clean clip, all in float32
Denoiser = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
# (noisy latents (B, T, H, W, C), times (B,) or (B, T), condition_mask (B, T)) -> (B, T, H, W, C) float32
Network = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class FlowConfig:
    """How Predict2.5 was trained.

    Attributes:
      shift: pushes times toward noise, t -> s t / (1 + (s - 1) t).
      high_noise_share: of the samples are drawn uniformly from [high_noise_from, 1] instead.
      condition_time: t told to the network for given frames; None: that of the other frames, as the released
        model with actions.
    """

    shift: float = 5.0
    high_noise_share: float = 0.05
    high_noise_from: float = 0.98
    condition_time: float | None = None

    def __post_init__(self):
        if self.shift <= 0:
            raise ValueError(f"shift is {self.shift}, must be positive")
        for name in ("high_noise_share", "high_noise_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be from 0 to 1")


def shifted(times: jax.Array, shift: float) -> jax.Array:
    """t -> s t / (1 + (s - 1) t): 0 and 1 stay, the rest moves toward 1 for s > 1."""
    return shift * times / (1 + (shift - 1) * times)


def draw_times(keys: jax.Array, config: FlowConfig) -> jax.Array:
    """One t for each of keys (B,): shifted logit-normal, a share of them from the highest noise."""

    def one(key):
        normal, choice, high = jax.random.split(key, 3)
        usual = shifted(jax.nn.sigmoid(jax.random.normal(normal)), config.shift)
        noisy = jax.random.uniform(high, minval=config.high_noise_from, maxval=1.0)
        return jnp.where(jax.random.uniform(choice) < config.high_noise_share, noisy, usual)

    return jax.vmap(one)(keys)


def draw_noise(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal (B, *shape) from keys (B,)."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def mix(latents: jax.Array, noise: jax.Array, times: jax.Array, condition_mask: jax.Array) -> jax.Array:
    """x_t of clips (B, T, H, W, C) at times (B,), given frames clean."""
    t = times[:, None, None, None, None]
    return given(condition_mask, latents, (1 - t) * latents + t * noise)


def given(condition_mask: jax.Array, known: jax.Array, other: jax.Array) -> jax.Array:
    """`known` in the frames that condition_mask (B, T) marks, `other` elsewhere; both (B, T, H, W, C)."""
    return jnp.where(condition_mask[:, :, None, None, None] > 0, known, other)


def frame_times(times: jax.Array, condition_mask: jax.Array, condition_time: float | None) -> jax.Array:
    """What the network is told: times (B,), or (B, T) where given frames have a time of their own."""
    if condition_time is None:
        return times
    return jnp.where(condition_mask > 0, condition_time, times[:, None])


def losses(
    network: Network,
    latents: jax.Array,
    condition_mask: jax.Array,
    keys: jax.Array,
    config: FlowConfig,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Rectified-flow loss (B,) of each clip: mean squared error of the velocity over the frames not given.

    Args:
      network: closes over parameters, context and actions.
      latents: (B, T, H, W, C), normalised.
      condition_mask: (B, T), 1 where a frame is given; every clip needs a frame that isn't.
      keys: (B,).
      config: noise levels.
      weights: (B, T, H, W, 1) of mean one, by how much each latent counts; None: all alike.
    """
    time_keys, noise_keys = split_keys(keys)
    latents = latents.astype(jnp.float32)
    times = draw_times(time_keys, config)
    noise = draw_noise(noise_keys, latents.shape[1:])
    noisy = mix(latents, noise, times, condition_mask)
    velocity = network(noisy, frame_times(times, condition_mask, config.condition_time), condition_mask)
    return frame_mean(jnp.square(velocity - (noise - latents)), condition_mask, weights)


def frame_mean(errors: jax.Array, condition_mask: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Mean (B,) of errors (B, T, H, W, C) over the frames that aren't given, each times its weight."""
    per_frame = (errors if weights is None else errors * weights).mean((2, 3, 4))
    predicted = 1.0 - condition_mask.astype(jnp.float32)
    return (per_frame * predicted).sum(1) / predicted.sum(1)


def split_keys(keys: jax.Array, count: int = 2) -> tuple[jax.Array, ...]:
    """`count` arrays of keys (B,) from keys (B,)."""
    parts = jax.vmap(lambda key: jax.random.split(key, count))(keys)
    return tuple(parts[:, index] for index in range(count))


# Sampling


def denoiser(network: Network, known: jax.Array, condition_mask: jax.Array, config: FlowConfig) -> Denoiser:
    """Predicts the clean clip from a noisy one, with the frames of `known` (B, T, H, W, C) that are given.

    Their state moves on the straight line from its noise to what is known, as NVIDIA's sampler has it.
    """

    def denoise(x, level, fall, key):
        del fall, key
        times = jnp.full(x.shape[:1], level)
        told = frame_times(times, condition_mask, config.condition_time)
        velocity = network(given(condition_mask, known, x), told, condition_mask)
        return given(condition_mask, known, x - level * velocity)

    return denoise
