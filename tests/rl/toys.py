"""Tiny environments whose right answer is known by hand."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from rl.acting import Policy
from rl.networks import HEADS


@struct.dataclass
class ProbeState(environment.EnvState):
    seen: jax.Array
    time: int


@struct.dataclass
class ProbeParams(environment.EnvParams):
    """What one probe is; numbers alone, so that all probes share one program.

    The first observation is a coin's +1 or -1, or 0. A step's reward is the sum of `always`, of `by_seen`
    times the observation, of `at_end` in an episode's last step, of `by_action` times -1 or +1 for the
    action, and of `by_match` times +1 where the action names the sign of the observation, -1 elsewhere.
    """

    max_steps_in_episode: int = 1_000_000
    length: int = 1
    coin: bool = False
    change: float = 1.0
    always: float = 0.0
    by_seen: float = 0.0
    at_end: float = 0.0
    by_action: float = 0.0
    by_match: float = 0.0


class Probe(environment.Environment[ProbeState, ProbeParams]):
    """Two actions; the observation gains `change` each step; terminates after `length` steps."""

    @property
    def default_params(self):
        return ProbeParams()

    def reset_env(self, key, params):
        first = jnp.where(params.coin, jax.random.rademacher(key, (), jnp.float32), 0.0)
        state = ProbeState(seen=first, time=0)
        return state.seen[None], state

    def step_env(self, key, state, action, params):
        ended = state.time + 1 >= params.length
        matches = jnp.where((action == 1) == (state.seen > 0), 1.0, -1.0)
        reward = params.always + params.by_seen * state.seen + params.at_end * ended
        reward = jnp.asarray(reward + params.by_action * (2 * action - 1) + params.by_match * matches)
        state = ProbeState(seen=state.seen + params.change, time=state.time + 1)
        return state.seen[None], state, reward.astype(jnp.float32), ended, {}

    def observation_space(self, params):
        return spaces.Box(-10.0, 10.0, (1,))

    def action_space(self, params=None):
        return spaces.Discrete(2)


@struct.dataclass
class SectorState(environment.EnvState):
    aircraft: jax.Array  # (N, F)
    mask: jax.Array  # (N,)
    time: int


@struct.dataclass
class SectorParams(environment.EnvParams):
    max_steps_in_episode: int = 4


class Sector(environment.Environment[SectorState, SectorParams]):
    """The command task in small. Each step one present aircraft may be flagged, and asks for one command.

    Feature 0 is the flag, feature 1 says ILS rather than altitude level 8 (of the legal 2 and 8), the rest is
    noise. Right: +1 point. A wrong command: -1. No-op: 0. Time limits cut episodes, nothing terminates them.
    """

    def __init__(self, n: int = 3, features: int = 4, globals_: int = 2):
        super().__init__()
        self.n, self.features, self.globals = n, features, globals_

    @property
    def default_params(self):
        return SectorParams()

    def reset_env(self, key, params):
        state = self._draw(key, 0)
        return self._observe(state), state

    def _draw(self, key, time):
        key_noise, key_mask, key_flag, key_kind = jax.random.split(key, 4)
        aircraft = jax.random.normal(key_noise, (self.n, self.features))
        mask = jax.random.bernoulli(key_mask, 0.7, (self.n,))
        flagged = jax.random.randint(key_flag, (), 0, self.n)
        flag = (jnp.arange(self.n) == flagged) & mask
        kind = jax.random.bernoulli(key_kind, 0.5, (self.n,))
        aircraft = aircraft.at[:, 0].set(flag).at[:, 1].set(kind)
        return SectorState(aircraft=aircraft, mask=mask, time=time)

    def _observe(self, state):
        legal = {name: jnp.ones((self.n, size), bool) for name, size in HEADS.items()}
        legal["verb"] = jnp.zeros((self.n, 5), bool).at[:, jnp.array([0, 3])].set(True)
        legal["altitude"] = jnp.zeros((self.n, 9), bool).at[:, jnp.array([2, 8])].set(True)
        legal["aircraft"] = jnp.append(state.mask, True)
        return {
            "aircraft": state.aircraft,
            "aircraft_mask": state.mask,
            "global_state": jnp.ones(self.globals),
            "action_mask": legal,
        }

    def step_env(self, key, state, action, params):
        right = (action == wanted(state.aircraft)).all()
        commanded = action[0] < self.n
        points = jnp.where(commanded, jnp.where(right, 1.0, -1.0), 0.0)
        state = self._draw(key, state.time + 1)
        info = {
            "reward_terms": {"score": jnp.maximum(points, 0), "loss": jnp.minimum(points, 0)},
            "potential": jnp.zeros(2),
        }
        return self._observe(state), state, points, jnp.zeros((), bool), info

    def observation_space(self, params):
        return spaces.Dict({"aircraft": spaces.Box(-10.0, 10.0, (self.n, self.features))})

    def action_space(self, params=None):
        return CommandSpace(self.n)


class CommandSpace(spaces.Space):
    def __init__(self, n: int):
        self.sizes = jnp.array([n + 1, *HEADS.values()])

    def sample(self, key):
        return jax.random.randint(key, (5,), 0, self.sizes)


def wanted(aircraft: jax.Array) -> jax.Array:
    """The right action for features (N, F): the flagged aircraft's command, or no-op if none is flagged."""
    n = aircraft.shape[0]
    flagged = jnp.argmax(aircraft[:, 0])
    ils = aircraft[flagged, 1] > 0.5
    command = jnp.where(ils, jnp.array([0, 3, 0, 0, 0]), jnp.array([0, 0, 8, 0, 0])).at[0].set(flagged)
    return jnp.where(aircraft[flagged, 0] > 0.5, command, jnp.array([n, 0, 0, 0, 0])).astype(jnp.int32)


def _wanted_of(params, carry, observation, key):
    return wanted(observation["aircraft"]), carry


SECTOR_EXPERT = Policy(init=lambda key: (), act=_wanted_of)
