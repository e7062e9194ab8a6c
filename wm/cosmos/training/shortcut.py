"""Sampling in one to four steps: a loss beside the plain one that teaches the network how far it will step.

Shortcut models (Frans et al., 2024): told its step size d, the network predicts the mean velocity from t to
t - d. For d = 0 that is the plain flow. For d > 0 the target is two steps of half the size by a running
mean of the network itself; so one step of the whole way is learned from two, these from four, and so on,
without a teacher. The two halves of the smallest step are of the flow itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from wm.cosmos.training import flow
from wm.cosmos.training.flow import Denoiser, FlowConfig, given

# (noisy, times (B,), condition_mask, steps (B,)) -> velocity; steps 0: of the flow itself
StepNetwork = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class ShortcutConfig:
    """How steps are learned.

    Attributes:
      share: of the samples learn a step, the others the plain flow.
      doublings: steps are 1, 1/2, ... 2^(1 - doublings) of the way.
      flow: noise levels of the others.
    """

    share: float = 0.25
    doublings: int = 7
    flow: FlowConfig = field(default_factory=FlowConfig)

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, must be between 0 and 1")
        if self.doublings < 1:
            raise ValueError(f"doublings is {self.doublings}, must be at least 1")

    @property
    def smallest(self) -> float:
        """The smallest step that is learned."""
        return 2.0 ** (1 - self.doublings)


def draw_steps(keys: jax.Array, config: ShortcutConfig) -> tuple[jax.Array, jax.Array]:
    """(steps, times), each (B,): a step size and a time on its grid, from which it leads on to the next."""

    def one(key):
        size_key, place_key = jax.random.split(key)
        count = 2 ** jax.random.randint(size_key, (), 0, config.doublings)  # steps of this size in the whole
        place = 1 + jax.random.randint(place_key, (), 0, count)
        return 1 / count, place / count

    return jax.vmap(one)(keys)


def losses(
    network: StepNetwork,
    target: StepNetwork,
    latents: jax.Array,
    condition_mask: jax.Array,
    keys: jax.Array,
    config: ShortcutConfig,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Loss (B,) of each clip: of the plain flow, or of a step against two halves of it.

    Every sample decides by its own key which it is; all are run through both halves, so that the loss doesn't
    depend on how a batch is cut up. It costs two forward passes more than the plain loss.

    Args:
      network: is trained. target: a running mean of it; no gradient flows through it.
      latents, condition_mask, keys, weights: as those of `wm.cosmos.training.flow.losses`.
      config: how many steps are learned.
    """
    choice_keys, plain_keys, step_keys, noise_keys = flow.split_keys(keys, 4)
    latents = latents.astype(jnp.float32)
    noise = flow.draw_noise(noise_keys, latents.shape[1:])
    steps, step_times = draw_steps(step_keys, config)
    is_step = jax.vmap(jax.random.uniform)(choice_keys) < config.share
    steps = jnp.where(is_step, steps, 0.0)
    times = jnp.where(is_step, step_times, flow.draw_times(plain_keys, config.flow))

    noisy = flow.mix(latents, noise, times, condition_mask)
    halves = jax.lax.stop_gradient(_two_halves(target, noisy, times, condition_mask, steps, config))
    goal = jnp.where(_wide(is_step), halves, noise - latents)
    errors = jnp.square(network(noisy, times, condition_mask, steps) - goal)
    return flow.frame_mean(errors, condition_mask, weights)


def _two_halves(target, noisy, times, condition_mask, steps, config):
    """Mean velocity of two steps of half the size."""
    half = steps / 2
    told = jnp.where(half < config.smallest, 0.0, half)  # smaller sizes are never learned
    first = target(noisy, times, condition_mask, told)
    between = given(condition_mask, noisy, noisy - _wide(half) * first)
    second = target(between, times - half, condition_mask, told)
    return (first + second) / 2


def _wide(values):
    return values[:, None, None, None, None]


def denoiser(network: StepNetwork, known: jax.Array, condition_mask: jax.Array) -> Denoiser:
    """As `wm.cosmos.training.flow.denoiser`, with the network told how far the solver steps; for Euler's
    method.
    """

    def denoise(x, level, fall, key):
        del key
        times, steps = jnp.full(x.shape[:1], level), jnp.full(x.shape[:1], fall)
        velocity = network(given(condition_mask, known, x), times, condition_mask, steps)
        return given(condition_mask, known, x - level * velocity)

    return denoise
