"""The learned simulator as a gymnax environment: pure, jittable, one sector per environment.

`gymnax.make("OpenScopeWM-v0")` after `import wm.state.env`, or `make(checkpoint=...)`. Everything the
step needs travels in EnvParams (weights stacked `[M, ...]`, airports `[A, ...]`, spawn tables,
reset rows), so one compiled step serves any checkpoint of the same shapes.
Letters: A airports, B reset rows, M ensemble members, N aircraft, S streams.
"""

from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from wm.sector import airport as ap
from wm.sector import commands, observe, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.spaces import MultiDiscrete, Observation
from wm.sector.traffic import Scene
from wm.state import dynamics, features
from wm.state import spawn as sp

SLOTS = 32
HOUR_STEPS = round(3600.0 / tr.STEP_S)
NAME = "OpenScopeWM-v0"


@struct.dataclass
class ResetRows:
    """Recorded states to start from, with their observations; leaves `[B, ...]`."""

    scene: Scene
    airport_id: jax.Array
    next_id: jax.Array
    potential: jax.Array
    observation: Any


@struct.dataclass
class EnvParams(environment.EnvParams):
    """One unbatched struct; see the module docstring for the axes."""

    weights: Any = None
    hazard: Any = None
    airports: Airport = None
    legs: Any = None  # kinematics.restriction_legs of every airport
    spawns: sp.SpawnTable = None
    rows: ResetRows = None
    traffic_low: float = 1.0  # traffic rate, drawn uniformly at reset
    traffic_high: float = 1.0
    disagreement_limit: float = 2.0  # above 1 never truncates
    max_steps_in_episode: int = HOUR_STEPS


@struct.dataclass
class EnvState(environment.EnvState):
    """State of one sector; `time` counts the decisions since the episode's first frame."""

    scene: Scene
    ledger: reward.Ledger
    airport_id: jax.Array
    next_id: jax.Array
    member: jax.Array
    traffic_rate: jax.Array
    potential: jax.Array  # reward.potential of the scene
    disagreement: jax.Array  # of the last step, 0 where it was not probed


class OpenScopeWorldModel(environment.Environment[EnvState, EnvParams]):
    """openScope as learned from recordings; actions and observations as in the real game."""

    def __init__(self, params: EnvParams, sample: bool = True):
        """`sample` draws the network's outputs; False takes the most likely (for fidelity)."""
        self._params = params
        self._sample = sample

    @property
    def name(self) -> str:
        return NAME

    @property
    def default_params(self) -> EnvParams:
        return self._params

    def _airport(self, params: EnvParams, airport_id):
        """This sector's tables and restriction legs; a single airport needs no gather."""
        if params.airports.elevation_ft.shape[0] == 1:
            airport_id = 0
        return jax.tree.map(lambda x: x[airport_id], (params.airports, params.legs))

    def reset_env(self, key, params: EnvParams):
        """Start from a recorded state."""
        key_row, key_rate, key_member = jax.random.split(key, 3)
        index = jax.random.randint(key_row, (), 0, params.rows.airport_id.shape[0])
        row = jax.tree.map(lambda x: x[index], params.rows)
        rate = jax.random.uniform(
            key_rate, minval=params.traffic_low, maxval=params.traffic_high
        )
        members = jax.tree.leaves(params.weights)[0].shape[0]
        slots = row.scene.traffic.valid.shape[-1]
        state = EnvState(
            time=jnp.round(row.scene.time_s / tr.STEP_S).astype(jnp.int32),
            scene=row.scene,
            ledger=reward.empty_ledger(slots),
            airport_id=row.airport_id,
            next_id=row.next_id,
            member=jax.random.randint(key_member, (), 0, members),
            traffic_rate=rate,
            potential=row.potential,
            disagreement=jnp.zeros(()),
        )
        return self._apply_transition_gradient_policy(row.observation, state)

    def step_env(self, key, state: EnvState, action, params: EnvParams):
        """One decision: command, network, ten frames, reward, removals, spawns."""
        key_draw, key_spawn = jax.random.split(key)
        airport, legs = self._airport(params, state.airport_id)
        before = state.scene.traffic
        scene = state.scene.replace(traffic=commands.apply(before, action, airport))
        columns = features.dynamics_features(scene, legs, airport)
        stacked = features.stack_features(columns, jnp.bfloat16)
        outputs = dynamics.predict(params.weights, state.member, stacked)
        u = dynamics.probe_disagreement(
            params.weights, state.member, stacked, outputs, before.valid, state.time
        )

        decision = dynamics.decide(outputs, scene.traffic, key_draw if self._sample else None)
        after, sub, events, removed = dynamics.transition(scene, decision, legs, airport)
        remaining_s = (params.max_steps_in_episode - state.time - 1) * tr.STEP_S
        left = after.traffic.replace(valid=after.traffic.valid & ~removed)
        terms, metrics, ledger = reward.step_reward(
            state.ledger, before, left, sub, events, 0.0, remaining_s, airport
        )
        after = after.replace(traffic=sp.free_slots(after.traffic, removed))
        after, next_id, overflow = sp.spawn(
            after,
            params.hazard,
            params.spawns,
            state.airport_id,
            state.traffic_rate,
            state.next_id,
            key_spawn,
            airport,
        )
        new = state.replace(
            time=state.time + 1,
            scene=after,
            ledger=ledger,
            next_id=next_id,
            potential=reward.potential(after.traffic, airport),
            disagreement=u,
        )
        info = {
            "reward_terms": terms,
            "metrics": metrics | {"overflow": overflow.astype(jnp.float32)},
            "potential": jnp.stack([state.potential, new.potential]),
            "disagreement": u,
        }
        obs = observe.observe(after, airport)
        obs, new = self._apply_transition_gradient_policy(obs, new)
        return obs, new, sum(terms.values()), self.is_terminated(new, params), info

    def observe(self, key, state: EnvState, action, params: EnvParams):
        """The observation of a state; `key` and `action` do not matter."""
        airport, _ = self._airport(params, state.airport_id)
        return observe.observe(state.scene, airport)

    def is_terminated(self, state: EnvState, params: EnvParams):
        """A sector never ends by itself; time and disagreement truncate."""
        return jnp.zeros((), bool)

    def is_truncated(self, state: EnvState, params: EnvParams):
        """At the time limit, or where the ensemble does not know what happens next."""
        late = state.time >= params.max_steps_in_episode
        return late | (state.disagreement > params.disagreement_limit)

    def action_space(self, params: EnvParams | None = None) -> MultiDiscrete:
        """int32[5]: aircraft or no-op, verb, altitude level, heading change, speed level."""
        params = self._params if params is None else params
        return MultiDiscrete(commands.space_sizes(params.rows.scene.traffic.valid.shape[-1]))

    def observation_space(self, params: EnvParams) -> Observation:
        """See wm.sector.observe."""
        rows = params.rows.observation
        box = lambda x: spaces.Box(-jnp.inf, jnp.inf, x.shape[1:], jnp.float32)  # noqa: E731
        flag = lambda x: spaces.Box(0, 1, x.shape[1:], jnp.bool_)  # noqa: E731
        mask = Observation({k: flag(v) for k, v in rows["action_mask"].items()})
        return Observation(
            {
                "aircraft": box(rows["aircraft"]),
                "aircraft_mask": flag(rows["aircraft_mask"]),
                "global_state": box(rows["global_state"]),
                "action_mask": mask,
            }
        )


def build_rows(scenes: Scene, airport_id, airports: Airport) -> ResetRows:
    """Reset rows from recorded scenes `[B, ...]` (slots as in play) of airports `airport_id [B]`."""
    ids = jnp.asarray(airport_id, jnp.int32)

    def view(scene, i):
        place = ap.select(airports, i)
        return observe.observe(scene, place), reward.potential(scene.traffic, place)

    observation, potential = jax.jit(jax.vmap(view))(scenes, ids)
    return ResetRows(
        scene=scenes,
        airport_id=ids,
        next_id=jnp.max(scenes.traffic.id, -1).astype(jnp.int32) + 1,
        potential=potential,
        observation=observation,
    )


def make(checkpoint=None, airport=None, sample: bool = True, **overrides) -> OpenScopeWorldModel:
    """Build the environment from a world-model checkpoint; None loads the packaged one.

    `airport` (an ICAO code) keeps that airport alone; None starts at all it knows. `overrides`
    replace fields of EnvParams by name. Raises CheckpointError for a bad checkpoint, ValueError
    where no recorded state lies before the time limit.
    """
    from wm.state.bundle import load_bundle

    params = load_bundle(checkpoint, airport).replace(**overrides)
    return OpenScopeWorldModel(_before_the_limit(params), sample)


def _before_the_limit(params: EnvParams) -> EnvParams:
    """Without the reset rows that the time limit would truncate at once."""
    started = np.asarray(params.rows.scene.time_s) < params.max_steps_in_episode * tr.STEP_S
    if not started.any():
        raise ValueError(
            f"max_steps_in_episode is {params.max_steps_in_episode}, before every recorded state: raise it"
        )
    if started.all():
        return params
    return params.replace(rows=jax.tree.map(lambda leaf: leaf[np.flatnonzero(started)], params.rows))


if NAME not in gymnax.registered_envs:
    gymnax.register(NAME, make)
