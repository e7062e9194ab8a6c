"""Action distributions: a masked categorical and the air-traffic command built from five of them.

Both are frozen pytrees of normalised float32 log-probabilities, so they pass through jit, vmap and scan. The
logit of a masked entry is the lowest finite float32 and not minus infinity: an entropy multiplies it by a
probability of zero, which would give NaN with infinity.

Shapes: leading `...` are batch dimensions, N aircraft.
"""

import jax
import jax.numpy as jnp
from flax import struct

NO_TARGET = 3  # verbs from this index on (ILS, direct) take no value
VALUES = ("altitude", "heading", "speed")  # value heads in the order of their verbs
LOWEST = jnp.finfo(jnp.float32).min


def masked_log_softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """Log-probabilities (..., K) float32 over the entries in the mask; a row without any becomes uniform."""
    return jax.nn.log_softmax(jnp.where(mask, logits.astype(jnp.float32), LOWEST))


def _entropy(log_p: jax.Array) -> jax.Array:
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def _kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _pick(log_p: jax.Array, index: jax.Array) -> jax.Array:
    """Entry `index` (...,) of the last axis of log_p (..., K)."""
    return jnp.take_along_axis(log_p, index[..., None], axis=-1)[..., 0]


def _row(table: jax.Array, aircraft: jax.Array) -> jax.Array:
    """Row `aircraft` (...,) of table (..., N, K); for the no-op (index N) the last row, which is not used."""
    index = jnp.minimum(aircraft, table.shape[-2] - 1)
    return jnp.take_along_axis(table, index[..., None, None], axis=-2)[..., 0, :]


@struct.dataclass
class Categorical:
    """One choice of K; action int32 (...,)."""

    log_p: jax.Array  # (..., K)

    def sample(self, key):
        return jax.random.categorical(key, self.log_p).astype(jnp.int32)

    def mode(self):
        return jnp.argmax(self.log_p, axis=-1).astype(jnp.int32)

    def log_prob(self, action):
        return _pick(self.log_p, action)

    def entropy(self):
        return _entropy(self.log_p)

    def kl(self, other: "Categorical"):
        """KL(self || other) in nats, exact, (...,)."""
        return _kl(self.log_p, other.log_p)


def close_mask(mask: dict) -> dict:
    """The mask without dead ends: a verb needs a legal value, an aircraft a legal verb.

    The no-op is always legal. So no sequence of legal choices ends in a row in which nothing is legal.
    """
    has_value = [mask[name].any(-1) for name in VALUES]
    always = [jnp.ones_like(has_value[0])] * (mask["verb"].shape[-1] - NO_TARGET)
    verb = mask["verb"] & jnp.stack(has_value + always, axis=-1)
    aircraft = mask["aircraft"][..., :-1] & verb.any(-1)
    no_op = jnp.ones_like(aircraft[..., :1])
    return {**mask, "verb": verb, "aircraft": jnp.concatenate([aircraft, no_op], axis=-1)}


@struct.dataclass
class Command:
    """Aircraft or no-op, then a verb for that aircraft, then a value for that verb; action int32 (..., 5).

    Entries that an action does not use are 0 and do not count. The choices of every aircraft are known, not
    only those of the one chosen, so the entropy is exact: each part weighted by its parent's probability.
    """

    aircraft: jax.Array  # (..., N+1), index N is no-op
    verb: jax.Array  # (..., N, 5)
    altitude: jax.Array  # (..., N, 9)
    heading: jax.Array  # (..., N, 7)
    speed: jax.Array  # (..., N, 4)

    @classmethod
    def from_logits(cls, logits: dict, mask: dict) -> "Command":
        """From five logit arrays and five bool masks of the shapes above."""
        legal = close_mask(mask)
        return cls(**{name: masked_log_softmax(logits[name], legal[name]) for name in logits})

    def _assemble(self, aircraft, choose):
        """An action from an aircraft and `choose(name, log_p)` for the other heads, unused entries zeroed."""
        verb = choose("verb", _row(self.verb, aircraft))
        given = aircraft < self.verb.shape[-2]
        values = [choose(name, _row(getattr(self, name), aircraft)) for name in VALUES]
        used = [jnp.where(given & (verb == i), value, 0) for i, value in enumerate(values)]
        return jnp.stack([aircraft, jnp.where(given, verb, 0), *used], axis=-1).astype(jnp.int32)

    def sample(self, key):
        key_aircraft, *key_heads = jax.random.split(key, 5)
        keys = dict(zip(("verb", *VALUES), key_heads, strict=True))
        aircraft = jax.random.categorical(key_aircraft, self.aircraft)
        return self._assemble(aircraft, lambda name, log_p: jax.random.categorical(keys[name], log_p))

    def mode(self):
        """The most likely choice at each stage in turn."""
        return self._assemble(jnp.argmax(self.aircraft, -1), lambda name, log_p: jnp.argmax(log_p, -1))

    def log_prob(self, action):
        aircraft, verb, *values = jnp.moveaxis(action, -1, 0)
        command = _pick(_row(self.verb, aircraft), verb)
        for i, (name, value) in enumerate(zip(VALUES, values, strict=True)):
            command += jnp.where(verb == i, _pick(_row(getattr(self, name), aircraft), value), 0.0)
        return _pick(self.aircraft, aircraft) + jnp.where(aircraft < self.verb.shape[-2], command, 0.0)

    def entropy(self):
        """Entropy of the joint distribution in nats, exact, (...,)."""
        return self._expected({name: _entropy(getattr(self, name)) for name in ("aircraft", "verb", *VALUES)})

    def kl(self, other: "Command"):
        """KL(self || other) of the joint distributions in nats, exact, (...,); both have the same mask."""
        names = ("aircraft", "verb", *VALUES)
        return self._expected({name: _kl(getattr(self, name), getattr(other, name)) for name in names})

    def _expected(self, parts: dict):
        """The sum of a choice's `parts`, each weighted by how likely it is to be made."""
        verb_p = jnp.exp(self.verb)
        per_aircraft = parts["verb"] + sum(verb_p[..., i] * parts[name] for i, name in enumerate(VALUES))
        return parts["aircraft"] + jnp.sum(jnp.exp(self.aircraft[..., :-1]) * per_aircraft, axis=-1)
