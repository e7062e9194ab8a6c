"""Policies as players of the real game: a name or a trained policy's folder becomes an object that acts.

A player has `reset(seed)` and is called with an observation; collect.record and the evaluation use it.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rl import scripted
from rl.dangerous import DangerousParams, dangerous
from rl.expert import ExpertParams, expert
from rl.policy import Policy, load_policy

SCRIPTED = ("noop", "random", "expert", "perturbed", "dangerous")
RANDOM_NOOP_SHARE = 0.5  # of the decisions in recordings: commands every 10 s in the mean
PERTURBED_EPSILON = 0.1


class Player:
    """A pure `policy` with its `params` and its place in an episode; `hash` tells parameters apart."""

    def __init__(self, name: str, policy: Policy, params: Any):
        self.name, self.policy, self.params = name, policy, params
        self.hash = _hash(params)

        @jax.jit
        def act(params, carry, observation, key):
            key, now = jax.random.split(key)
            action, carry = policy.act(params, carry, observation, now)
            return action, carry, key

        self._act = act

    def reset(self, seed: int) -> None:
        """Start an episode; everything random in it follows from `seed`."""
        self._key, key = jax.random.split(jax.random.key(seed))
        self._carry = self.policy.init(key)

    def __call__(self, observation: dict) -> np.ndarray:
        """The action `int32[5]` for an observation `{name: array}`, unbatched."""
        action, self._carry, self._key = self._act(self.params, self._carry, observation, self._key)
        return np.asarray(action)


def make(name: str, slots: int) -> Player:
    """The player of a scripted policy (noop, random, expert, perturbed, dangerous) or of a policy folder.

    Raises ValueError for a name that is neither; CheckpointError for a damaged folder.
    """
    if name == "noop":
        return Player(name, scripted.noop(), ())
    if name == "random":
        params = scripted.RandomParams(noop_share=RANDOM_NOOP_SHARE)
        return Player(name, scripted.random_legal(), params)
    if name == "expert":
        return Player(name, expert(slots), ExpertParams())
    if name == "perturbed":
        params = scripted.PerturbedParams(inner=ExpertParams(), epsilon=PERTURBED_EPSILON)
        return Player(name, scripted.perturbed(expert(slots)), params)
    if name == "dangerous":
        params = DangerousParams(inner=ExpertParams())
        return Player(name, dangerous(expert(slots)), params)
    if not Path(name).is_dir():
        raise ValueError(f"policy {name!r} must be one of {', '.join(SCRIPTED)} or a trained policy's folder")
    policy, params = load_policy(name)
    return Player(name, policy, params)


def _hash(params: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(jnp.asarray(leaf, jnp.float32)).tobytes())
    return digest.hexdigest()[:16]
