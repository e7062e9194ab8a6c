"""Who lands when: the expert's landing sequence, one per runway, from the observation and a small memory.

Arrivals land in the order of the times at which each could first have landed, `spacing_s` apart. An arrival
remembers its time, so that its place does not change whenever it turns. Two arrivals change places only where
the first would leave the runway idle and the second can land meanwhile. Letters: N aircraft.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.picture import Picture
from wm.sector.traffic import STEP_S

PROFILE_NM = np.asarray([0.0, 5.0, 16.0, 30.0, 200.0])  # distances to go
PROFILE_KT = np.asarray([135.0, 165.0, 190.0, 235.0, 270.0])  # the usual speed at each
OUTSIDE_NM = 45.0  # arrivals outside the airspace count from here
FIRST_NM = 13.0  # an approach under way this close in lands before all others
IDLE_S = 30.0  # places change where a runway is idle for longer, and another arrival lands that much earlier
FROZEN_NM = 16.0  # an arrival this close in is not overtaken any more
FILL_NM = 12.0  # an arrival this close in does not overtake any more
ABREAST_S = 30.0  # an approach that would land so shortly before or after one under way is not cleared
SEQUENCE_KT = 180.0  # speed that turns the times of the sequence into distances
SAME_THRESHOLD_NM = 0.05
FAR_S = 1e6


@struct.dataclass
class Memory:
    """The expert's carry: when each arrival is due, and where each aircraft was at the last decision."""

    clock_s: jax.Array  # []
    due_s: jax.Array  # [N] time on the clock at which each arrival could first have landed; FAR_S: unknown
    x: jax.Array  # [N] last position; after a jump the slot holds another aircraft
    y: jax.Array
    margin: jax.Array  # [N] nm inside the airspace


@struct.dataclass
class Sequence:
    """Each arrival's place, `[N]`."""

    wait_nm: jax.Array  # distance to lose behind the aircraft ahead
    abreast: jax.Array  # bool, would land at about the time of an approach under way
    due_s: jax.Array  # smaller lands earlier; approaches that cannot be delayed come before all others


def remember(slots: int) -> Memory:
    """Memory of `slots` aircraft never seen."""
    far = jnp.full((slots,), FAR_S, jnp.float32)
    return Memory(clock_s=jnp.zeros((), jnp.float32), due_s=far, x=far, y=far, margin=far)


def flying_time_s(p: Picture, to_go):
    """Time to the threshold `[N]` from `to_go [N]` (nm) at the usual speeds, longer for slow types."""
    hours = np.diff(PROFILE_NM) / ((PROFILE_KT[1:] + PROFILE_KT[:-1]) / 2)
    pace = np.concatenate([[0.0], np.cumsum(hours)])
    time = jnp.interp(to_go, *(jnp.asarray(a, jnp.float32) for a in (PROFILE_NM, pace))) * 3600.0
    return jnp.maximum(time, to_go / (jnp.maximum(p.ground_speed, 80.0) + 60.0) * 3600.0)


def working(p: Picture):
    """Whether a cleared approach still leads to the localiser, `[N]`."""
    across, along = jnp.abs(p.approach.cross_nm), p.approach.along_nm
    towards = -p.approach.angle_rad * jnp.sign(p.approach.cross_nm)
    off = jnp.arctan2(across, jnp.maximum(along, 0.1))
    meet = along - across / jnp.tan(jnp.clip(towards, 0.1, 1.5))
    coming = (towards > 0.05) & (meet > 5.2)
    return p.cleared & (p.established | coming | ((off < math.radians(2.0)) & (along > 0)))


def _same_runway(p: Picture):
    """Whether two aircraft are bound for the same threshold, `[N, N]`."""
    x, y = p.course.x_nm, p.course.y_nm
    return jnp.hypot(x[:, None] - x, y[:, None] - y) < SAME_THRESHOLD_NM


def _land(order, eta, same, spacing_s):
    """Landing times `[N]` and the times `[N]` from which the runway is free for each aircraft.

    order: slots `[N]` in landing order. eta: earliest landing times `[N]`. same `[N, N]`: on the same runway.
    """

    def land(landing, i):
        free = jnp.max(jnp.where(same[i], landing, -FAR_S)) + spacing_s
        return landing.at[i].set(jnp.maximum(eta[i], free)), free

    landing, free = jax.lax.scan(land, jnp.full_like(eta, -FAR_S), order)
    return landing, jnp.zeros_like(free).at[order].set(free)


def _fill_gap(order, eta, free, due, may_fill):
    """`due [N]` after the first arrival that leaves its runway idle has been overtaken.

    `may_fill [N, N]`: whether the gap of the row's aircraft may be filled by the column's. The next in the
    sequence that can land in the gap gets the place; where none can, all keep theirs.
    """
    rank = jnp.argsort(order)
    earlier = may_fill & (rank > rank[:, None]) & (eta < eta[:, None] - IDLE_S)
    idle = (eta - free > IDLE_S) & jnp.any(earlier, -1)
    late = jnp.argmin(jnp.where(idle, rank, rank.size))
    filling = jnp.argmin(jnp.where(earlier[late], rank, rank.size))
    return jnp.where(idle[late], due.at[filling].set(due[late] - 0.5), due)


def sequence(spacing_s, p: Picture, memory: Memory, to_go) -> tuple[Sequence, Memory]:
    """The landing sequence of arrivals with `to_go [N]` (nm) to fly at least, and the memory after it."""
    takes_part = p.arrival & p.flying & (p.controllable | (to_go < OUTSIDE_NM))
    near = jnp.hypot(p.x - memory.x, p.y - memory.y) < 3.0
    known = takes_part & near & (memory.due_s < FAR_S)
    eta = memory.clock_s + flying_time_s(p, to_go)
    due = jnp.where(known & p.controllable, memory.due_s, jnp.where(takes_part, eta, FAR_S))
    approaching = working(p)
    first = (p.established | approaching) & (to_go < FIRST_NM)
    same = _same_runway(p) & takes_part[:, None] & takes_part
    order = jnp.argsort(jnp.where(first, eta - FAR_S, due))
    landing, free = _land(order, eta, same, spacing_s)
    beside = same & approaching & ~approaching[:, None] & (jnp.abs(eta - eta[:, None]) < ABREAST_S)
    may_fill = same & ~(first | (to_go < FROZEN_NM))[:, None] & (to_go > FILL_NM)
    due = _fill_gap(order, eta, free, due, may_fill)
    place = Sequence(
        wait_nm=jnp.where(takes_part, landing - eta, 0.0) * SEQUENCE_KT / 3600.0,
        abreast=jnp.any(beside, -1),
        due_s=jnp.where(first, due - FAR_S, due),
    )
    return place, Memory(memory.clock_s + STEP_S, due, p.x, p.y, p.margin)
