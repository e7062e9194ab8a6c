"""Who lands when: the expert's landing sequence, one per runway, from the observation and a small memory.

First come, first served by the time at which each arrival could first have landed, `spacing_s` apart. The
place is remembered, so that it does not change with every turn; it changes hands only where the one whose
turn it is would leave the runway idle and another can land meanwhile. Letters: N aircraft.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.lookahead import View
from wm.sector.traffic import STEP_S

PROFILE_NM = np.asarray([0.0, 5.0, 16.0, 30.0, 200.0])  # distance to go ...
PROFILE_KT = np.asarray([135.0, 165.0, 190.0, 235.0, 270.0])  # ... and the speed flown there
OUTSIDE_NM = 45.0  # arrivals outside the airspace count from here
FIRST_NM = 13.0  # an approach under way this close in lands before all others
IDLE_S = 30.0  # how long a runway has to be idle, and another arrival earlier, for places to change
FROZEN_NM = 16.0  # an arrival this close in is overtaken no more ...
FILL_NM = 12.0  # ... and one this close in overtakes no more
ABREAST_S = 30.0  # no clearance for an approach that lands so close to one under way
SEQUENCE_KT = 180.0  # turns times of the sequence into distances
SAME_THRESHOLD_NM = 0.05
FAR_S = 1e6


@struct.dataclass
class Memory:
    """The expert's carry: who is where in the landing sequence."""

    clock_s: jax.Array  # []
    due_s: jax.Array  # [N] when each arrival could first have landed, on the clock; FAR_S unknown
    x: jax.Array  # [N] last position: a jump means that the slot has a new aircraft
    y: jax.Array
    margin: jax.Array  # nm inside the airspace, at the last decision


@struct.dataclass
class Sequence:
    """Each arrival's place, `[N]`."""

    wait_nm: jax.Array  # distance to lose behind the aircraft ahead
    abreast: jax.Array  # bool, would land at about the time of an approach under way
    due_s: jax.Array  # smaller lands earlier; approaches that cannot be delayed before all others


def remember(slots: int) -> Memory:
    """Memory of `slots` aircraft never seen."""
    far = jnp.full((slots,), FAR_S)
    return Memory(clock_s=jnp.zeros(()), due_s=far, x=far, y=far, margin=far)


def flying_time_s(v: View, to_go):
    """Time to the threshold `[N]` at the usual speeds, longer for slow types."""
    pace = np.concatenate([[0.0], np.cumsum(np.diff(PROFILE_NM) / ((PROFILE_KT[1:] + PROFILE_KT[:-1]) / 2))])
    time = jnp.interp(to_go, PROFILE_NM, pace) * 3600.0
    return jnp.maximum(time, to_go / (jnp.maximum(v.ground_speed, 80.0) + 60.0) * 3600.0)


def working(v: View):
    """Whether a cleared approach still leads to the localiser, `[N]`."""
    towards = -v.angle * jnp.sign(v.cross)
    off = jnp.arctan2(jnp.abs(v.cross), jnp.maximum(v.along, 0.1))
    meet = v.along - jnp.abs(v.cross) / jnp.tan(jnp.clip(towards, 0.1, 1.5))
    coming = (towards > 0.05) & (meet > 5.2)
    return v.cleared & (v.established | coming | ((off < np.deg2rad(2.0)) & (v.along > 0)))


def _same_runway(v: View):
    """Whether two aircraft are bound for the same threshold, `[N, N]`."""
    runway = v.heading - v.angle
    x = v.x + v.along * jnp.sin(runway) - v.cross * jnp.cos(runway)
    y = v.y + v.along * jnp.cos(runway) + v.cross * jnp.sin(runway)
    return jnp.hypot(x[:, None] - x, y[:, None] - y) < SAME_THRESHOLD_NM


def _land(order, eta, same, spacing_s):
    """Landing times `[N]`, given in `order`, `spacing_s` apart on each runway; when it was free for each."""

    def land(landing, i):
        free = jnp.max(jnp.where(same[i], landing, -FAR_S)) + spacing_s
        return landing.at[i].set(jnp.maximum(eta[i], free)), free

    landing, free = jax.lax.scan(land, jnp.full(eta.shape, -FAR_S), order)
    return landing, jnp.zeros_like(free).at[order].set(free)


def _fill_gap(order, eta, free, due, may_fill):
    """`due [N]` after the first arrival that leaves its runway idle has been overtaken.

    `may_fill [N, N]`: whose gap may be filled by whom. The next in the sequence that can land in the gap gets
    the place; where none can, none does.
    """
    rank = jnp.argsort(order)
    earlier = may_fill & (rank > rank[:, None]) & (eta < eta[:, None] - IDLE_S)
    idle = (eta - free > IDLE_S) & jnp.any(earlier, -1)
    late = jnp.argmin(jnp.where(idle, rank, rank.size))
    filling = jnp.argmin(jnp.where(earlier[late], rank, rank.size))
    return jnp.where(idle[late], due.at[filling].set(due[late] - 0.5), due)


def sequence(spacing_s, v: View, memory: Memory, to_go) -> tuple[Sequence, Memory]:
    """The landing sequence of arrivals with `to_go [N]` (nm) to fly at least, and the memory after it."""
    takes_part = v.arrival & v.flying & (v.controllable | (to_go < OUTSIDE_NM))
    near = jnp.hypot(v.x - memory.x, v.y - memory.y) < 3.0
    known = takes_part & near & (memory.due_s < FAR_S)
    eta = memory.clock_s + flying_time_s(v, to_go)
    due = jnp.where(known & v.controllable, memory.due_s, jnp.where(takes_part, eta, FAR_S))
    approaching = working(v)
    first = (v.established | approaching) & (to_go < FIRST_NM)
    same = _same_runway(v) & takes_part[:, None] & takes_part
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
    return place, Memory(memory.clock_s + STEP_S, due, v.x, v.y, v.margin)
