"""Simple policies to compare with and to explore with: nothing, random legal commands, a perturbed policy.

Each is a pair of pure functions on the observation alone: `init(key) -> carry` and
`act(params, carry, obs, key) -> (action int32[5], carry)`; observations are unbatched, callers vmap.
Letters: N aircraft slots.
"""

import jax
import jax.numpy as jnp
from flax import struct

from rl.acting import Policy

VALUES = ("altitude", "heading", "speed")  # masks of the verbs that take a value, in the verbs' order


@struct.dataclass
class RandomParams:
    """noop_share: probability of no command. If negative, the no-op is as likely as each legal aircraft."""

    noop_share: float = -1.0


@struct.dataclass
class PerturbedParams:
    """Params of the policy underneath, how often it is overruled, and by which random commands."""

    inner: struct.PyTreeNode
    epsilon: float = 0.1
    random: RandomParams = RandomParams(noop_share=0.0)


def noop_action(slots: int) -> jax.Array:
    """The action `int32[5]` that commands nothing to any of `slots` aircraft."""
    return jnp.zeros(5, jnp.int32).at[0].set(slots)


def _pick(key, mask):
    """Index drawn uniformly from the true entries of `mask [K]`; 0 where there are none."""
    return jax.random.categorical(key, jnp.where(mask, 0.0, -1e9)) * jnp.any(mask)


def random_action(key, mask: dict[str, jax.Array], noop_share=-1.0) -> jax.Array:
    """A legal action: aircraft, then one of its legal verbs, then a legal value, each drawn uniformly."""
    noop_key, slot_key, verb_key, value_key = jax.random.split(key, 4)
    slots = mask["verb"].shape[-2]
    every = jnp.any(mask["aircraft"][:slots])
    with_noop = mask["aircraft"].at[slots].set((noop_share < 0.0) | ~every)
    slot = _pick(slot_key, with_noop)
    drawn = jax.random.uniform(noop_key) < noop_share
    row = jnp.minimum(slot, slots - 1)
    verb = _pick(verb_key, mask["verb"][row])
    values = [
        _pick(k, mask[name][row]) for k, name in zip(jax.random.split(value_key, 3), VALUES, strict=True)
    ]
    values = jnp.where(jnp.arange(3) == verb, jnp.stack(values), 0)
    action = jnp.concatenate([jnp.stack([slot, verb]), values]).astype(jnp.int32)
    return jnp.where(drawn | (slot >= slots), noop_action(slots), action)


def noop() -> Policy:
    """Never commands anything; takes no params."""

    def act(params, carry, obs, key):
        return noop_action(obs["aircraft_mask"].shape[-1]), carry

    return Policy(init=lambda key: (), act=act)


def random_legal() -> Policy:
    """Uniform over legal commands; params `RandomParams`."""

    def act(params: RandomParams, carry, obs, key):
        return random_action(key, obs["action_mask"], params.noop_share), carry

    return Policy(init=lambda key: (), act=act)


def perturbed(policy: Policy) -> Policy:
    """`policy`, wrong on purpose: with probability epsilon a random legal command; params `PerturbedParams`.

    Recordings of a good controller hold few go-arounds and conflicts. A model learns them from this one.
    """

    def act(params: PerturbedParams, carry, obs, key):
        inner_key, chance_key, random_key = jax.random.split(key, 3)
        action, carry = policy.act(params.inner, carry, obs, inner_key)
        other = random_action(random_key, obs["action_mask"], params.random.noop_share)
        wrong = jax.random.uniform(chance_key) < params.epsilon
        return jnp.where(wrong, other, action), carry

    return Policy(init=policy.init, act=act)
