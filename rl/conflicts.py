"""How dangerous predicted tracks are to each other, by the separation rule with a margin around it.

Letters: N aircraft, C candidates, T look-ahead steps.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rl.lookahead import LOOK_STEP_S, LOOK_STEPS, Track
from rl.picture import Picture
from wm.sector.geometry import wrap_pi
from wm.sector.separation import (
    DIVERGING_RAD,
    LATERAL_NM,
    LOW_FT,
    OPPOSITE_RAD,
    VERTICAL_FT,
    YOUNG_S,
    past_crossing,
)

TAKEOFF_TO_CLIMB_S = 35.0  # from the start of the roll to phase CLIMB
FULL_NM = LATERAL_NM + 0.3  # a pair closer than this is in full danger
EDGE_NM = LATERAL_NM + 1.2  # a pair farther apart is in none; the edge grows with the time ahead
EDGE_GROWTH_NM_S = 0.008
TRAIL_FULL_NM = LATERAL_NM + 0.1  # the same of two arrivals of which one is cleared: they share a final
TRAIL_EDGE_NM = LATERAL_NM + 0.5
CERTAIN_S = 50.0  # from here to the end of the look-ahead the weight falls from 1 to LAST_WEIGHT
LAST_WEIGHT = 0.3
CLOSING_FT = 120.0  # added to the vertical minimum while a pair comes closer vertically
CLOSING_GROWTH_FT_S = 1.5
FIRST_SHARE = 0.35  # share of a conflict that the arrival that lands first has to solve
DIVERGING_WEIGHT = 0.15  # of a pair exempt by its courses, which may yet stop diverging
VECTORED_S = np.asarray([25.0, 70.0])  # two vectored arrivals will both turn before long, so that the weight
VECTORED_WEIGHT = np.asarray([0.4, 0.06])  # of a conflict between them falls sooner


def _moments():
    """Seconds ahead of every step, its weight, and that between two vectored arrivals, `[T]` each."""
    seconds = LOOK_STEP_S * np.arange(1, LOOK_STEPS + 1, dtype=np.float32)
    late = np.clip((seconds - CERTAIN_S) / (seconds[-1] - CERTAIN_S), 0.0, 1.0)
    weight = 1.0 - (1.0 - LAST_WEIGHT) * late
    vectored = np.minimum(weight, np.interp(seconds, VECTORED_S, VECTORED_WEIGHT))
    return jnp.asarray(seconds), jnp.asarray(weight, jnp.float32), jnp.asarray(vectored, jnp.float32)


def _pairs(at: Track) -> tuple[Track, Track]:
    """Positions `[N, C]` as `[N, C, 1]`, and those of the others, who get no command, as `[1, 1, N]`."""
    return jax.tree.map(lambda a: a[..., None], at), jax.tree.map(lambda a: a[None, None, :, 0], at)


def _vertical_ft(own: Track, other: Track):
    """Vertical gap `[N, C, N]` where either of a pair may begin its descent any time."""
    return jnp.maximum(jnp.maximum(other.lowest - own.altitude, own.lowest - other.altitude), 0.0)


def _danger(p: Picture, at: Track, before: Track, seconds, weight, vectored_weight):
    """Danger `[N, C, N]` of every candidate to each other aircraft at a moment.

    at: positions `[N, C]` then; before: a step earlier.
    """
    own, other = _pairs(at)
    dx, dy = other.x - own.x, other.y - own.y
    in_trail = p.arrival[:, None, None] & p.arrival & (p.cleared[:, None, None] | p.cleared)
    edge = jnp.where(in_trail, TRAIL_EDGE_NM, EDGE_NM + EDGE_GROWTH_NM_S * seconds)
    full = jnp.where(in_trail, TRAIL_FULL_NM, FULL_NM)
    near = jnp.clip((edge - jnp.hypot(dx, dy)) / (edge - full), 0.0, 1.0)

    vertical = _vertical_ft(own, other)
    closing = vertical < _vertical_ft(*_pairs(before)) - 1.0
    top = VERTICAL_FT + jnp.where(closing, CLOSING_FT + CLOSING_GROWTH_FT_S * seconds, 0.0)
    level = jnp.clip((top - vertical) / (top - 0.95 * VERTICAL_FT), 0.0, 1.0)

    young = p.since_climb_s + TAKEOFF_TO_CLIMB_S + seconds < YOUNG_S
    ignored = (at.altitude - p.elevation < LOW_FT) | young[:, None]
    ignored = ignored[..., None] | ignored[None, None, :, 0]
    directions = [(jnp.sin(angle), jnp.cos(angle)) for angle in (own.heading, other.heading)]
    apart = jnp.abs(wrap_pi(other.heading - own.heading))
    exempt = (apart >= DIVERGING_RAD) & (apart <= OPPOSITE_RAD) & past_crossing(dx, dy, directions)
    turning = p.arrival & p.heading_held & ~p.cleared
    weight = jnp.where(turning[:, None, None] & turning, vectored_weight, weight)
    danger = near * level * weight * jnp.where(exempt, DIVERGING_WEIGHT, 1.0)
    return jnp.where(ignored, 0.0, danger)


def severity(p: Picture, track: Track, due_s) -> jax.Array:
    """Severity `[N, C]` of each candidate: its danger to each other aircraft at the worst moment, summed.

    Of two arrivals, the one with the later `due_s [N]` is meant to give way. XLA makes one kernel of all
    moments and their maximum; a loop over them takes as long to run and fifteen times as long to compile.
    """
    n, candidates = track.x.shape[1:]
    now = jnp.broadcast_to(p.altitude[:, None], (1, n, candidates))
    altitude, lowest = (jnp.concatenate([now, a[:-1]]) for a in (track.altitude, track.lowest))
    earlier = track.replace(altitude=altitude, lowest=lowest)  # the gap asks for nothing else
    danger = jax.vmap(partial(_danger, p))(track, earlier, *_moments()).max(0)
    pair = p.flying[:, None] & p.flying[None, :] & ~jnp.eye(n, dtype=bool)
    pair = pair & (p.controllable[:, None] | p.controllable[None, :])
    first = p.arrival[:, None] & p.arrival[None, :] & (due_s[:, None] < due_s[None, :])
    share = jnp.where(pair, jnp.where(first, FIRST_SHARE, 1.0), 0.0)
    return jnp.sum(share[:, None, :] * danger, axis=-1)
