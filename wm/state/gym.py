"""The learned simulator for learners written for gymnasium: numpy in, numpy out.

    env = WorldModelEnv(airport="kabq")                      # one sector
    envs = WorldModelVectorEnv(256, airport="kabq")          # many, in one call of the compiled step
    envs = gymnasium.make_vec("wm:OpenScopeWM-v0", num_envs=256, airport="kabq")

Spaces, reward and episode are those of collect.env.OpenScopeEnv, so what acts here acts in the real
game. A learner in JAX should use the gymnax environment itself (wm.state.env): it runs inside the learner's
own compiled program, where every step here waits for a copy to the host. gymnax's own wrappers for
gymnasium know no MultiDiscrete, return JAX arrays, and start anew where gymnasium wants the last
observation. Letter: E environments.
"""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from gymnax.environments.spaces import gymnax_space_to_gym_space

from wm.sector import traffic as tr
from wm.state.env import OpenScopeWorldModel
from wm.state.make import make

KEYS = 2**31  # seeds of jax's keys that an episode draws from


class WorldModelEnv(gymnasium.Env):
    """One sector of the learned simulator; a step is one decision of 5 s.

    `info`: reward_terms, metrics, potential [2] and disagreement, as wm.state.env gives them. A sector that
    has ended has to be reset. `state` holds the gymnax state.

    Args:
      model: a gymnax environment to play; None makes one.
      options: as wm.state.make.make takes them (checkpoint, airport, sample, fields of EnvParams).

    Raises CheckpointError where no such model can be loaded.
    """

    metadata = {"render_modes": [], "render_fps": 1 / tr.STEP_S}  # noqa: RUF012

    def __init__(self, model: OpenScopeWorldModel | None = None, **options):
        self.model = _made(model, options)
        self.params = self.model.default_params
        self.action_space = self.model.action_space().to_gymnasium()
        self.observation_space = gymnax_space_to_gym_space(self.model.observation_space(self.params))
        self._reset, self._step = jax.jit(_drawing(self.model.reset)), jax.jit(self._advance)
        self.state = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode from a recorded state; everything random in it follows from `seed`."""
        super().reset(seed=seed)
        key = jax.random.key(int(self.np_random.integers(KEYS)))
        self._key, observation, self.state = self._reset(key, self.params)
        return _numpy(observation), {}

    def step(self, action):
        """Command `action [5]`, let 5 s pass.

        Raises ValueError for an action outside the action space, ResetNeeded after the episode's end.
        """
        if self.state is None:
            raise ResetNeeded("the sector has ended or never begun: call reset() before step()")
        action = _checked(action, self.action_space)
        self._key, state, observation, reward, terminated, truncated, info = self._step(
            self._key, self.state, action, self.params
        )
        terminated, truncated = bool(terminated), bool(truncated)
        self.state = None if terminated or truncated else state
        info = jax.tree.map(lambda x: x.item() if x.ndim == 0 else x, _numpy(info))
        return _numpy(observation), float(reward), terminated, truncated, info

    def _advance(self, key, state, action, params):
        """gymnax's step without its automatic reset, which gymnasium leaves to the caller."""
        key, now = jax.random.split(key)
        observation, state, reward, terminated, info = self.model.step_env(now, state, action, params)
        return key, state, observation, reward, terminated, self.model.is_truncated(state, params), info


class WorldModelVectorEnv(gymnasium.vector.VectorEnv):
    """E sectors of the learned simulator, stepped together on jax's default device.

    A sector that ends starts again by itself, as `metadata["autoreset_mode"]` says. NEXT_STEP is gymnasium's
    own way, and the only one that its wrappers of observations take, such as FlattenObservation: the next
    step ignores the sector's action and returns its new start with reward 0. SAME_STEP: the same step returns
    the new start, and `final_obs` in `info` holds the last observation (an array of E, None for the others),
    `final_info` the step's info. The rest of `info` is that of WorldModelEnv with a leading E, each `key`
    with a mask `_key` of the sectors that made a step.

    E that is a multiple of four times the ensemble's members is fastest, see wm.state.network.

    Args:
      num_envs: E.
      autoreset_mode: AutoresetMode.NEXT_STEP or SAME_STEP, or their values "NextStep", "SameStep".
      model, options: as in WorldModelEnv.

    Raises ValueError for another mode or no environments, and as WorldModelEnv does.
    """

    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.NEXT_STEP,
        "render_modes": [],
        "render_fps": 1 / tr.STEP_S,
    }

    def __init__(
        self,
        num_envs: int,
        model: OpenScopeWorldModel | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options,
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}, must be at least 1")
        mode = AutoresetMode(autoreset_mode)
        if mode == AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode is Disabled, must be NextStep or SameStep")
        self.metadata = type(self).metadata | {"autoreset_mode": mode}
        self.num_envs, self.model = num_envs, _made(model, options)
        self.params = self.model.default_params
        self.single_action_space = self.model.action_space().to_gymnasium()
        self.single_observation_space = gymnax_space_to_gym_space(self.model.observation_space(self.params))
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._reset = jax.jit(_drawing(jax.vmap(self.model.reset, (0, None)), num_envs))
        same = mode == AutoresetMode.SAME_STEP
        self._step = jax.jit(self._restart_at_once if same else self._restart_at_next_step)
        self.state = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start every sector from a recorded state; everything random follows from `seed`."""
        super().reset(seed=seed)
        key = jax.random.key(int(self.np_random.integers(KEYS)))
        self._key, observation, self.state = self._reset(key, self.params)
        self._ended = np.zeros(self.num_envs, bool)
        return _numpy(observation), {}

    def step(self, actions):
        """Command `actions [E, 5]`, let 5 s pass everywhere. Raises as WorldModelEnv does."""
        if self.state is None:
            raise ResetNeeded("the sectors have never begun: call reset() before step()")
        actions = _checked(actions, self.single_action_space, self.num_envs)
        played = ~self._ended
        self._key, self.state, *result = self._step(self._key, self.state, self._ended, actions, self.params)
        observation, reward, terminated, truncated, info = _numpy(result)
        ended = terminated | truncated
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            self._ended = ended
            return observation, reward, terminated, truncated, _masked(info, played)
        final = info.pop("final_observation")
        del info["terminated"], info["truncated"]
        infos = _masked(info, played)
        if ended.any():
            last = np.full(self.num_envs, None, object)
            for e in np.flatnonzero(ended):
                last[e] = jax.tree.map(lambda x, e=e: x[e], final)
            infos |= {"final_obs": last, "_final_obs": ended}
            infos |= {"final_info": _masked(info, ended), "_final_info": ended.copy()}
        return observation, reward, terminated, truncated, infos

    def _restart_at_once(self, key, state, ended, actions, params):
        del ended  # nobody has: who ended has restarted
        key, now = jax.random.split(key)
        keys = jax.random.split(now, self.num_envs)
        observation, state, *rest = jax.vmap(self.model.step, (0, 0, 0, None))(keys, state, actions, params)
        return key, state, observation, *rest

    def _restart_at_next_step(self, key, state, ended, actions, params):
        """Every sector's step, or the new start of those that had `ended [E]`."""
        key, now, anew = jax.random.split(key, 3)
        keys, fresh = (jax.random.split(k, self.num_envs) for k in (now, anew))
        step = jax.vmap(self.model.step_env, (0, 0, 0, None))
        stepped, after, reward, terminated, info = step(keys, state, actions, params)
        started = jax.vmap(self.model.reset, (0, None))(fresh, params)
        truncated = jax.vmap(self.model.is_truncated, (0, None))(after, params)
        choose = jax.vmap(jnp.where)
        observation, state = jax.tree.map(
            lambda new, old: choose(ended, new, old), started, (stepped, after)
        )
        reward = jnp.where(ended, 0.0, reward)
        return key, state, observation, reward, terminated & ~ended, truncated & ~ended, info


def _made(model: OpenScopeWorldModel | None, options: dict[str, Any]) -> OpenScopeWorldModel:
    if model is None:
        return make(**options)
    if options:
        raise ValueError(f"{', '.join(options)} cannot change a model that is given: give one or the other")
    return model


def _drawing(reset, *count: int):
    """`reset` with a key of its own, or `count` keys, out of the key that it also moves on."""

    def drawn(key, params):
        key, now = jax.random.split(key)
        return key, *reset(jax.random.split(now, *count) if count else now, params)

    return drawn


def _checked(action, space: gymnasium.spaces.MultiDiscrete, *count: int) -> np.ndarray:
    """The action or actions as int32. Not Space.contains: it refuses integers of another width."""
    given, shape = np.asarray(action), (*count, *space.shape)
    whole = given.shape == shape and np.issubdtype(given.dtype, np.integer)
    if not whole or not np.all((given >= 0) & (given < space.nvec)):
        shown = " ".join(str(given).split())
        raise ValueError(f"action {shown:.60} must be integers {list(shape)} within {space}")
    return given.astype(np.int32)


def _numpy(tree):
    """Arrays of the host that the caller may write to."""
    return jax.tree.map(np.array, tree)


def _masked(info: dict, mask: np.ndarray) -> dict:
    """`info [E, ...]` as gymnasium wants it: beside each key the mask of the sectors that have it."""
    nested = {k: _masked(v, mask) if isinstance(v, dict) else v for k, v in info.items()}
    return nested | {f"_{k}": mask.copy() for k in info}
