"""What a model foresees: events within a minute, commands, spawns, and whether it knows where it errs.

Everything starts from recorded states under the recorded commands, without new spawns. A chance is the share
of plays, each with one member and drawn outcomes, in which the event happens. Letters: W windows, T steps,
N aircraft, D x N their pairs (wm.sector.pairs), P plays, M members, S streams.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from scipy.stats import rankdata

from wm.sector import geometry, pairs, separation
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.traffic import EVENT_NAMES, STEP_S, Scene, SubSteps, Traffic, in_play
from wm.state import fidelity
from wm.state import spawn as sp

MINUTE_STEPS = 12
DRAWS = 4  # plays of each member
AT_ONCE = 16  # windows played in one call
EVENTS = {"landing": "ARRIVAL", "handoff": "DEPARTURE"}
FOLLOWED_STEPS = 6  # half a minute after a command
FOLLOWED = {"heading_rad": np.deg2rad(3.0), "altitude_ft": 100.0, "speed_kt": 5.0}
MODES = ("heading_mode", "altitude_mode", "speed_mode")
LARGE_NM = 0.5  # an error that disagreement should have announced


@struct.dataclass
class Minute:
    """What happens within a minute, recorded or as a count of plays; leading axis W."""

    landing: jax.Array  # [W, N]
    handoff: jax.Array
    loss: jax.Array  # [W, D, N] a pair is too close by the game's rule after one of the steps


def too_close(t: Traffic, airport: Airport):
    """Pairs `[..., D, N]` of traffic `[..., N]` that violate the game's rule at this moment."""
    frame = SubSteps(
        **{name: getattr(t, name) for name in SubSteps.__dataclass_fields__ if name != "present"},
        present=t.valid,
    )
    age = jnp.where(t.airborne_s >= 0, t.airborne_s, -1e6)
    return separation.judge(frame, age, separation.pair_rule(t, airport))[0]


def _named(events) -> dict:
    """The events `[..., N]` that EVENTS names, of events `[..., N, E]`."""
    return {name: events[..., EVENT_NAMES.index(event)] for name, event in EVENTS.items()}


@partial(jax.jit, static_argnames="plays")
def _play(weights, airport: Airport, start: Scene, action, key, plays: int) -> Minute:
    """Counts of plays in which events happen, of windows `[W]` in `plays` plays, dealt to the members."""
    windows = action.shape[0]
    start = jax.tree.map(lambda x: jnp.tile(x, (plays,) + (1,) * (x.ndim - 1)), start)
    action = jnp.tile(action, (plays, 1, 1))

    def step(scene, now):
        acts, key = now
        keys = jax.random.split(key, acts.shape[0])
        one = partial(fidelity.model_step, weights, airport)
        scene, events = jax.vmap(one)(scene, acts, keys)
        close = jax.vmap(lambda t: too_close(t, airport))(scene.traffic)
        return scene, Minute(loss=close, **_named(events))

    keys = jax.random.split(key, action.shape[1])
    _, happened = jax.lax.scan(step, fidelity.in_play_only(start), (jnp.swapaxes(action, 0, 1), keys))
    happened = jax.tree.map(lambda x: jnp.any(x, 0), happened)
    return jax.tree.map(lambda x: jnp.sum(x.reshape(plays, windows, *x.shape[1:]), 0), happened)


@dataclasses.dataclass(frozen=True)
class Question:
    """The windows of one recording: where they start, what happened, and whom it can happen to."""

    start: Scene  # [W, ...]
    action: np.ndarray  # [W, T, 5]
    answer: Minute  # bool
    asked: Minute  # bool


@jax.jit
def _too_close_throughout(t: Traffic, airport: Airport):
    return jax.lax.map(lambda t: too_close(t, airport), t)


def questions(recording: Recording, airport: Airport, stride: int) -> Question:
    """Cut a recording into windows of a minute, one every `stride` decisions, with the answers."""
    t = recording.scene.traffic
    close = np.asarray(_too_close_throughout(t, airport))
    begins = np.arange(0, len(recording.action) - MINUTE_STEPS + 1, stride)
    span = begins[:, None] + np.arange(MINUTE_STEPS)
    first_id = t.id[begins][:, None]
    before, after = t.id[span] == first_id, t.id[span + 1] == first_id
    happened = {n: np.any(e & before, 1) for n, e in _named(recording.events[span]).items()}
    there = np.asarray(in_play(t))[begins]
    able = there & t.controllable[begins]
    second = pairs.second_slot(there.shape[1])
    both_there = there[:, None, :] & there[:, second] & pairs.once(there.shape[1])
    both_stay = after[:, :, None, :] & after[:, :, second]
    return Question(
        start=jax.tree.map(lambda x: x[begins], recording.scene),
        action=recording.action[span],
        answer=Minute(loss=np.any(close[span + 1] & both_stay, 1), **happened),
        asked=Minute(
            landing=able & (t.category[begins] == tr.ARRIVAL),
            handoff=able & (t.category[begins] != tr.ARRIVAL),
            loss=both_there & ~close[begins],
        ),
    )


def foresee(weights, airport: Airport, question: Question, key) -> dict[str, np.ndarray]:
    """Counts `[P + 1, 2]` by event: how often it was foreseen in p plays of P, and did not happen or did."""
    plays = DRAWS * jax.tree.leaves(weights)[0].shape[0]
    total = len(question.action)
    counts = {name: np.zeros((plays + 1, 2), np.int64) for name in Minute.__dataclass_fields__}
    for i in range(0, total, AT_ONCE):
        # The last windows go round to the first ones, so that one program serves every call.
        index = np.arange(i, i + AT_ONCE) % total
        new = np.arange(i, i + AT_ONCE) < total
        pick = lambda x, index=index: np.asarray(x)[index]  # noqa: E731
        start = jax.tree.map(pick, question.start)
        found = _play(weights, airport, start, pick(question.action), jax.random.fold_in(key, i), plays)
        for name, count in counts.items():
            asked = pick(getattr(question.asked, name))
            asked = asked & new.reshape(-1, *[1] * (asked.ndim - 1))
            level = np.asarray(getattr(found, name))[asked]
            np.add.at(count, (level, pick(getattr(question.answer, name))[asked].astype(int)), 1)
    return counts


def auroc_of_counts(counts: np.ndarray) -> float:
    """Area under the ROC curve of counts `[..., P + 1, 2]`, summed over the leading axes; ties count half."""
    no, yes = np.moveaxis(counts.reshape(-1, *counts.shape[-2:]).sum(0), -1, 0).astype(float)
    below = np.cumsum(no) - no
    whole = yes.sum() * no.sum()
    return float(np.sum(yes * (below + 0.5 * no)) / whole) if whole else float("nan")


def calibration_error(counts: np.ndarray) -> float:
    """Expected calibration error of counts `[..., P + 1, 2]`: |share that happened - chance|, by chance.

    What no play foresaw and did not happen is left out: it would hide all errors behind its number.
    """
    counts = counts.reshape(-1, *counts.shape[-2:]).sum(0).astype(float)
    counts[0, 0] = 0.0
    size = counts.sum(-1)
    happened = np.divide(counts[:, 1], size, out=np.zeros_like(size), where=size > 0)
    chance = np.arange(len(size)) / (len(size) - 1)
    return float(np.sum(size * np.abs(happened - chance)) / max(size.sum(), 1.0))


def auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve of scores `[n]` for labels `[n]`; NaN without both kinds."""
    yes, no = int(label.sum()), int((~label).sum())
    if not yes or not no:
        return float("nan")
    return float((rankdata(score)[label].sum() - yes * (yes + 1) / 2) / (yes * no))


def disagreement(weights, airport: Airport, recording: Recording, steps: int, stride: int):
    """(largest distance between two members, error of member 0) after `steps`, nm, `[n]` each.

    Aircraft that were commanded in the window; whoever leaves play off time counts as 10 nm away.
    """
    members = jax.tree.leaves(weights)[0].shape[0]
    windows = fidelity.cut_windows([recording], steps, stride)
    count = len(windows.action)
    every = fidelity.select(windows, np.tile(np.arange(count), members))
    tracks = fidelity.imagine(weights, airport, every.start, every.action)
    x, y, _, playing = (np.asarray(v).reshape(members, count, *v.shape[1:]) for v in tracks)
    error = fidelity.errors_nm(windows, (x[0], y[0], x[0], playing[0]), steps)
    apart = np.zeros(error.shape)
    for i in range(members):
        for j in range(i):
            seen = dataclasses.replace(
                windows, x_nm=x[i], y_nm=y[i], playing=np.logical_and.accumulate(playing[i], 1)
            )
            off = fidelity.errors_nm(seen, (x[j], y[j], x[j], playing[j]), steps)
            apart = np.maximum(apart, np.nan_to_num(off))
    known = windows.considered & windows.commanded(steps) & np.isfinite(error)
    return apart[known], error[known]


@jax.jit
def _follow(weights, airport: Airport, start: Scene, action) -> Traffic:
    step = jax.vmap(partial(fidelity.model_step, weights, airport))
    moves = lambda scene, now: (step(scene, now)[0], None)  # noqa: E731
    return jax.lax.scan(moves, fidelity.in_play_only(start), jnp.swapaxes(action, 0, 1))[0].traffic


def followed(weights, airport: Airport, recording: Recording) -> np.ndarray:
    """Whether each recorded command `[n]` is followed as in the game, bool.

    Half a minute later the commanded aircraft has the recorded modes, and heading, altitude and speed within
    FOLLOWED. Commands to aircraft that have left by then, there and here, say nothing and are left out.
    """
    members = jax.tree.leaves(weights)[0].shape[0]
    t, columns = recording.scene.traffic, recording.scene.traffic.valid.shape[1]
    steps = np.flatnonzero(recording.action[:, 0] < columns)
    steps = steps[steps + FOLLOWED_STEPS < len(t.valid)]
    steps = steps[: len(steps) // members * members]
    if not len(steps):
        return np.zeros(0, bool)
    span = steps[:, None] + np.arange(FOLLOWED_STEPS)
    whom = recording.action[steps, 0]
    start = jax.tree.map(lambda x: x[steps], recording.scene)
    flown = _follow(weights, airport, start, recording.action[span])
    model = jax.tree.map(lambda x: np.asarray(x)[np.arange(len(steps)), whom], flown)
    real = jax.tree.map(lambda x: x[steps + FOLLOWED_STEPS, whom], t)
    stays = np.asarray(in_play(real)) & (real.id == t.id[steps, whom])
    here = np.asarray(in_play(model))
    good = stays & here
    for name, tolerance in FOLLOWED.items():
        off = getattr(model, name) - getattr(real, name)
        good &= np.abs(np.asarray(geometry.wrap_pi(off)) if name.endswith("_rad") else off) <= tolerance
    for name in MODES:
        good &= getattr(model, name) == getattr(real, name)
    return good[stays | here]


@partial(jax.jit, static_argnames=("steps", "hours"))
def imagined_spawns(airport: Airport, traffic_rate, since_s, steps: int, hours: int, key):
    """Whether streams spawn, bool `[hours, steps, S]`, from clocks `since_s [S]`; no aircraft take part."""

    def step(clock, key):
        spawned = jax.random.uniform(key, clock.shape) < sp.spawn_chance(clock, traffic_rate, airport)
        return jnp.where(spawned, 0.0, clock + STEP_S), spawned

    clock = jnp.broadcast_to(since_s, (hours, *since_s.shape))
    _, spawned = jax.lax.scan(step, clock, jax.random.split(key, steps))
    return jnp.swapaxes(spawned, 0, 1)


def gaps(spawned: np.ndarray, interval_s: np.ndarray) -> np.ndarray:
    """Times between successive spawns of each stream `[T, S]`, as shares of its mean interval `[S]`."""
    columns = zip(spawned.T, interval_s, strict=True)
    return np.concatenate([np.diff(np.flatnonzero(column)) * STEP_S / mean for column, mean in columns])
