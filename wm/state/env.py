"""The learned simulator as a gymnax environment: pure, jittable, one sector per environment.

`import wm`, then `gymnax.make("OpenScopeWM-v0")`. Everything that a step needs travels in EnvParams, so one
compiled step serves any checkpoint of the same shapes.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from wm import NAME
from wm.sector import airport as ap
from wm.sector import commands, observe, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.spaces import MultiDiscrete, Observation
from wm.state import features, network, play, rules, transition
from wm.state import spawn as sp
from wm.state.params import EnvParams, EnvState

Dynamics = Literal["learned", "rules"]


class OpenScopeWorldModel(environment.Environment[EnvState, EnvParams]):
    """openScope as learned from recordings; actions and observations as in the real game."""

    def __init__(self, params: EnvParams, sample: bool = True, dynamics: Dynamics = "learned"):
        """`sample` draws the network's outputs; False takes the most likely (for fidelity).

        `dynamics` "rules" moves aircraft by wm.state.rules instead of the network. Raises ValueError for
        others.
        """
        if dynamics not in get_args(Dynamics):
            raise ValueError(f"dynamics is {dynamics!r}, must be one of {', '.join(get_args(Dynamics))}")
        self._params = params
        self._sample = sample
        self._dynamics = dynamics

    @property
    def name(self) -> str:
        return NAME

    @property
    def default_params(self) -> EnvParams:
        return self._params

    def _airport(self, params: EnvParams, airport_id) -> Airport:
        """This sector's tables; a single airport needs no gather."""
        single = params.airports.elevation_ft.shape[0] == 1
        return ap.select(params.airports, 0 if single else airport_id)

    def reset_env(self, key, params: EnvParams):
        """Start from a recorded state."""
        key_row, key_rate, key_member = jax.random.split(key, 3)
        index = jax.random.randint(key_row, (), 0, params.rows.airport_id.shape[0], jnp.int32)
        row = jax.tree.map(lambda x: x[index], params.rows)
        rate = row.traffic_rate * jax.random.uniform(
            key_rate, dtype=jnp.float32, minval=params.traffic_low, maxval=params.traffic_high
        )
        members = jax.tree.leaves(params.weights)[0].shape[0]
        slots = row.scene.traffic.valid.shape[-1]
        state = EnvState(
            time=jnp.round(row.scene.time_s / tr.STEP_S).astype(jnp.int32),
            scene=row.scene,
            ledger=reward.empty_ledger(slots),
            airport_id=row.airport_id,
            next_id=row.next_id,
            member=jax.random.randint(key_member, (), 0, members, jnp.int32),
            traffic_rate=rate,
            potential=row.potential,
            disagreement=jnp.zeros((), jnp.float32),
        )
        return self._apply_transition_gradient_policy(row.observation, state)

    def step_env(self, key, state: EnvState, action, params: EnvParams):
        """One decision: command, network, ten frames, reward, removals, spawns."""
        key_draw, key_spawn = jax.random.split(key)
        airport = self._airport(params, state.airport_id)
        before = state.scene.traffic
        scene = state.scene.replace(traffic=commands.apply(before, action, airport))
        if self._dynamics == "rules":
            (after, sub, events, removed), u = rules.step(scene, airport), jnp.zeros((), jnp.float32)
        else:
            (after, sub, events, removed), u = self._learned(params, state, scene, airport, key_draw)
        remaining_s = (params.max_steps_in_episode - state.time - 1) * tr.STEP_S
        left = after.traffic.replace(valid=after.traffic.valid & ~removed)
        terms, metrics, ledger = reward.step_reward(
            state.ledger, before, left, sub, events, 0.0, remaining_s, airport
        )
        after = after.replace(traffic=sp.free_slots(after.traffic, removed))
        after, next_id, overflow = sp.spawn(
            after,
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

    def _learned(self, params: EnvParams, state: EnvState, scene, airport: Airport, key):
        """What the network makes of a scene `[N]`: (what `transition` returns, disagreement)."""
        columns = features.dynamics_features(scene, airport)
        stacked = features.stack_features(columns, jnp.bfloat16)
        uniform = network.uniforms(key, scene.traffic.valid.shape) if self._sample else None
        drawn, u = play.play(
            params.weights, state.member, stacked, scene.traffic.valid, state.time, uniform
        )
        decision = transition.decision_of(drawn, scene.traffic)
        return transition.transition(scene, decision, airport), u

    def observe(self, key, state: EnvState, action, params: EnvParams):
        """The observation of a state; `key` and `action` do not matter."""
        airport = self._airport(params, state.airport_id)
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
