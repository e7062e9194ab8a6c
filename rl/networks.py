"""Actor-critic networks: one over a set of aircraft, and a small MLP for flat observations.

Both map a normalised observation with any leading batch dimensions to (distribution, value). The network
chooses the distribution that its action space needs, so PPO looks at neither. Trunks run in `config.dtype`;
logits, values, softmax, norms and parameters are float32.

Dimension letters: N aircraft, F features, G global features, D width, H heads.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from gymnax.environments import spaces

from configs.ppo import NetworkConfig
from rl.distribution import Categorical, Command
from wm.sector import commands

# Choices per aircraft, after the choice of the aircraft itself.
HEADS = dict(zip(("verb", "altitude", "heading", "speed"), commands.space_sizes(0)[1:], strict=True))
# What each column of the actor's output stands for.
OUTPUTS = (
    "aircraft",
    *(f"verb {name}" for name in commands.VERBS),
    *(f"altitude level {level}" for level in range(commands.LEVELS)),
    *(f"heading {change:+d} degrees" for change in commands.HEADING_CHANGES_DEG),
    *(f"speed {speed} kt" for speed in commands.SPEED_LEVELS_KT),
)


class Block(nn.Module):
    """Pre-norm self-attention over aircraft and an MLP, (..., N, D) -> (..., N, D).

    Absent aircraft are never attended to. There are no positions: permuting aircraft permutes the output.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        width = tokens.shape[-1]
        x = nn.LayerNorm(dtype=self.dtype)(tokens)  # flax keeps the statistics in float32
        qkv = nn.DenseGeneral((3, self.heads, width // self.heads), use_bias=False, dtype=self.dtype)(x)
        query, key, value = jnp.moveaxis(qkv, -3, 0)  # each (..., N, H, D/H)
        # Not jax.nn.dot_product_attention, which leaves the scores in float32. It is no faster on a CPU, and
        # changes 8 of the actions that the shipped controller takes on 1,000 recorded observations.
        scores = jnp.einsum("...qhd,...khd->...hqk", query, key) * (width // self.heads) ** -0.5
        scores = jnp.where(mask[..., None, None, :], scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores).astype(self.dtype)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        tokens = tokens + nn.DenseGeneral(width, axis=(-2, -1), use_bias=False, dtype=self.dtype)(mixed)
        hidden = nn.gelu(nn.Dense(2 * width, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(tokens)))
        return tokens + nn.Dense(width, dtype=self.dtype)(hidden)


class SetNetwork(nn.Module):
    """Aircraft are tokens, and the sector is added to each; out come the logits of a Command, and one value.

    Call with the observation dict (aircraft (..., N, F), aircraft_mask (..., N), global_state (..., G),
    action_mask); returns (Command, value (...,) float32). `no_op_bias` is added to the no-op's logit, so that
    an untrained controller rarely commands: with a random command every five seconds no flight gets anywhere.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, observation: dict):
        dtype, width = jnp.dtype(self.config.dtype), self.config.width
        mask = observation["aircraft_mask"]
        sector = nn.Dense(width, dtype=dtype)(observation["global_state"])
        tokens = nn.Dense(width, dtype=dtype)(observation["aircraft"]) + sector[..., None, :]
        for _ in range(self.config.blocks):
            tokens = Block(self.config.heads, dtype)(tokens, mask)
        tokens = nn.LayerNorm(dtype=dtype)(tokens).astype(jnp.float32)

        kept = jnp.where(mask[..., None], tokens, 0.0)
        mean = kept.sum(-2) / jnp.maximum(mask.sum(-1, keepdims=True, dtype=jnp.float32), 1)
        # -10 is below any normalised feature, and finite where no aircraft is present.
        peak = jnp.where(mask[..., None], tokens, -10.0).max(-2)
        summary = jnp.concatenate([mean, peak, sector.astype(jnp.float32)], axis=-1)

        value = nn.Dense(1)(nn.gelu(nn.Dense(2 * width, name="critic")(summary)))[..., 0]
        small = nn.initializers.orthogonal(0.01)  # near-uniform commands at the start
        per_aircraft = nn.Dense(1 + sum(HEADS.values()), kernel_init=small, name="actor")(tokens)
        no_op = nn.Dense(1, kernel_init=small, name="no_op")(summary) + self.config.no_op_bias
        pointer, *heads = jnp.split(per_aircraft, list(_offsets()), axis=-1)
        logits = dict(zip(HEADS, heads, strict=True))
        logits["aircraft"] = jnp.concatenate([pointer[..., 0], no_op], axis=-1)
        return Command.from_logits(logits, observation["action_mask"]), value


def _offsets():
    """Where the pointer and each head but the last end on the joint output axis."""
    end = 1
    for size in HEADS.values():
        yield end
        end += size


class MLPNetwork(nn.Module):
    """Separate two-layer tanh actor and critic for observation (..., F) and a Discrete action space."""

    config: NetworkConfig
    choices: int

    @nn.compact
    def __call__(self, observation: jax.Array):
        dtype, width = jnp.dtype(self.config.dtype), self.config.width
        layer = lambda: nn.Dense(width, dtype=dtype, kernel_init=nn.initializers.orthogonal(2**0.5))  # noqa: E731
        actor = nn.tanh(layer()(nn.tanh(layer()(observation)))).astype(jnp.float32)
        critic = nn.tanh(layer()(nn.tanh(layer()(observation)))).astype(jnp.float32)
        logits = nn.Dense(self.choices, kernel_init=nn.initializers.orthogonal(0.01))(actor)
        return Categorical(jax.nn.log_softmax(logits)), nn.Dense(1)(critic)[..., 0]


def for_spaces(observation_space, action_space, config: NetworkConfig) -> nn.Module:
    """The network for an environment's spaces. Raises ValueError for spaces that neither network covers."""
    if isinstance(action_space, spaces.Discrete) and isinstance(observation_space, spaces.Box):
        return MLPNetwork(config, int(action_space.n))
    if isinstance(observation_space, spaces.Dict) and "aircraft" in observation_space.spaces:
        return SetNetwork(config)
    raise ValueError(
        f"no network for observation {type(observation_space).__name__} and action "
        f"{type(action_space).__name__}: give the aircraft observation dict, or Box with Discrete actions"
    )
