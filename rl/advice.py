"""A controller that corrects the expert: the expert's prices become a part of what it sees.

`Advised` adds to an environment's observation what every command would save by the expert's prices.
rl.networks.AdvisedNetwork begins as the expert and learns where another command is better, so PPO starts from
the expert's return instead of a clone's. The expert remembers when each arrival is due, which the observation
of the game does not hold: this memory is what a clone lacks.
Source: residual policy learning, Silver et al. 2018, arXiv 1812.06298. Letters: N aircraft, C candidates.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from rl.arrivals import ExpertParams
from rl.expert import savings
from rl.lookahead import CANDIDATES
from rl.sequence import Memory, remember
from wm.sector.spaces import Observation

ADVICE = "advice"  # the observation's part, [N, C]
ILLEGAL = -1e4  # points, in place of minus infinity, which no network can read


def advise(memory: Memory, observation: dict) -> tuple[dict, Memory]:
    """The observation with the expert's savings `[N, C]` in points, and the expert's memory after it."""
    saving, memory = savings(ExpertParams(), memory, observation)
    return {**observation, ADVICE: jnp.maximum(saving, ILLEGAL)}, memory


@struct.dataclass
class AdvisedState:
    """An environment's state and what the expert remembers of the episode."""

    sector: Any
    memory: Memory


class Advised(environment.Environment):
    """A sector's gymnax environment whose observation holds the expert's advice."""

    def __init__(self, env: environment.Environment):
        self._env = env

    @property
    def name(self) -> str:
        return f"Advised{self._env.name}"

    @property
    def default_params(self):
        return self._env.default_params

    def reset(self, key, params=None):
        """As the environment's own, the expert remembering nothing."""
        observation, sector = self._env.reset(key, params)
        observation, memory = advise(_fresh(observation), observation)
        return observation, AdvisedState(sector, memory)

    def step(self, key, state: AdvisedState, action, params=None):
        """As the environment's own. The last observation of an episode comes without advice, all zeros:
        only its value is asked for, and the critic does not look at advice."""
        observation, sector, *rest, info = self._env.step(key, state.sector, action, params)
        ended = info["terminated"] | info["truncated"]
        memory = jax.tree.map(lambda new, old: jnp.where(ended, new, old), _fresh(observation), state.memory)
        observation, memory = advise(memory, observation)
        last = {**info["final_observation"], ADVICE: jnp.zeros_like(observation[ADVICE])}
        return observation, AdvisedState(sector, memory), *rest, {**info, "final_observation": last}

    def action_space(self, params=None):
        return self._env.action_space(params)

    def observation_space(self, params) -> Observation:
        """The environment's own and "advice", float32 `[N, C]` in points."""
        own = self._env.observation_space(params).spaces
        shape = (own["aircraft_mask"].shape[0], CANDIDATES)
        return Observation({**own, ADVICE: spaces.Box(-jnp.inf, jnp.inf, shape, jnp.float32)})


def _fresh(observation: dict) -> Memory:
    return remember(observation["aircraft_mask"].shape[-1])
