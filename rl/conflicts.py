"""How badly predicted tracks come together, by the separation rule of the reward with a margin around it.

Letters: N aircraft, C candidates, T look-ahead steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rl.lookahead import LOOK_STEP_S, LOOK_STEPS, Track, View
from wm.sector.separation import DIVERGING_RAD, LATERAL_NM, LOW_FT, VERTICAL_FT, YOUNG_S, exempt_by_course

TAKEOFF_TO_CLIMB_S = 35.0  # from the start of the roll to phase CLIMB
FULL_NM = LATERAL_NM + 0.3  # closer than this is as bad as it gets
EDGE_NM = LATERAL_NM + 1.2  # ... and from here on, plus EDGE_GROWTH, harmless
EDGE_GROWTH_NM_S = 0.008
TRAIL_FULL_NM = LATERAL_NM + 0.1  # of two arrivals where one is cleared: both fly to the same final
TRAIL_EDGE_NM = LATERAL_NM + 0.5
CERTAIN_S = 50.0  # predictions weigh less from here to the end of the look-ahead
LAST_WEIGHT = 0.3
CLOSING_FT = 120.0  # added to the vertical minimum while a pair comes closer vertically
CLOSING_GROWTH_FT_S = 1.5
FIRST_SHARE = 0.35  # how much of a conflict is left to the arrival that lands first
DIVERGING_WEIGHT = 0.15  # an exempt pair may stop diverging
VECTORED_S = np.asarray([25.0, 70.0])  # of two vectored arrivals: both will turn before long
VECTORED_WEIGHT = np.asarray([0.4, 0.06])


def _moments():
    """Seconds ahead of every step, its weight, and that between two vectored arrivals, `[T]` each."""
    seconds = LOOK_STEP_S * np.arange(1, LOOK_STEPS + 1, dtype=np.float32)
    late = np.clip((seconds - CERTAIN_S) / (seconds[-1] - CERTAIN_S), 0.0, 1.0)
    weight = 1.0 - (1.0 - LAST_WEIGHT) * late
    vectored = np.minimum(weight, np.interp(seconds, VECTORED_S, VECTORED_WEIGHT))
    return jnp.asarray(seconds), jnp.asarray(weight, jnp.float32), jnp.asarray(vectored, jnp.float32)


def _danger(v: View, at: Track, vertical_before, seconds, weight, vectored_weight):
    """Danger `[N, C, N]` of every candidate to every other aircraft at one moment, and their vertical gap."""
    own = jax.tree.map(lambda a: a[..., None], at)  # [N, C, 1]
    other = jax.tree.map(lambda a: a[None, None, :, 0], at)  # [1, 1, N]
    dx, dy = other.x - own.x, other.y - own.y
    in_trail = v.arrival[:, None, None] & v.arrival & (v.cleared[:, None, None] | v.cleared)
    edge = jnp.where(in_trail, TRAIL_EDGE_NM, EDGE_NM + EDGE_GROWTH_NM_S * seconds)
    full = jnp.where(in_trail, TRAIL_FULL_NM, FULL_NM)
    near = jnp.clip((edge - jnp.hypot(dx, dy)) / (edge - full), 0.0, 1.0)

    gap = jnp.maximum(other.lowest - own.altitude, own.lowest - other.altitude)
    vertical = jnp.maximum(gap, 0.0)
    closing = vertical < vertical_before - 1.0
    top = VERTICAL_FT + jnp.where(closing, CLOSING_FT + CLOSING_GROWTH_FT_S * seconds, 0.0)
    level = jnp.clip((top - vertical) / (top - 0.95 * VERTICAL_FT), 0.0, 1.0)

    young = v.since_climb_s + TAKEOFF_TO_CLIMB_S + seconds < YOUNG_S
    ignored = (at.altitude - v.elevation < LOW_FT) | young[:, None]
    ignored = ignored[..., None] | ignored[None, None, :, 0]
    directions = [(jnp.sin(angle), jnp.cos(angle)) for angle in (own.heading, other.heading)]
    exempt = exempt_by_course(dx, dy, directions, directions, np.cos(DIVERGING_RAD))
    turning = v.arrival & v.heading_held & ~v.cleared
    weight = jnp.where(turning[:, None, None] & turning, vectored_weight, weight)
    danger = near * level * weight * jnp.where(exempt, DIVERGING_WEIGHT, 1.0)
    return jnp.where(ignored, 0.0, danger), vertical


def severity(v: View, track: Track, due_s) -> jax.Array:
    """Severity `[N, C]` of each candidate: summed over the others (no new command), worst moment each.

    Of two arrivals the one that is `due_s [N]` to land later is meant to give way. A loop over moments keeps
    one of them in memory at a time and the compiled kernel small.
    """

    def step(carry, moment):
        worst, vertical = carry
        danger, vertical = _danger(v, moment[0], vertical, *moment[1:])
        return (jnp.maximum(worst, danger), vertical), None

    n, candidates = track.x.shape[1:]
    apart = jnp.abs(v.altitude[None, :] - v.altitude[:, None])[:, None, :]
    start = jnp.zeros((n, candidates, n)), jnp.broadcast_to(apart, (n, candidates, n))
    (danger, _), _ = jax.lax.scan(step, start, (track, *_moments()))
    pair = v.flying[:, None] & v.flying[None, :] & ~jnp.eye(n, dtype=bool)
    pair = pair & (v.controllable[:, None] | v.controllable[None, :])
    first = v.arrival[:, None] & v.arrival[None, :] & (due_s[:, None] < due_s[None, :])
    share = jnp.where(pair, jnp.where(first, FIRST_SHARE, 1.0), 0.0)
    return jnp.sum(share[:, None, :] * danger, axis=-1)
