"""Judging a controller: play it in a simulator, reduce an episode to counts, compare it with yardsticks.

The reduction is the same for the real game and the model: both hand over the reward's terms and metrics of
every decision and where each aircraft was. Letters: E episodes, T decisions, N aircraft (slots or columns).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rl import flown, losses
from rl.acting import Policy
from wm.sector import approach, commands, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import Traffic

WARM_UP_S = 1500.0  # a cold start's empty sky; rates leave it out
FLIGHT_POINTS = 10.0  # the game's award for a landing or a hand-off
TRACK_FIELDS = (*losses.TRACK_FIELDS, "approach_clearance")
NAMED_EVENTS = {
    "landed": "arrival",
    "hand_offs": "departure",
    "busts": "airspace_bust",
    "off_route": "not_cleared_on_route",
    "collisions": "collision",
}
COUNTS = ("arrivals_due", "landed_due", "departures_due", "loss_game", "loss_raw", "flight_hours")


class Trace(NamedTuple):
    """One episode: leaves `[T]`, those of `tracks` `[T + 1, N]` (state before each decision and at the end).

    A rollout's chunk has `[T, E]` and tracks `[T, E, N]` after each decision.
    """

    terms: dict[str, Any]  # points, unweighted
    metrics: dict[str, Any]  # counts, see wm.sector.reward.step_reward; "overflow" aircraft without a slot
    action: Any  # int32 [T, 5], names aircraft by slot or column of `tracks`
    command: Any  # bool, something other than a no-op
    illegal: Any  # bool, the mask forbade it
    tracks: dict[str, Any]


def tracks_of(traffic: Traffic, airport: Airport) -> dict[str, jax.Array]:
    """Columns `[..., N]` of a Trace's tracks.

    With each aircraft's unimpeded time from here on (s) and its distance to the threshold along its approach.
    """
    columns = {name: getattr(traffic, name) for name in TRACK_FIELDS}
    _, along_nm = approach.offset(traffic.x_nm, traffic.y_nm, approach.course(traffic, airport))
    return columns | {"unimpeded_s": reward.unimpeded_s(traffic, airport), "along_nm": along_nm}


class Rollout(NamedTuple):
    """start(env_params, keys [E]) -> (carry, tracks [E, N]).

    advance(env_params, params, carry) -> (carry, Trace of `steps` decisions).
    """

    start: Callable
    advance: Callable


def rollout(env, policy: Policy, look: Callable, steps: int) -> Rollout:
    """Play E episodes of a gymnax environment side by side, `steps` decisions a call, without resets.

    `look(env_params, state)` gives the tracks of a state. What is random in the environment follows from an
    episode's key alone, so that policies can be compared on equal episodes.
    """

    def start_one(env_params, key):
        key_reset, key_steps, key_init, key_act = jax.random.split(key, 4)
        observation, state = env.reset_env(key_reset, env_params)
        carry = (observation, state, policy.init(key_init), key_steps, key_act)
        return carry, look(env_params, state)

    def step_one(env_params, params, carry):
        observation, state, memory, key_steps, key_act = carry
        key_steps, key_step = jax.random.split(key_steps)
        key_act, key_now = jax.random.split(key_act)
        action, memory = policy.act(params, memory, observation, key_now)
        legal = commands.is_legal(action, observation["action_mask"])
        after, state, _, _, info = env.step_env(key_step, state, action, env_params)
        command = action[0] < observation["aircraft_mask"].shape[-1]
        tracks = look(env_params, state)
        trace = Trace(info["reward_terms"], info["metrics"], action, command, ~legal, tracks)
        return (after, state, memory, key_steps, key_act), trace

    def advance(env_params, params, carry):
        def body(carry, _):
            return jax.vmap(step_one, (None, None, 0))(env_params, params, carry)

        return jax.lax.scan(body, carry, length=steps)

    start = jax.jit(jax.vmap(start_one, (None, 0)))
    return Rollout(start, jax.jit(advance, donate_argnums=(2,)))


def episodes_of(first: dict, chunks: list[Trace]) -> list[Trace]:
    """The Traces of E episodes from the first tracks `[E, N]` and a rollout's chunks, as numpy."""
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    tracks = jax.tree.map(lambda a, rest: np.concatenate([a[None], rest]), first, joined.tracks)
    joined = joined._replace(tracks=tracks)
    return [jax.tree.map(lambda leaf, e=e: leaf[:, e], joined) for e in range(joined.command.shape[1])]


def summarise(trace: Trace, airport: Airport) -> dict[str, Any]:
    """An episode's counts as plain JSON; "steady" holds those after the warm-up, None in a short episode.

    Figures of the traffic are those of rl.losses.losses_of and rl.flown.figures_of.
    """
    terms = {name: float(np.sum(values, dtype=np.float64)) for name, values in trace.terms.items()}
    sums = {name: float(np.sum(values, dtype=np.float64)) for name, values in trace.metrics.items()}
    obeyed = trace.command & ~trace.illegal
    controlled = [flight for flight in flown.flights(trace.tracks) if flight["controllable"].any()]
    begin = round(WARM_UP_S / tr.STEP_S)
    steady = None
    if len(trace.command) > begin:
        names = {"collisions": "collision"} | {n: n for n in ("loss_game", "loss_raw", "flight_hours")}
        steady = {n: float(np.sum(trace.metrics[m][begin:])) for n, m in names.items()}
    return {
        "return": {"total": sum(terms.values()), **terms},
        **{name: sums[event] for name, event in NAMED_EVENTS.items()},
        **{name: sums[name] for name in COUNTS},
        "events": {name: sums[name.lower()] for name in tr.EVENT_NAMES},
        **losses.losses_of(trace.tracks, airport),
        **flown.figures_of(trace.tracks, trace.action, obeyed),
        "commands": int(np.sum(obeyed)),
        "illegal": int(np.sum(trace.illegal)),
        "aircraft": len(controlled),
        "overflow": int(np.max(trace.metrics["overflow"], initial=0)),
        "hours": len(trace.command) * tr.STEP_S / 3600.0,
        "steady": steady,
    }


def flawless(episode: dict[str, Any]) -> float:
    """Return of an episode in which every flight that had time to finish did, and nothing else happened."""
    return FLIGHT_POINTS * (episode["arrivals_due"] + episode["departures_due"])


def ratio(rows, axis: int = 0):
    """Sum of column 0 over sum of column 1 of `rows [..., n, 2]`, where n is at `axis`."""
    sums = np.sum(rows, axis=axis)
    return sums[..., 0] / sums[..., 1]


def score(rows) -> float:
    """(J - J_noop) / (J_expert - J_noop) of `rows [n, 3]`: J, J_noop, J_expert on the same seeds."""
    j, noop, expert = np.mean(rows, axis=0)
    return float((j - noop) / (expert - noop))


def headroom(rows) -> float:
    """(J - J_expert) / (J_flawless - J_expert) of `rows [n, 3]`: J, J_expert, J_flawless, same seeds."""
    j, expert, best = np.mean(rows, axis=0)
    return float((j - expert) / (best - expert))
