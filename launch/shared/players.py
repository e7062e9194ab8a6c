"""Policies as players: a name or a trained policy's folder becomes an object that plays the real game.

A player has `reset(seed)` and is called with an observation; collect.record and the evaluation use it.
"""

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.shared import sources
from rl import scripted
from rl.dangerous import DangerousParams, dangerous
from rl.expert import ExpertParams, expert
from rl.policy import Policy, load_policy
from wm.store import checkpoints
from wm.store.provenance import ROOT

SHIPPED = ROOT / "rl" / "data" / "default"  # the controller that comes with the project
RANDOM_NOOP_SHARE = 0.5  # of the decisions in recordings: commands every 10 s in the mean
PERTURBED_EPSILON = 0.1
TRAINED = "policy"  # what figures call a trained policy


class Scripted(NamedTuple):
    """How a scripted policy is made, and the modules that hold it."""

    make: Callable[[int], tuple[Policy, Any]]  # from the number of slots
    modules: tuple[str, ...]


def _perturbed(slots: int):
    params = scripted.PerturbedParams(inner=ExpertParams(), epsilon=PERTURBED_EPSILON)
    return scripted.perturbed(expert(slots)), params


SCRIPTED = {
    "noop": Scripted(lambda slots: (scripted.noop(), ()), ("rl.scripted",)),
    "random": Scripted(
        lambda slots: (scripted.random_legal(), scripted.RandomParams(noop_share=RANDOM_NOOP_SHARE)),
        ("rl.scripted",),
    ),
    "expert": Scripted(lambda slots: (expert(slots), ExpertParams()), ("rl.expert",)),
    "perturbed": Scripted(_perturbed, ("rl.scripted", "rl.expert")),
    "dangerous": Scripted(
        lambda slots: (dangerous(expert(slots)), DangerousParams(inner=ExpertParams())),
        ("rl.dangerous", "rl.expert"),
    ),
}


class Player:
    """A pure `policy` with its `params` and its place in an episode.

    Attributes:
      name: what figures call it.
      hash: tells parameters apart.
      digest: tells players apart: parameters, size of a network, and all code that the policy runs.
    """

    def __init__(self, name: str, policy: Policy, params: Any, modules: tuple[str, ...], about: str = ""):
        self.name, self.policy, self.params = name, policy, params
        self.hash = _hash(params)
        self._modules, self._about = modules, about

        @jax.jit
        def act(params, memory, observation, key):
            key, now = jax.random.split(key)
            action, memory = policy.act(params, memory, observation, now)
            return action, memory, key

        self._act = act

    @cached_property
    def digest(self) -> str:
        parts = (self._about, self.hash, sources.digest(*self._modules))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def reset(self, seed: int) -> None:
        """Start an episode; everything random in it follows from `seed`."""
        self._key, key = jax.random.split(jax.random.key(seed))
        self._memory = self.policy.init(key)

    def __call__(self, observation: dict) -> np.ndarray:
        """The action `int32[5]` for an observation `{name: array}`, unbatched."""
        action, self._memory, self._key = self._act(self.params, self._memory, observation, self._key)
        return np.asarray(action)


def make(given: str, slots: int) -> Player:
    """The player of a scripted policy, of the shipped controller, or of a training run's or policy's folder.

    Raises ValueError for a name that is none of them; CheckpointError for a damaged folder.
    """
    if given in SCRIPTED:
        chosen = SCRIPTED[given]
        return Player(given, *chosen.make(slots), chosen.modules, given)
    folder = folder_of(given)
    policy, params = load_policy(folder)
    about = json.dumps(checkpoints.load_config(folder), sort_keys=True)
    return Player("shipped" if given == "shipped" else TRAINED, policy, params, ("rl.policy",), about)


def folder_of(given: str) -> Path:
    """The folder of a trained policy: the shipped one, or that of a training run or of its policy.

    Raises ValueError where there is no such folder.
    """
    folder = SHIPPED if given == "shipped" else Path(given)
    if not folder.is_dir():
        known = ", ".join((*SCRIPTED, "shipped"))
        raise ValueError(f"policy {given!r} must be one of {known} or a trained policy's folder")
    return folder / "policy" if (folder / "policy").is_dir() else folder


def _hash(params: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(jnp.asarray(leaf, jnp.float32)).tobytes())
    return digest.hexdigest()[:16]
