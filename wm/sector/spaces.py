"""The action space: several discrete choices in one int32 vector (gymnax has none)."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces


class MultiDiscrete(spaces.Space):
    """Vectors int32 `[len(sizes)]` with entry i in [0, sizes[i])."""

    def __init__(self, sizes: tuple[int, ...]):
        self.sizes = tuple(int(n) for n in sizes)
        self.shape = (len(self.sizes),)
        self.dtype = jnp.int32

    def sample(self, key: jax.Array) -> jax.Array:
        """A uniform sample."""
        return jax.random.randint(key, self.shape, 0, jnp.asarray(self.sizes), self.dtype)

    def contains(self, x) -> jax.Array:
        """Whether every entry is in its range."""
        return jnp.all((x >= 0) & (x < jnp.asarray(self.sizes)))

    def to_gymnasium(self) -> gymnasium.spaces.MultiDiscrete:
        """The same space for gymnasium."""
        return gymnasium.spaces.MultiDiscrete(np.asarray(self.sizes), dtype=np.int32)


class Observation(spaces.Dict):
    """A Dict space whose `contains` works on nested dictionaries (gymnax's reads attributes)."""

    def contains(self, x) -> jax.Array:
        """Whether every entry lies in its space."""
        return jnp.all(jnp.stack([space.contains(x[k]) for k, space in self.spaces.items()]))
