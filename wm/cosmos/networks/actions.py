"""The action path of Predict2.5: actions shift each latent frame's time embedding and modulation.

Two networks of the same shape embed the actions between two latent frames, flattened: one adds to the time
embedding before its norm, the other to the modulation shared by all blocks. The first latent frame and frames
that are given have no action. Parameters bear the published names fc1 and fc2.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from wm.cosmos.networks.config import ActionConfig
from wm.cosmos.networks.layers import Dense


class Embedding(nn.Module):
    """(..., I) -> (..., features) float32 through one hidden layer; zero at initialisation.

    A model that gets an action path is therefore unchanged until it has learned something.
    """

    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = lambda features, **options: Dense(  # noqa: E731
            features, jnp.float32, use_bias=True, precise=True, **options
        )
        hidden = nn.gelu(layer(self.hidden, name="fc1")(x), approximate=True)
        return layer(self.features, name="fc2", kernel_init=nn.initializers.zeros)(hidden)


class ActionPath(nn.Module):
    """Actions (B, n, A) of a clip with 1 + n / per_latent latent frames -> what they add.

    Returns (B, T, D) for the time embedding and (B, T, 3 D) for the shared modulation, float32.

    Raises:
      ValueError: the actions' width or number is not what the model takes.
    """

    config: ActionConfig
    width: int

    @nn.compact
    def __call__(self, actions: jax.Array, condition_mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        config, frames = self.config, condition_mask.shape[1]
        expected = ((frames - 1) * config.per_latent, config.width)
        if actions.shape[1:] != expected:
            raise ValueError(
                f"actions of a clip with {frames} latent frames are {expected[0]} x {expected[1]}, "
                f"not {' x '.join(map(str, actions.shape[1:]))}"
            )
        grouped = actions.astype(jnp.float32).reshape(
            actions.shape[0], frames - 1, config.per_latent * config.width
        )
        moves = 1.0 - condition_mask.astype(jnp.float32)[..., None]
        return tuple(
            moves * jnp.pad(Embedding(config.hidden, features, name=name)(grouped), ((0, 0), (1, 0), (0, 0)))
            for name, features in (("to_d", self.width), ("to_3d", 3 * self.width))
        )
