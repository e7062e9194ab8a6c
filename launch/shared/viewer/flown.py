"""What an episode is to the viewer: where everybody flew, what was said and what came of it.

Letters: T decisions, N columns of aircraft.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from collect.env import OpenScopeEnv
from rl.evaluate import Trace
from wm.sector import airport as ap
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.traffic import Scene, Traffic
from wm.state import features, network
from wm.state.params import EnvParams


@dataclasses.dataclass(frozen=True)
class Flown:
    """One episode. Only `airport` and `traffic` are needed; the rest is shown where there is any."""

    title: str
    icao: str
    airport: Airport
    traffic: Traffic  # numpy leaves [T + 1, N]
    callsigns: dict[int, str] = dataclasses.field(default_factory=dict)  # by aircraft id
    commands: list[tuple[int, int, str]] = dataclasses.field(default_factory=list)  # decision, id, text
    events: list[tuple[int, int, str]] = dataclasses.field(default_factory=list)  # id is -1 for nobody's
    terms: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # [T] points
    disagreement: np.ndarray | None = None  # [T + 1, N] see `disagreement`
    static: dict[str, Any] = dataclasses.field(default_factory=dict)  # the page's tables, for names
    routes: tuple[dict, ...] = ()
    begin_s: float = 0.0  # what the clock shows at the first decision


def of_recording(recording: Recording, first: int = 0, steps: int | None = None) -> Flown:
    """A recorded episode, or the `steps` decisions of it from `first` on."""
    last = len(recording.action) if steps is None else min(first + steps, len(recording.action))
    played, times = slice(first, last), slice(first, last + 1)
    about = f"{recording.policy}, seed {recording.seed}"
    ids = recording.scene.traffic.id
    texts = recording.command or [""] * len(recording.action)
    said = [(t, int(ids[t, recording.action[t, 0]]), texts[t]) for t in range(first, last) if texts[t]]
    rows = () if recording.raw_events is None else recording.raw_events[played]
    return Flown(
        title=f"{recording.icao.upper()} real game, {about}",
        icao=recording.icao,
        airport=ap.from_static(recording.static, recording.routes),
        traffic=jax.tree.map(lambda leaf: np.asarray(leaf[times]), recording.scene.traffic),
        callsigns=recording.callsigns or {},
        commands=[(t - first, who, text) for t, who, text in said],
        events=events_of(rows),
        terms={name: values[played] for name, values in (recording.terms or {}).items()},
        static=recording.static,
        routes=tuple(recording.routes),
        begin_s=first * tr.STEP_S,
    )


def events_of(decisions) -> list[tuple[int, int, str]]:
    """(decision, aircraft or -1, name) of rows (aircraft, event, frame) of each decision; -2 is unused."""
    return [
        (t, int(who), tr.EVENT_NAMES[code])
        for t, rows in enumerate(decisions)
        for who, code, _ in rows
        if who > -2
    ]


def of_game(about: str, env: OpenScopeEnv, traffic: Traffic, said, happened, terms) -> Flown:
    """An episode of the real game that `env` has just finished.

    said: (decision, aircraft, text); happened: the rows of events of each decision; terms `[T]`.
    """
    icao = env.game.static["icao"]
    return Flown(
        title=f"{icao.upper()} real game, {about}",
        icao=icao,
        airport=env.airport,
        traffic=traffic,
        callsigns=env.snapshot.callsigns,
        commands=said,
        events=events_of(happened),
        terms=terms,
        static=env.game.static,
        routes=env.snapshot.routes,
    )


def of_imagined(about: str, icao: str, params: EnvParams, seen: tuple, trace: Trace) -> Flown:
    """An episode of the model at one airport; seen: its scenes `[T + 1, ...]` and members `[T + 1]`."""
    scenes, member = seen
    airport = ap.select(params.airports, int(params.rows.airport_id[0]))
    traffic = jax.tree.map(np.asarray, scenes.traffic)
    sent = np.asarray(trace.command & ~trace.illegal)
    counts = {name: np.asarray(trace.metrics[name.lower()]) for name in tr.EVENT_NAMES}
    happened = [(int(t), -1, name) for name, n in counts.items() for t in np.flatnonzero(n)]
    return Flown(
        title=f"{icao.upper()} world model, {about}",
        icao=icao,
        airport=airport,
        traffic=traffic,
        callsigns=names_of(traffic),
        commands=commands_of(traffic, sent),
        events=[(t, whose(traffic, t, name), name) for t, _, name in sorted(happened)],
        terms=trace.terms,
        disagreement=np.asarray(disagreement(params, member[0], airport, scenes)),
    )


def names_of(traffic: Traffic) -> dict[int, str]:
    """Names for aircraft that have none, by what they do and their number: ARR12, DEP13."""
    here = np.asarray(traffic.valid)
    first = dict(zip(traffic.id[here].tolist(), traffic.category[here].tolist(), strict=True))
    return {who: f"{tr.CATEGORIES[category][:3].upper()}{who}" for who, category in first.items()}


def commands_of(traffic: Traffic, sent: np.ndarray) -> list[tuple[int, int, str]]:
    """Commands where only their effect is known: what changed on the panel in decisions `sent [T]`.

    A command that repeats what was assigned leaves no trace and is not among them.
    """
    found = []
    for t in np.flatnonzero(sent):
        was, now = (jax.tree.map(lambda leaf, i=i: leaf[i], traffic) for i in (t, t + 1))
        same = was.valid & now.valid & (was.id == now.id) & was.controllable
        for n in np.flatnonzero(same):
            if text := _changed(was, now, n):
                found.append((int(t), int(now.id[n]), text))
                break
    return found


def _changed(was: Traffic, now: Traffic, n: int) -> str:
    """What a player would have typed for the change of aircraft `n`; empty for none."""
    if now.approach_clearance[n] and not was.approach_clearance[n]:
        return "i"
    if now.assigned_altitude_ft[n] != was.assigned_altitude_ft[n] and was.phase[n] > tr.TAKEOFF:
        return f"a {round(float(now.assigned_altitude_ft[n]) / 100)}"
    if now.assigned_speed_kt[n] != was.assigned_speed_kt[n]:
        return f"sp {round(float(now.assigned_speed_kt[n]))}"
    holds = now.heading_mode[n] == tr.MODE_HOLD
    if holds and now.assigned_heading_rad[n] != was.assigned_heading_rad[n]:
        return f"fh {round(np.rad2deg(float(now.assigned_heading_rad[n]))):03d}"
    turned = now.heading_mode[n] == tr.HEADING_LNAV != was.heading_mode[n]
    return "dct" if turned else ""


def whose(traffic: Traffic, t: int, name: str) -> int:
    """The aircraft that an event of decision `t` ended, where exactly one can be meant; else -1."""
    gone = traffic.valid[t] & (traffic.id[t] != traffic.id[t + 1])
    handed = traffic.controllable[t] & ~traffic.controllable[t + 1] & (traffic.id[t] == traffic.id[t + 1])
    could = {
        "ARRIVAL": gone & (traffic.phase[t] == tr.LANDING),
        "DEPARTURE": (gone | handed) & (traffic.category[t] == tr.DEPARTURE),
        "AIRSPACE_BUST": (gone | handed) & (traffic.category[t] == tr.ARRIVAL),
    }.get(name, np.zeros_like(gone))
    found = np.flatnonzero(could)
    return int(traffic.id[t, found[0]]) if len(found) == 1 else -1


@jax.jit
def disagreement(params: EnvParams, member, airport: Airport, scenes: Scene) -> jax.Array:
    """How much two members of the model disagree about each aircraft's next decision, `[T + 1, N]`.

    As a share of params.disagreement_limit: at 1 the model no longer knows what happens next.
    """
    weights = params.weights

    def one(scene):
        stacked = features.stack_features(features.dynamics_features(scene, airport), jnp.bfloat16)
        outputs = [network.predict(weights, m, stacked) for m in (member, (member - 1) % members)]
        apart = jax.vmap(network.disagreement)(*outputs, scene.traffic.valid)
        return apart / params.disagreement_limit

    members = jax.tree.leaves(weights)[0].shape[0]
    return jax.lax.map(one, scenes)
