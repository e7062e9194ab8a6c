"""What a learner passes from step to step and from update to update, for PPO and cloning alike.

Shapes: T time (rollout length), E environments of one device, B = T * E samples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from flax import struct

from rl.normalize import Stats
from rl.policy import PolicyParams


@struct.dataclass
class TrainState:
    """What is learned; the same on every device."""

    policy: PolicyParams
    optimizer: optax.OptState
    returns: Stats  # of discounted returns, (1,); rewards are divided by their deviation
    updates: jax.Array  # int32 ()
    start: Any = None  # the network's parameters that PPO started from, where leaving them has a price


@struct.dataclass
class Carry:
    """What each environment takes from update to update; every leaf leads with E."""

    env_state: Any
    observation: Any
    keys: jax.Array  # (E,) a random stream for each environment, the same on whatever device it is
    memory: Any  # of who plays; empty for the network itself
    discounted: jax.Array  # (E,) discounted sum of the rewards so far
    episode: dict[str, jax.Array]  # (E,) sums of the running episode


@struct.dataclass
class Transition:
    """One step of every environment, leaves (T, E, ...).

    `observation` is normalised and in the trunk's dtype: in bfloat16 the largest array of a run takes half
    the memory. The network's first operation is this cast, so acting and learning see the same bits. Masks
    are bool.
    """

    observation: Any
    action: Any
    log_prob: jax.Array
    value: jax.Array
    final_value: jax.Array  # of the last observation of an episode, where `truncated`; else zero
    reward: jax.Array  # shaped and scaled
    terminated: jax.Array
    truncated: jax.Array  # and not terminated


@struct.dataclass
class Sample:
    """What the loss needs of one transition, leaves (B, ...)."""

    observation: Any
    action: Any
    log_prob: jax.Array
    advantage: jax.Array
    target: jax.Array


class Behaviour(NamedTuple):
    """Which action is played and which is learned, in one environment; callers vmap.

    init(key) -> memory. act(distribution, observation, memory, key) -> (played, learned, memory):
    `distribution` is the network's, `learned` the action that the loss will see.
    """

    init: Callable
    act: Callable


def _play_own_sample(distribution, observation, memory, key):
    action = distribution.sample(key)
    return action, action, memory


OWN_SAMPLE = Behaviour(init=lambda key: (), act=_play_own_sample)


class Lesson(NamedTuple):
    """What one update learns and how: all that PPO and cloning differ in.

    loss(network's parameters, Sample) -> (scalar, metrics).
    """

    behaviour: Behaviour
    loss: Callable
    optimizer: optax.GradientTransformation
    epochs: int
