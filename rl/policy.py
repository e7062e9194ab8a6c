"""A trained network as a policy: the pure functions `init(key) -> carry` and `act(params, carry, obs, key)`.

Its parameters hold the network's weights and the normaliser, so a policy needs nothing but an observation.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from configs.ppo import NetworkConfig
from rl.networks import MLPPolicy, SetPolicy
from rl.normalize import Stats, init_observation, normalise
from wm.store import checkpoints


@struct.dataclass
class PolicyParams:
    network: Any
    normalizer: dict[str, Stats]


class Policy(NamedTuple):
    """init(key) -> carry; act(params, carry, obs, key) -> (action, carry). Unbatched; callers vmap."""

    init: Callable
    act: Callable


def init_params(network: nn.Module, key: jax.Array, observation) -> PolicyParams:
    """Fresh parameters for an observation, or its ShapeDtypeStructs, without batch dimensions."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), observation)
    return PolicyParams(network=network.init(key, zeros), normalizer=init_observation(zeros))


def distribution_and_value(network: nn.Module, params: PolicyParams, observation):
    """Action distribution and value of raw observations with any leading batch dimensions."""
    seen, _ = normalise(params.normalizer, observation, network.config.dtype)
    return network.apply(params.network, seen)


def as_policy(network: nn.Module, greedy: bool = True) -> Policy:
    """The policy of a network, without memory; `greedy` plays the most likely action, not a sample."""

    def act(params: PolicyParams, carry, observation, key):
        distribution, _ = distribution_and_value(network, params, observation)
        return (distribution.mode() if greedy else distribution.sample(key)), carry

    return Policy(init=lambda key: (), act=act)


def describe(network: nn.Module, observation) -> dict:
    """Plain JSON from which `load_policy` rebuilds the network: configuration and observation shapes."""
    return {
        "network": asdict(network.config),
        "choices": getattr(network, "choices", None),
        "observation": jax.tree.map(
            lambda leaf: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}, observation
        ),
    }


def load_policy(
    directory: Path | str, step: int | None = None, greedy: bool = True
) -> tuple[Policy, PolicyParams]:
    """The policy of a training run's `policy` folder, the newest unless `step` says otherwise.

    Raises CheckpointError when there is none or its bytes have changed.
    """
    config = checkpoints.load_config(directory, step)
    size, choices = NetworkConfig(**config["network"]), config["choices"]
    network = SetPolicy(size) if choices is None else MLPPolicy(size, choices)
    is_leaf = lambda node: "shape" in node  # noqa: E731
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf["shape"], leaf["dtype"]),
        config["observation"],
        is_leaf=is_leaf,
    )
    abstract = jax.eval_shape(lambda key: init_params(network, key, shapes), jax.random.key(0))
    return as_policy(network, greedy), checkpoints.restore(directory, abstract, step)
