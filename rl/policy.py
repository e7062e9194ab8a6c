"""Trained controllers as policies (rl.acting): made from a network, described, loaded.

The parameters hold the network's weights and the normaliser, so one needs nothing but an observation.
"""

from collections.abc import Callable
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from configs.ppo import NetworkConfig
from rl.acting import Policy
from rl.advice import advise
from rl.networks import OUTPUTS, AdvisedNetwork, MLPNetwork, for_sectors
from rl.normalize import Stats, init_observation, normalise
from rl.sequence import remember
from wm.sector.observe import FEATURES, GLOBAL_FEATURES
from wm.store import checkpoints
from wm.store.checkpoints import CheckpointError

# The columns that a controller reads and writes. Their order is part of what it has learned.
NAMES = {
    "aircraft feature": list(FEATURES),
    "global feature": list(GLOBAL_FEATURES),
    "output": list(OUTPUTS),
}
SHIPPED = Path(__file__).parent / "data" / "default"  # the controller that comes with the project
SECTOR_COUNTS = {what: len(NAMES[what]) for what in ("aircraft feature", "global feature")}


@struct.dataclass
class PolicyParams:
    """Parameters of a trained policy."""

    network: Any  # flax variables
    normalizer: dict[str, Stats]  # by part of the observation


def init_params(network: nn.Module, key: jax.Array, observation) -> PolicyParams:
    """Fresh parameters for an observation, or its ShapeDtypeStructs, without batch dimensions."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), observation)
    return PolicyParams(network=network.init(key, zeros), normalizer=init_observation(zeros))


def distribution_and_value(network: nn.Module, params: PolicyParams, observation):
    """Action distribution and value of raw observations with any leading batch dimensions."""
    seen, _ = normalise(params.normalizer, observation, network.config.dtype)
    return network.apply(params.network, seen)


def as_policy(network: nn.Module, greedy: bool = True, slots: int | None = None) -> Policy:
    """The policy of a network; `greedy` plays the most likely action, not a sample.

    It has no memory, but for an advised one in a sector of `slots` aircraft: that of the expert.
    """
    advised = isinstance(network, AdvisedNetwork)

    def act(params: PolicyParams, carry, observation, key):
        if advised:
            observation, carry = advise(carry, observation)
        distribution, _ = distribution_and_value(network, params, observation)
        return (distribution.mode() if greedy else distribution.sample(key)), carry

    return Policy(init=lambda key: remember(slots) if advised else (), act=act)


def describe(network: nn.Module, observation) -> dict:
    """Plain JSON from which `load_policy` rebuilds a network for this observation (or its ShapeDtypeStructs).

    "names" has the columns of input and output in their order; it is None where the observation is not a
    sector's, whose columns have no names.
    """
    return {
        "network": asdict(network.config),
        "choices": getattr(network, "choices", None),
        "observation": jax.tree.map(
            lambda leaf: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}, observation
        ),
        "names": NAMES if _counts(observation) == SECTOR_COUNTS else None,
    }


def _counts(observation) -> dict[str, int]:
    """Number of columns by the key of NAMES; empty for a flat observation."""
    if not isinstance(observation, dict):
        return {}
    return {"aircraft feature": observation["aircraft"].shape[-1],
            "global feature": observation["global_state"].shape[-1]}  # fmt: skip


def load_policy(
    directory: Path | str, step: int | None = None, greedy: bool = True, slots: int | None = None
) -> tuple[Policy, PolicyParams]:
    """The policy of a training run's `policy` folder, the newest unless `step` says otherwise.

    `slots` aircraft have a place in what it remembers; as many as where it was trained if left out.

    Raises CheckpointError as `load_network` does, and when its arrays have changed.
    """
    network, shapes = load_network(directory, step)
    abstract = jax.eval_shape(lambda key: init_params(network, key, shapes), jax.random.key(0))
    if slots is None and isinstance(network, AdvisedNetwork):
        slots = shapes["aircraft_mask"].shape[-1]
    return as_policy(network, greedy, slots), checkpoints.restore(directory, abstract, step)


def load_controller(name_or_folder: Path | str | None = None) -> Callable[[dict], jax.Array]:
    """A saved controller as one function of a sector's observation `[...]`; see rl.load.

    Raises CheckpointError as `load_policy` does, and for a controller of something other than sectors or
    with a memory.
    """
    folder = SHIPPED if name_or_folder in (None, "shipped") else folder_of(name_or_folder)
    if _counts(load_network(folder)[1]) != SECTOR_COUNTS:
        raise CheckpointError(f"{folder} holds another environment's controller, not one of openScope's")
    policy, params = load_policy(folder)
    if jax.tree.leaves(policy.init(jax.random.key(0))):
        raise CheckpointError(f"{folder} holds a controller with a memory: use rl.policy.load_policy")
    act = jax.jit(lambda params, seen: policy.act(params, (), seen, None)[0])  # no memory, nothing is drawn
    return jax.tree_util.Partial(act, params)


def folder_of(run: Path | str) -> Path:
    """The policy folder of a training run; a folder without one is taken to be it."""
    policy = Path(run) / "policy"
    return policy if policy.is_dir() else Path(run)


def load_network(directory: Path | str, step: int | None = None) -> tuple[nn.Module, Any]:
    """The network of a saved controller and the ShapeDtypeStructs of its observation, without its parameters.

    Raises CheckpointError when there is none, when it is not a controller's, or when its columns are not
    those of this program. Of one made before columns had names their number is compared.
    """
    config = checkpoints.load_config(directory, step)
    try:
        size, choices = NetworkConfig(**config["network"]), config["choices"]
        shapes = jax.tree.map(
            checkpoints.abstract_leaf,
            config["observation"],
            is_leaf=lambda node: "shape" in node,
        )
        difference = _difference(config, shapes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        kind = f" but a {config['kind']}" if "kind" in config else ""
        raise CheckpointError(
            f"{directory} holds no controller{kind}; name the policy folder of a training run"
        ) from error
    if difference:
        raise CheckpointError(f"{directory}: {difference}; use the version that trained it, or train again")
    return for_sectors(shapes, size) if choices is None else MLPNetwork(size, choices), shapes


def _difference(config: dict, shapes) -> str | None:
    """How the columns of a saved controller differ from this program's, or None."""
    saved, counts = config.get("names"), _counts(shapes)
    if "names" not in config and counts:
        for what, count in counts.items():
            if count != SECTOR_COUNTS[what]:
                return f"it has {count} columns called {what}, this program has {SECTOR_COUNTS[what]}"
    for what, own in NAMES.items() if saved else ():
        for i, (a, b) in enumerate(zip_longest(saved.get(what, ()), own)):
            if a != b:
                return f"{what} {i} is {a or 'missing'} there, and {b or 'missing'} in this program"
    return None
