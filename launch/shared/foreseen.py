"""What a world model foresees, as figures with intervals.

wm.state.foresight says what is measured: events, calibration, commands, disagreement, spawns. Intervals
draw whole recordings again. Letter: R recordings.
"""

import jax
import numpy as np
from scipy import stats

from launch.shared import runs
from launch.shared.records import Figure
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.state import foresight
from wm.state import spawn as sp

STRIDE = 24  # decisions between the starts of windows
HORIZON_STEPS = 60  # five minutes, for disagreement
HOURS_EACH = 20  # imagined hours of spawns for each recorded one
RESAMPLES = 1000


def ask(weights, held_out: dict[str, tuple[Airport, list[Recording]]]) -> dict[str, list]:
    """What is measured on every recording, a list `[R]` each; `held_out` as in launch.eval_wm.judge."""
    found = {name: [] for name in (*foresight.Minute.__dataclass_fields__, "followed", "apart", "gaps")}
    every = [(airport, one) for airport, recordings in held_out.values() for one in recordings]
    for i, (airport, recording) in enumerate(runs.track(every, "recording")):
        key = jax.random.key(i)
        counts = foresight.foresee(
            weights, airport, foresight.questions(recording, airport, STRIDE), jax.random.fold_in(key, 0)
        )
        for name, count in counts.items():
            found[name].append(count)
        found["followed"].append(foresight.followed(weights, airport, recording))
        found["apart"].append(
            foresight.disagreement(weights, airport, recording, HORIZON_STEPS, HORIZON_STEPS // 2)
        )
        found["gaps"].append(_gaps(airport, recording, jax.random.fold_in(key, 1)))
    return found


def _gaps(airport: Airport, recording: Recording, key) -> tuple[np.ndarray, np.ndarray]:
    """Times between spawns of each stream over its mean interval: (recorded, imagined)."""
    count = int(airport.stream_count)
    mean = np.asarray(airport.stream_interval_s)[:count] / recording.traffic_rate
    first = jax.tree.map(lambda x: x[0], recording.scene)
    clock, steps = sp.stream_clock(first), len(recording.action)
    imagined = foresight.imagined_spawns(airport, recording.traffic_rate, clock, steps, HOURS_EACH, key)
    recorded = sp.spawned(recording.scene)[:, :count]
    each = [foresight.gaps(hour, mean) for hour in np.asarray(imagined)[..., :count]]
    return foresight.gaps(recorded, mean), np.concatenate(each)


def _drawn(rows: list, unit: str, statistic, n: int) -> Figure:
    """A statistic of a list `[R]` with its interval by drawing recordings again."""
    rng = np.random.default_rng(0)
    value = statistic(rows)
    again = [statistic([rows[i] for i in rng.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(again, [2.5, 97.5])
    return Figure(float(value), min(low, value), max(high, value), unit, n)


def _detects(rows: list) -> float:
    apart, error = (np.concatenate(column) for column in zip(*rows, strict=True))
    return foresight.auroc(apart, error > foresight.LARGE_NM)


def _rate_error(rows: list) -> float:
    recorded, imagined = (sum(len(row[i]) for row in rows) for i in (0, 1))
    return abs(imagined / HOURS_EACH / max(recorded, 1) - 1.0)


def _distance(rows: list) -> float:
    recorded, imagined = (np.concatenate(column) for column in zip(*rows, strict=True))
    return float(stats.ks_2samp(recorded, imagined).statistic)


def figures(found: dict[str, list]) -> dict[str, Figure]:
    """The record's figures; one whose events never happened is left out."""
    out, calibration = {}, {}
    for name in foresight.Minute.__dataclass_fields__:
        counts = np.stack(found[name])
        happened = int(counts[..., 1].sum())
        if happened:
            out[f"{name}_auroc"] = _drawn(found[name], "", _over(foresight.auroc_of_counts), happened)
            calibration[name] = _drawn(found[name], "", _over(foresight.calibration_error), happened)
    if calibration:
        out["ece"] = max(calibration.values(), key=lambda figure: figure.value)
    commands = sum(len(one) for one in found["followed"])
    if commands:
        out["action_following"] = _drawn(
            found["followed"], "", lambda rows: np.mean(np.concatenate(rows)), commands
        )
    errors = np.concatenate([error for _, error in found["apart"]])
    if 0 < np.sum(errors > foresight.LARGE_NM) < len(errors):
        out["disagreement_auroc"] = _drawn(found["apart"], "", _detects, len(errors))
    spawns = sum(len(recorded) for recorded, _ in found["gaps"])
    if spawns:
        out["spawn_rate_error"] = _drawn(found["gaps"], "", _rate_error, spawns)
        out["spawn_ks"] = _drawn(found["gaps"], "", _distance, spawns)
    return out


def _over(statistic):
    return lambda rows: statistic(np.stack(rows))
