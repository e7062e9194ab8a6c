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
from rl import policy as saved
from rl import scripted
from rl.acting import Policy
from rl.dangerous import DangerousParams, dangerous
from rl.expert import ExpertParams, expert
from rl.policy import SHIPPED
from wm.store import checkpoints

RANDOM_NOOP_SHARE = 0.5  # of the decisions in recordings: commands every 10 s in the mean
PERTURBED_EPSILON = 0.1
SLOTS_AT_ONCE = 8  # a policy is compiled for every multiple of it that comes into use
TRAINED, TUNED = "policy", "tuned"  # what figures call a trained policy, and the expert with other prices
PRICES = "prices.json"  # of launch.tune_expert


class Scripted(NamedTuple):
    """How a scripted policy is made, and the modules that hold it."""

    make: Callable[..., tuple[Policy, Any]]  # from the number of slots, and a share where it takes one
    modules: tuple[str, ...]
    takes_share: bool = False  # NAME:SHARE sets how often it is wrong (perturbed, dangerous) or idle (random)


def _perturbed(slots: int, epsilon: float = PERTURBED_EPSILON):
    params = scripted.PerturbedParams(inner=ExpertParams(), epsilon=epsilon)
    return scripted.perturbed(expert(slots)), params


def _dangerous(slots: int, epsilon: float = DangerousParams.epsilon):
    return dangerous(expert(slots)), DangerousParams(inner=ExpertParams(), epsilon=epsilon)


def _random(slots: int, noop_share: float = RANDOM_NOOP_SHARE):
    return scripted.random_legal(), scripted.RandomParams(noop_share=noop_share)


SCRIPTED = {
    "noop": Scripted(lambda slots: (scripted.noop(), ()), ("rl.scripted",)),
    "random": Scripted(_random, ("rl.scripted",), takes_share=True),
    "expert": Scripted(lambda slots: (expert(slots), ExpertParams()), ("rl.expert",)),
    "perturbed": Scripted(_perturbed, ("rl.scripted", "rl.expert"), takes_share=True),
    "dangerous": Scripted(_dangerous, ("rl.dangerous", "rl.expert"), takes_share=True),
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


class SlotwisePlayer(Player):
    """A player of a policy that works with any number of slots, and is asked about no more than are in use.

    The expert compares every command of every aircraft with every other aircraft: a dozen of them make a
    quarter of the pairs that 32 slots have. Leaves of its memory are scalars or have an entry for every slot.
    """

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._memory = self._fresh = jax.tree.map(np.asarray, self._memory)

    def __call__(self, observation: dict) -> np.ndarray:
        there = np.asarray(observation["aircraft_mask"])
        slots, used = len(there), int(np.max(np.flatnonzero(there), initial=0)) + 1
        some = min(-(-used // SLOTS_AT_ONCE) * SLOTS_AT_ONCE, slots)
        memory = jax.tree.map(lambda m, f: _fitted(m, f, some), self._memory, self._fresh)
        action, memory, self._key = self._act(self.params, memory, first_slots(observation, some), self._key)
        self._memory = jax.tree.map(lambda m, f: _fitted(np.asarray(m), f, slots), memory, self._fresh)
        action = np.array(action)
        action[0] = slots if action[0] == some else action[0]
        return action


def _fitted(memory: np.ndarray, fresh: np.ndarray, slots: int) -> np.ndarray:
    """A leaf of memory cut to the first `slots`, or continued with fresh entries up to that number."""
    return np.concatenate([memory[:slots], fresh[len(memory) : slots]]) if memory.ndim else memory


def first_slots(observation: dict, some: int) -> dict:
    """What a policy of `some` slots would see: the first ones, and nobody in the others."""
    mask = {name: np.asarray(value)[:some] for name, value in observation["action_mask"].items()}
    mask["aircraft"] = np.append(mask["aircraft"], True)  # the no-op
    own = {name: np.asarray(observation[name])[:some] for name in ("aircraft", "aircraft_mask")}
    return {**own, "global_state": observation["global_state"], "action_mask": mask}


def make(given: str, slots: int) -> Player:
    """The player of a scripted policy, of the shipped controller, or of a training run's or policy's folder.

    `perturbed:0.4` is wrong in four decisions of ten; its figures are called perturbed_0_4.

    Raises ValueError for a name that is none of them; CheckpointError for a damaged folder.
    """
    name, colon, _ = given.partition(":")
    if name in SCRIPTED:
        chosen = SCRIPTED[name]
        shares = (_share(given, chosen),) if colon else ()
        figures = given.replace(":", "_").replace(".", "_")
        kind = SlotwisePlayer if "rl.expert" in chosen.modules else Player
        return kind(figures, *chosen.make(slots, *shares), chosen.modules, given)
    if (Path(given) / PRICES).is_file():
        return SlotwisePlayer(TUNED, expert(slots), _prices(Path(given) / PRICES), ("rl.expert",))
    folder = folder_of(given)
    policy, params = saved.load_policy(folder, slots=slots)
    about = json.dumps(checkpoints.load_config(folder), sort_keys=True)
    kind = SlotwisePlayer if jax.tree.leaves(policy.init(jax.random.key(0))) else Player
    return kind("shipped" if given == "shipped" else TRAINED, policy, params, ("rl.policy",), about)


def _prices(path: Path) -> ExpertParams:
    """The prices that launch.tune_expert wrote; raises ValueError where the file has others or none."""
    names = ExpertParams.__dataclass_fields__
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["prices"]
        if set(found) == set(names):
            return ExpertParams(**{name: float(found[name]) for name in names})
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f"{path} doesn't hold the prices of this program's expert: run launch.tune_expert")


def _share(given: str, chosen: Scripted) -> float:
    """The share in NAME:SHARE; raises ValueError where the policy takes none or it is none."""
    try:
        share = float(given.partition(":")[2])
    except ValueError:
        share = -1.0
    if not chosen.takes_share or not 0 <= share <= 1:
        shared = ", ".join(name for name, policy in SCRIPTED.items() if policy.takes_share)
        raise ValueError(f"policy {given!r}: a share, 0 to 1, can follow the colon after {shared} only")
    return share


def folder_of(given: str) -> Path:
    """The folder of a trained policy: the shipped one, or that of a training run or of its policy.

    Raises ValueError where there is no such folder.
    """
    folder = SHIPPED if given == "shipped" else Path(given)
    if not folder.is_dir():
        known = ", ".join((*SCRIPTED, "shipped"))
        raise ValueError(f"policy {given!r} must be one of {known} or a trained policy's folder")
    return saved.folder_of(folder)


def _hash(params: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(jnp.asarray(leaf, jnp.float32)).tobytes())
    return digest.hexdigest()[:16]
