"""Losses of separation as they went on: how long each took, how deep it was, and the closest approach.

The environment's step counts losses on its half-second frames and keeps nothing else of them. Here they are
found again from the tracks, one state per decision. Between two an aircraft is taken to fly straight,
which misses a turning one by 0.01 nm at 250 kt. The rule is that of wm.sector.separation.
Letters: T decisions, K frames of one, N aircraft (slots or columns), M pairs over one decision each.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import separation
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.geometry import wrap_pi

TRACK_FIELDS = (
    "valid", "id", "x_nm", "y_nm", "altitude_ft", "heading_rad", "ground_track_rad", "category", "phase",
    "controllable", "runway", "route", "leg", "airborne_s",
)  # fmt: skip
AT_ONCE = 4096  # pairs over one decision each, judged at once
ENTRY = (0, 0)  # of the only pair in a table of two aircraft


@struct.dataclass
class _Judged:
    """The frames of one decision of a pair."""

    count: jax.Array  # int32, frames that violate the rule
    first: jax.Array  # int32, the first of them and the last, 1 to K
    last: jax.Array
    severity: jax.Array  # float32, at its worst; 0 where none violates
    closest_nm: jax.Array  # float32, infinite where the pair is not to be looked at


def frames_between(before: tr.Traffic, after: tr.Traffic) -> tuple[tr.SubSteps, jax.Array]:
    """The frames `[K, N]` of a decision from the traffic `[N]` around it, and seconds in the air then.

    Who is new or has gone counts at the decision's end or begin alone; flags and phases change at its end.
    """
    number = jnp.arange(1, tr.FRAMES_PER_STEP + 1)[:, None]
    stays = before.valid & after.valid & (before.id == after.id)
    ends = number == tr.FRAMES_PER_STEP

    def straight(name, difference=jnp.subtract):
        a, b = getattr(before, name), getattr(after, name)
        return jnp.where(stays, a + difference(b, a) * (number / tr.FRAMES_PER_STEP), b)

    def turning(name):
        return straight(name, lambda b, a: wrap_pi(b - a))

    def switching(name):
        return jnp.where(ends, getattr(after, name), getattr(before, name))

    sub = tr.SubSteps(
        x_nm=straight("x_nm"), y_nm=straight("y_nm"), altitude_ft=straight("altitude_ft"),
        heading_rad=turning("heading_rad"), ground_track_rad=turning("ground_track_rad"),
        phase=switching("phase"), controllable=switching("controllable"),
        present=jnp.where(ends, after.valid, stays),
    )  # fmt: skip
    begun = jnp.where(stays, before.airborne_s, after.airborne_s)
    gone_by = jnp.where(stays, number * tr.FRAME_S, 0.0)
    return sub, jnp.where(begun >= 0, begun + gone_by, -1.0)


def _judge(before: tr.Traffic, after: tr.Traffic, airport: Airport) -> _Judged:
    """Judge two aircraft `[2]` over a decision."""
    during = jax.tree.map(lambda b, a: jnp.where(before.valid, b, a), before, after)
    sub, airborne_s = frames_between(before, after)
    found = separation.compare(sub, airborne_s, separation.pair_rule(during, airport))
    found = jax.tree.map(lambda x: jnp.broadcast_to(x, (tr.FRAMES_PER_STEP, 1, 2))[:, *ENTRY], found)
    violating = separation.violates(found)
    across = jnp.sqrt(found.lateral2 / jnp.maximum(found.minimum2, 1e-6))
    kept = jnp.maximum(across, found.vertical_ft / separation.VERTICAL_FT)
    alone = found.pair & found.subject & (found.minimum2 == separation.LATERAL_NM**2)
    number = jnp.arange(1, tr.FRAMES_PER_STEP + 1)
    return _Judged(
        count=jnp.sum(violating),
        first=jnp.min(jnp.where(violating, number, tr.FRAMES_PER_STEP)),
        last=jnp.max(jnp.where(violating, number, 0)),
        severity=jnp.max(jnp.where(violating, 1.0 - kept, 0.0)),
        closest_nm=jnp.sqrt(jnp.min(jnp.where(alone, found.lateral2, jnp.inf))),
    )


_judge_many = jax.jit(jax.vmap(_judge, (0, 0, None)))


def _level_pairs(tracks: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(decision, column, column) wherever two aircraft come within 1,000 ft of each other's altitude."""
    used = np.flatnonzero(tracks["valid"].any(0))
    one, other = (used[side] for side in np.triu_indices(len(used), 1))
    valid, altitude = tracks["valid"], tracks["altitude_ft"]
    there = valid[:, one] & valid[:, other]
    apart = np.where(there, altitude[:, other] - altitude[:, one], np.nan)
    with np.errstate(invalid="ignore"):  # a pair that is not there is at no distance
        near = np.fmin(np.abs(apart[:-1]), np.abs(apart[1:])) < separation.VERTICAL_FT
        through = apart[:-1] * apart[1:] <= 0
    step, pair = np.nonzero(there[1:] & (near | through))
    return step, one[pair], other[pair]


def _judged(tracks: dict[str, np.ndarray], step, one, other, airport: Airport) -> _Judged:
    """Judge pairs of columns over decisions, `[M]`, always as many at once: one program serves all."""
    columns, parts = np.stack([one, other], -1), []
    for begin in range(0, len(step), AT_ONCE):
        rows = slice(begin, begin + AT_ONCE)
        some = len(step[rows])
        around = []
        for after in (0, 1):
            two = tr.empty(tr.Traffic, (AT_ONCE, 2), np)
            for name in TRACK_FIELDS:
                getattr(two, name)[:some] = tracks[name][step[rows, None] + after, columns[rows]]
            around.append(two)
        parts.append(jax.tree.map(lambda x, some=some: np.asarray(x)[:some], _judge_many(*around, airport)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def losses_of(tracks: dict[str, np.ndarray], airport: Airport) -> dict[str, Any]:
    """Losses of separation by the game's rule in tracks `[T + 1, N]`, from the first second, as plain JSON.

    A loss is one pair from entry until it has been separated for 30 s.

    loss_duration_s: of each loss, how long the pair was closer than its minimum.
    loss_severity: of each loss, the worst moment's 1 - max(horizontal / minimum, vertical / 1000 ft): 0 at
      the edge, 1 at a collision. The minimum is 3 nm (ICAO Doc 4444, 8.7.3.2), between established parallel
      approaches the airport's own.
    closest_nm: least horizontal distance of two aircraft vertically within 1000 ft; None where no two were.
      Pairs that the rule exempts, and those established on parallel approaches, are left out.
    """
    step, one, other = _level_pairs(tracks)
    if not len(step):
        return {"loss_duration_s": [], "loss_severity": [], "closest_nm": None}
    judged = _judged(tracks, step, one, other, airport)
    ids = tracks["id"][1:]
    # Of each pair its losses: last frame, frames, severity.
    found: dict[tuple[int, int], list[list[float]]] = {}
    for m in np.flatnonzero(judged.count):
        at = int(step[m]) * tr.FRAMES_PER_STEP
        own = found.setdefault((int(ids[step[m], one[m]]), int(ids[step[m], other[m]])), [])
        if not own or at + int(judged.first[m]) - own[-1][0] > separation.SEPARATED_FRAMES:
            own.append([0, 0, 0.0])
        _, frames, severity = own[-1]
        own[-1] = [
            at + int(judged.last[m]),
            frames + int(judged.count[m]),
            max(severity, float(judged.severity[m])),
        ]
    losses = [loss for own in found.values() for loss in own]
    closest = float(np.min(judged.closest_nm))
    return {
        "loss_duration_s": [frames * tr.FRAME_S for _, frames, _ in losses],
        "loss_severity": [round(severity, 4) for _, _, severity in losses],
        "closest_nm": round(closest, 4) if np.isfinite(closest) else None,
    }
