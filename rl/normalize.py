"""Running mean and variance of observation features and of discounted returns.

An update uses one set of statistics: its rollout and its epochs read them, and they change afterwards.
Otherwise the policy that learns would not be the one that acted, and the first minibatch's ratio would not
be 1.
"""

import jax
import jax.numpy as jnp
from flax import struct

CLIP = 10.0  # standard deviations; a rare feature has a tiny variance, and without a limit huge values
EPSILON = 1e-6


@struct.dataclass
class Stats:
    """Mean and variance per feature, float32."""

    mean: jax.Array  # (F,)
    var: jax.Array  # (F,)
    count: jax.Array  # () number of samples seen

    @classmethod
    def init(cls, shape) -> "Stats":
        return cls(
            mean=jnp.zeros(shape, jnp.float32),
            var=jnp.ones(shape, jnp.float32),
            count=jnp.asarray(1e-4, jnp.float32),
        )

    def apply(self, x: jax.Array) -> jax.Array:
        """x (..., F) in standard deviations from the mean, not clipped."""
        return (x.astype(jnp.float32) - self.mean) * jax.lax.rsqrt(self.var + EPSILON)


@struct.dataclass
class Moments:
    """Sums over samples of the normalised features. Sums add up over steps, and over devices by psum."""

    first: jax.Array  # (F,)
    second: jax.Array  # (F,)
    count: jax.Array  # ()

    @classmethod
    def of(cls, normalised: jax.Array, mask: jax.Array | None = None) -> "Moments":
        """From values (..., F); `mask` (...,) leaves out rows such as absent aircraft."""
        axes = tuple(range(normalised.ndim - 1))
        if mask is None:
            mask = jnp.ones(normalised.shape[:-1], bool)
        kept = jnp.where(mask[..., None], normalised, 0.0)
        count = jnp.sum(mask, dtype=jnp.float32)
        return cls(first=kept.sum(axes), second=jnp.square(kept).sum(axes), count=count)


def merge(stats: Stats, moments: Moments) -> Stats:
    """Statistics of old and new samples together (Chan et al. 1983). Without new samples nothing changes.

    The sums are of values normalised by `stats` itself, so they are of order one and their difference does
    not cancel, whatever the feature's scale.
    """
    n = jnp.maximum(moments.count, 1.0)
    scale = jnp.sqrt(stats.var + EPSILON)
    shift = moments.first / n
    batch_var = jnp.maximum(moments.second / n - jnp.square(shift), 0.0) * jnp.square(scale)
    delta = shift * scale
    share = moments.count / (stats.count + moments.count)
    return Stats(
        mean=stats.mean + share * delta,
        var=(1 - share) * stats.var + share * batch_var + share * (1 - share) * jnp.square(delta),
        count=stats.count + moments.count,
    )


# What is normalised in an observation: the part and the mask of its rows. Everything else passes through.
# Masks and flags are bool; a flat Box observation is a single part.


def init_observation(observation) -> dict[str, Stats]:
    """Fresh statistics for an observation without batch dimensions: the environment's dict, or flat."""
    return {name: Stats.init(part.shape[-1:]) for name, part in _parts(observation).items()}


def normalise(stats: dict[str, Stats], observation, dtype=jnp.float32):
    """The observation as the network sees it, and the Moments to `merge` later.

    Features are clipped, absent aircraft are zero, and both are cast to `dtype`. The network itself casts
    its input to the dtype of its trunk, so storing a rollout in that dtype loses nothing.
    """
    parts = _parts(observation)
    mask = observation["aircraft_mask"] if isinstance(observation, dict) else None
    masks = {"aircraft": mask}
    scaled = {name: stats[name].apply(part) for name, part in parts.items()}
    moments = {name: Moments.of(part, masks.get(name)) for name, part in scaled.items()}
    seen = {name: jnp.clip(part, -CLIP, CLIP).astype(dtype) for name, part in scaled.items()}
    if mask is None:
        return seen["flat"], moments
    seen["aircraft"] = jnp.where(mask[..., None], seen["aircraft"], 0)
    return {**observation, **seen}, moments


def _parts(observation) -> dict[str, jax.Array]:
    if isinstance(observation, dict):
        return {name: observation[name] for name in ("aircraft", "global_state")}
    return {"flat": observation}
