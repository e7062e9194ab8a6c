"""Actor-critic networks: one over a set of aircraft, and a small MLP for flat observations.

Both map a normalised observation with any leading batch dimensions to (distribution, value). The network
chooses the distribution that its action space needs, so PPO looks at neither. Trunks run in `config.dtype`;
logits, values, softmax, norms and parameters are float32.

Dimension letters: N aircraft, F features, G global features, D width, H heads.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from gymnax.environments import spaces

from configs.ppo import NetworkConfig
from rl.advice import ADVICE
from rl.distribution import VALUES, Categorical, Command
from rl.lookahead import ALTITUDE_0, CANDIDATES, DIRECT_C, HEADING_0, ILS_C, SPEED_0
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


# How much likelier the expert's choice is to begin with (nats), and how far other choices follow what they
# save: an untrained advised controller plays something else in one or two decisions of a hundred.
TRUST = 6.0
PER_POINT = 0.5  # nats
SPAN = 10.0  # points; what is worse by more is all the same


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
        tokens, summary, value = self._trunk(observation)
        logits = self._command(tokens, summary, self.config.no_op_bias)
        return Command.from_logits(logits, observation["action_mask"]), value

    def _trunk(self, observation: dict):
        """Tokens (..., N, D), a summary of the sector (..., 3 D) and the value (...,), float32."""
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
        return tokens, summary, value

    def _command(self, tokens, summary, no_op_bias: float) -> dict:
        """The logits of a Command from tokens (..., N, K) and the sector's summary."""
        small = nn.initializers.orthogonal(0.01)  # near-uniform commands at the start
        per_aircraft = nn.Dense(1 + sum(HEADS.values()), kernel_init=small, name="actor")(tokens)
        no_op = nn.Dense(1, kernel_init=small, name="no_op")(summary) + no_op_bias
        pointer, *heads = jnp.split(per_aircraft, list(_offsets()), axis=-1)
        logits = dict(zip(HEADS, heads, strict=True))
        logits["aircraft"] = jnp.concatenate([pointer[..., 0], no_op], axis=-1)
        return logits


class AdvisedNetwork(SetNetwork):
    """A SetNetwork that corrects the expert, whose savings (..., N, C) the observation holds (rl.advice).

    Its logits are added to those of `followed`, so that an untrained one plays as the expert does. The
    critic does not see the savings.
    """

    @nn.compact
    def __call__(self, observation: dict):
        tokens, summary, value = self._trunk(observation)
        advice = observation[ADVICE]
        seen = jnp.concatenate([tokens, jnp.clip(advice, -SPAN, SPAN) / SPAN], axis=-1)
        hidden = nn.gelu(nn.Dense(2 * self.config.width, name="adviser")(seen))
        own, expert = self._command(hidden, summary, 0.0), followed(advice)
        logits = {name: own[name] + expert[name] for name in own}
        return Command.from_logits(logits, observation["action_mask"]), value


def followed(advice: jax.Array) -> dict:
    """Logits of a Command that follows the expert's savings (..., N, C): its mode is the expert's action.

    An aircraft's pointer and verbs count as much as the best command below them; the no-op saves nothing.
    """
    best = advice.max(-1)
    groups = np.split(np.arange(CANDIDATES), [ALTITUDE_0, HEADING_0, SPEED_0, ILS_C, DIRECT_C])[1:]
    values = [advice[..., group] for group in groups]
    choices = {
        "aircraft": jnp.concatenate([best, jnp.zeros_like(best[..., :1])], axis=-1),
        "verb": jnp.stack([value.max(-1) for value in values], axis=-1),
        **dict(zip(VALUES, values[: len(VALUES)], strict=True)),
    }
    return {name: _preferring_the_best(saving) for name, saving in choices.items()}


def _preferring_the_best(saving: jax.Array) -> jax.Array:
    behind = jnp.clip(saving - saving.max(-1, keepdims=True), -SPAN, 0.0)
    first = jax.nn.one_hot(jnp.argmax(saving, axis=-1), saving.shape[-1])
    return PER_POINT * behind + TRUST * first


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
        return for_sectors(observation_space.spaces, config)
    raise ValueError(
        f"no network for observation {type(observation_space).__name__} and action "
        f"{type(action_space).__name__}: give the aircraft observation dict, or Box with Discrete actions"
    )


def for_sectors(observation: dict, config: NetworkConfig) -> SetNetwork:
    """The network for a sector's observation, or whatever has its parts as keys."""
    return (AdvisedNetwork if ADVICE in observation else SetNetwork)(config)
