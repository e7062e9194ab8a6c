"""A rule-based controller that works in the real game, from the observation alone.

Every decision it prices every legal command of every aircraft, in points of roughly a nautical mile of extra
flying: predicted conflicts, detours from the shortest path to a place in the landing sequence, altitude and
speed away from the profile, leaving the route or the airspace. The command that saves most is given, if it
saves more than a command costs. Letters: N aircraft, C candidate commands (see rl.lookahead).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.conflicts import severity
from rl.lookahead import (
    ALTITUDE_0,
    CANDIDATES,
    DIRECT_C,
    GRADIENT_FT_NM,
    HEADING_0,
    ILS_C,
    LOOK_STEP_S,
    SPEED_0,
    Track,
    View,
    fly,
    legal_candidates,
    view,
)
from rl.paths import TURN_RAD_S, distance_to_go_nm
from rl.policy import Policy
from wm import commands
from wm.geometry import wrap_pi
from wm.traffic import STEP_S

PROFILE_NM = np.asarray([0.0, 5.0, 16.0, 30.0, 200.0])  # distance to go ...
PROFILE_KT = np.asarray([135.0, 165.0, 190.0, 235.0, 270.0])  # ... and the speed flown there
OUTSIDE_NM = 45.0  # arrivals outside the airspace count in the sequence from here
LATE_S = 90.0
FIRST_NM = 13.0  # an approach under way this close in lands before all others
FAR_S = 1e6
FAR_FT = 1e5
SHORTEST_FINAL_NM = 6.5
SETTLING_NM = 0.8  # flown while turning onto the localiser
SEQUENCE_KT = 180.0  # turns times of the landing sequence into distances
LOW_SHARE = 0.25  # price of being below the profile, or slower than wanted, as a share of the opposite
SLOW_SHARE = 0.3
PATH_STEPS = 5  # look-ahead steps after which a path is judged
MARGIN_STEPS = (4, 7)  # ... and a way out of the airspace
SAFE_MARGIN_NM = 2.0
VERBS_C = np.repeat(
    [commands.ALTITUDE, commands.ALTITUDE, commands.HEADING, commands.SPEED, commands.ILS, commands.DIRECT],
    [1, commands.LEVELS, len(commands.HEADING_CHANGES_DEG), len(commands.SPEED_LEVELS_KT), 1, 1],
)
OFFSET_C = np.asarray([0, ALTITUDE_0, HEADING_0, SPEED_0, ILS_C, DIRECT_C])
AHEAD_C = HEADING_0 + commands.HEADING_CHANGES_DEG.index(0)
IS_ALTITUDE = (np.arange(CANDIDATES) >= ALTITUDE_0) & (np.arange(CANDIDATES) < HEADING_0)
IS_HEADING = (np.arange(CANDIDATES) >= HEADING_0) & (np.arange(CANDIDATES) < SPEED_0)
IS_SPEED = (np.arange(CANDIDATES) >= SPEED_0) & (np.arange(CANDIDATES) < ILS_C)


@struct.dataclass
class ExpertParams:
    """The expert's prices (points) and geometry; tuned in the real game on training seeds."""

    command: float = 0.4  # what a command must save
    heading: float = 0.2  # ... and a heading on top
    conflict: float = 60.0  # a certain loss of separation
    spacing_s: float = 80.0  # between landings
    slack_nm: float = 0.8  # how much too early an arrival may be
    vector_nm: float = 26.0  # distance to go from which an arrival is vectored off its route
    leave_route: float = 1.0  # arrival beyond that distance: 6 times
    departure_heading: float = 25.0  # a departure taken off its route
    keep_clearance: float = 40.0  # cancelling an approach that works
    ils: float = 8.0  # what an approach clearance is worth
    altitude: float = 0.8  # per 1000 ft away from the profile
    unusable: float = 6.0  # an altitude too low for any approach clearance
    speed: float = 0.7  # per 40 kt
    boundary: float = 30.0  # an arrival that is about to leave the airspace
    descent_ft_nm: float = 420.0  # steepest descent planned for
    profile_ft_nm: float = 280.0  # descent aimed at


@struct.dataclass
class Arrival:
    """The landing sequence as seen from each aircraft, `[N]`."""

    to_go: jax.Array  # nm, best path
    priced: jax.Array  # nm, with what a short final costs
    wait: jax.Array  # nm to lose behind the aircraft ahead
    excess: jax.Array  # ... and for the descent
    join_ft: jax.Array  # altitude to meet the localiser at
    wanted_ft: jax.Array  # altitude level of the descent profile here
    vectored: jax.Array  # bool
    due_s: jax.Array  # place in the sequence; established approaches before all others


@struct.dataclass
class Memory:
    """The expert's carry: who is where in the landing sequence."""

    clock_s: jax.Array  # []
    due_s: jax.Array  # [N] when each arrival could first have landed, on the clock; FAR_S unknown
    x: jax.Array  # [N] last position: a jump means that the slot has a new aircraft
    y: jax.Array
    margin: jax.Array  # nm inside the airspace, at the last decision


def remember(slots: int) -> Memory:
    """Memory of `slots` aircraft never seen."""
    far = jnp.full((slots,), FAR_S)
    return Memory(clock_s=jnp.zeros(()), due_s=far, x=far, y=far, margin=far)


def _to_go(v: View, x, y, heading):
    """Distance to go (nm), plain and priced, from positions `[N, ...]` in the frame of each one's runway."""
    extra = (1,) * (x.ndim - 1)

    def wide(value):
        return value.reshape(value.shape + extra)

    runway = wide(v.heading - v.angle)
    dx, dy = x - wide(v.x), y - wide(v.y)
    right = wide(v.cross) + dx * jnp.cos(runway) - dy * jnp.sin(runway)
    forward = -wide(v.along) + dx * jnp.sin(runway) + dy * jnp.cos(runway)
    return distance_to_go_nm(forward, right, wrap_pi(heading - runway), wide(v.ground_speed))


def _flying_time_s(v: View, to_go):
    """Time to the threshold `[N]` at the usual speeds, longer for slow types."""
    pace = np.concatenate([[0.0], np.cumsum(np.diff(PROFILE_NM) / ((PROFILE_KT[1:] + PROFILE_KT[:-1]) / 2))])
    time = jnp.interp(to_go, PROFILE_NM, pace) * 3600.0
    return jnp.maximum(time, to_go / (jnp.maximum(v.ground_speed, 80.0) + 60.0) * 3600.0)


def _working(v: View):
    """Whether a cleared approach still leads to the localiser, `[N]`."""
    towards = -v.angle * jnp.sign(v.cross)
    off = jnp.arctan2(jnp.abs(v.cross), jnp.maximum(v.along, 0.1))
    meet = v.along - jnp.abs(v.cross) / jnp.tan(jnp.clip(towards, 0.1, 1.5))
    coming = (towards > 0.05) & (meet > 5.2)
    return v.cleared & (v.established | coming | ((off < np.deg2rad(2.0)) & (v.along > 0)))


def _goes_first(v: View, to_go):
    """Whether an arrival is close in and on its final, or joins it on a clearance: nothing can delay it."""
    return (v.established | _working(v)) & (to_go < FIRST_NM)


def _to_join_nm(v: View):
    """Distance to go `[N]` on the present heading to the localiser and along it."""
    closing = jnp.clip(-v.angle * jnp.sign(v.cross), np.deg2rad(10.0), np.deg2rad(60.0))
    across = jnp.abs(v.cross)
    return v.along - across / jnp.tan(closing) + across / jnp.sin(closing)


def _sequence(params: ExpertParams, v: View, memory: Memory, to_go):
    """Distance to lose `[N]` (nm) so that landings are `spacing_s` apart, first come first served; memory.

    An arrival keeps the place of its first contact, unless it falls far behind it without waiting for
    anybody, as after a missed approach.
    """
    slots = to_go.shape[0]
    time = _flying_time_s(v, to_go)
    takes_part = v.arrival & v.flying & (v.controllable | (to_go < OUTSIDE_NM))
    same = jnp.hypot(v.x - memory.x, v.y - memory.y) < 3.0
    known = takes_part & same & (memory.due_s < FAR_S)
    now = memory.clock_s + time
    due = jnp.where(known, memory.due_s, jnp.where(takes_part, now, FAR_S))
    due = jnp.where(v.controllable, due, jnp.where(takes_part, now, FAR_S))
    order = jnp.argsort(jnp.where(_goes_first(v, to_go), now - FAR_S, due))
    rank = jnp.arange(slots) * params.spacing_s
    landing = jax.lax.cummax(jnp.where(takes_part, now, FAR_S)[order] - rank) + rank
    wait = jnp.zeros((slots,)).at[order].set(landing) - now
    behind = takes_part & (now - due > LATE_S) & (wait < 1.0)
    memory = Memory(memory.clock_s + STEP_S, jnp.where(behind, now, due), v.x, v.y, v.margin)
    return jnp.where(takes_part, wait, 0.0) * SEQUENCE_KT / 3600.0, memory


def _join_altitude(v: View, to_go):
    """Highest level `[N]` that meets the glideslope from below where the path joins.

    At least the lowest that an approach clearance accepts.
    """
    accepted = jnp.where(v.levels[None] >= v.intercept[:, None] - 1.0, v.levels[None], FAR_FT)
    lowest = jnp.min(accepted, -1)
    meet = jnp.clip(to_go - 1.5, 6.5, 8.5)
    slope = v.runway_elevation + GRADIENT_FT_NM * meet - 100.0
    below = jnp.where(accepted <= slope[:, None], accepted, 0.0)
    return jnp.maximum(jnp.max(below, -1), lowest)


def arrivals(params: ExpertParams, v: View, memory: Memory) -> tuple[Arrival, Memory]:
    """Where each arrival stands in the landing sequence and in its descent, and the memory after it."""
    to_go, priced = _to_go(v, v.x, v.y, v.heading)
    to_go = jnp.where(_working(v), _to_join_nm(v), to_go)
    to_go = jnp.where(v.established, v.along, to_go)
    join = _join_altitude(v, to_go)
    steep = (v.altitude - join) / params.descent_ft_nm + 10.0 - to_go
    wait, memory = _sequence(params, v, memory, to_go)
    excess = jnp.maximum(wait, steep)
    profile = join + jnp.maximum(to_go + jnp.maximum(wait, 0.0) - 14.0, 0.0) * params.profile_ft_nm
    fits = (v.levels[None] <= profile[:, None] + 300.0) & (v.levels[None] >= join[:, None])
    wanted = jnp.max(jnp.where(fits, v.levels[None], join[:, None]), -1)
    vectored = v.arrival & v.controllable & (~v.lnav | (to_go < params.vector_nm))
    due = jnp.where(_goes_first(v, to_go), memory.due_s - FAR_S, memory.due_s)
    excess = jnp.where(v.established, 0.0, excess)
    return Arrival(to_go, priced, wait, excess, join, wanted, vectored, due), memory


def _clearable(v: View, arrival: Arrival):
    """Whether an approach clearance leads onto localiser and glideslope from below: now, and once on a
    held heading, `[N]` each.

    Either nearly on the localiser already, or on (or turning to) a heading that closes with it at a good
    angle, far enough out to be established before SHORTEST_FINAL_NM.
    """
    side = jnp.sign(v.cross)
    now, then = -v.angle * side, -wrap_pi(v.target_heading - v.heading + v.angle) * side
    off = jnp.arctan2(jnp.abs(v.cross), jnp.maximum(v.along, 0.1))
    gentle = (now > np.deg2rad(-4.0)) & (now < np.deg2rad(30.0))
    window = (off < np.deg2rad(1.2)) & gentle & (jnp.abs(then) < np.deg2rad(30.0)) & (v.along > 0)
    radius = v.ground_speed / 3600.0 / TURN_RAD_S
    across = jnp.abs(v.cross) - radius * jnp.abs(jnp.cos(then) - jnp.cos(now))
    along = v.along - radius * jnp.abs(jnp.sin(now) - jnp.sin(then))
    closing = jnp.clip(then, np.deg2rad(10.0), np.deg2rad(52.0))
    converging = (closing == then) & (now > 0.0) & (across > 0.25)
    meet = jnp.where(window, v.along, along - across / jnp.tan(closing))
    path = jnp.where(window, 0.0, across / jnp.sin(closing) + v.along - along)
    lost = path / jnp.maximum(v.ground_speed, 80.0) * 3600.0 * v.descent
    low = jnp.maximum(v.altitude - lost, v.assigned_altitude)
    slope = v.runway_elevation + GRADIENT_FT_NM * (meet - SETTLING_NM)
    ready = (window | converging) & (meet > SHORTEST_FINAL_NM) & (path < 8.0) & (low < slope)
    ready = v.arrival & ready & (arrival.wait < 1.5) & ~v.cleared
    return ready & (window | v.heading_held), ready


def _path_cost(params: ExpertParams, v: View, track: Track, arrival: Arrival):
    """Detour (nm) under every candidate against the place in the landing sequence, `[N, C]`."""
    at = jax.tree.map(lambda a: a[PATH_STEPS - 1], track)
    which = np.r_[0, HEADING_0:SPEED_0, DIRECT_C]
    left = _to_go(v, at.x[:, which], at.y[:, which], at.heading[:, which])[1]
    flown = v.ground_speed[:, None] / 3600.0 * PATH_STEPS * LOOK_STEP_S
    off = left + flown - (arrival.priced + jnp.maximum(arrival.excess, 0.0))[:, None]
    cost = jnp.where(off > 0.0, off, 0.9 * jnp.maximum(-off - params.slack_nm, 0.0))
    judged = jnp.broadcast_to(cost[:, :1], (v.x.shape[0], CANDIDATES))
    judged = judged.at[:, which].set(cost)
    return jnp.where((arrival.vectored & ~_working(v))[:, None], judged, 0.0)


def _altitude_cost(params: ExpertParams, v: View, arrival: Arrival):
    """Price of the altitude aimed at under every candidate, `[N, C]`."""
    n = v.x.shape[0]
    aim = jnp.broadcast_to(v.target_altitude[:, None], (n, CANDIDATES))
    aim = aim.at[:, ALTITUDE_0:HEADING_0].set(jnp.broadcast_to(v.levels, (n, commands.LEVELS)))
    high = aim - arrival.wanted_ft[:, None]
    weight = jnp.where(high > 0, 1.0, LOW_SHARE) * params.altitude / 1000.0
    unusable = aim < jnp.minimum(v.intercept, arrival.join_ft)[:, None] - 50.0
    inbound = jnp.abs(high) * weight + jnp.where(unusable, params.unusable, 0.0)
    far = jnp.where(IS_ALTITUDE, 2.0, 0.0)
    own = jnp.maximum(v.assigned_altitude, 0.0)[:, None]
    aim_out = jnp.where(IS_ALTITUDE, aim, own)
    outbound = jnp.minimum(jnp.maximum(v.ceiling - aim_out, 0.0) * 0.0006, 5.0)
    settled = (v.cleared & _working(v))[:, None]
    through = IS_ALTITUDE & (aim >= v.ceiling)  # the game lets aircraft out there
    far = far + jnp.where(through, params.boundary, 0.0)
    inbound = inbound + jnp.where(through, params.boundary, 0.0)
    inbound = jnp.where(arrival.vectored[:, None], inbound, far)
    return jnp.where(v.arrival[:, None], jnp.where(settled, 0.0, inbound), outbound)


def _speed_cost(params: ExpertParams, v: View, arrival: Arrival):
    """Price of the speed flown under every candidate, `[N, C]`."""
    late = arrival.excess > 1.0
    slow_nm = jnp.where(arrival.excess > 4.0, 45.0, jnp.where(late, 30.0, 17.0))
    wanted = jnp.where(arrival.to_go < slow_nm, 180.0, 220.0)
    free = ~(arrival.vectored | (v.arrival & late & (arrival.to_go < 45.0)))
    now = jnp.where(v.speed_held, v.assigned_speed, v.target_speed)
    n = v.x.shape[0]
    speed = jnp.broadcast_to(now[:, None], (n, CANDIDATES))
    speed = speed.at[:, SPEED_0:ILS_C].set(jnp.asarray(commands.SPEED_LEVELS_KT, jnp.float32))
    fast = speed - wanted[:, None]
    inbound = jnp.where(fast > 0, fast, -SLOW_SHARE * fast) * params.speed / 40.0
    slowed = jnp.where(v.speed_held, jnp.maximum(300.0 - v.assigned_speed, 0.0) / 80.0, 0.0)
    outbound = jnp.where(IS_SPEED, jnp.maximum(300.0 - speed, 0.0) / 80.0 + 0.3, slowed[:, None])
    landing = (v.established & (v.along < 6.0))[:, None]
    inbound = jnp.where(landing | free[:, None], jnp.where(IS_SPEED, 1.0, 0.0), inbound)
    return jnp.where(v.arrival[:, None], inbound, outbound)


def _route_cost(params: ExpertParams, v: View, arrival: Arrival):
    """Price of leaving or not regaining the route, and of cancelling an approach, `[N, C]`."""
    off_route = IS_HEADING | (np.arange(CANDIDATES) == ILS_C)
    candidate_lnav = (v.lnav[:, None] & ~off_route) | (np.arange(CANDIDATES) == DIRECT_C)
    edge = jnp.clip(params.departure_heading - 2.0 * v.margin, 4.0, params.departure_heading)
    price = jnp.where(v.lnav, params.departure_heading, edge)
    outbound = jnp.where(candidate_lnav, 0.0, price[:, None])
    leave = jnp.where(arrival.vectored, 1.0, 6.0) * params.leave_route
    inbound = jnp.where(v.lnav[:, None] & off_route, leave[:, None], 0.0)
    inbound = inbound + jnp.where(np.arange(CANDIDATES) == DIRECT_C, 1.0, params.heading * IS_HEADING)
    cancels = IS_ALTITUDE | IS_HEADING | (np.arange(CANDIDATES) >= ILS_C)
    keep = jnp.where(v.established, 10.0, 1.0) * params.keep_clearance
    inbound = inbound + jnp.where(_working(v)[:, None] & cancels, keep[:, None], 0.0)
    ready, ready_if_held = _clearable(v, arrival)
    inbound = inbound.at[:, ILS_C].add(jnp.where(ready, -params.ils, 50.0))
    inbound = inbound.at[:, AHEAD_C].add(jnp.where(ready_if_held & ~ready, -params.ils, 0.0))
    return jnp.where(v.arrival[:, None], inbound, outbound)


def _inward(v: View, memory: Memory):
    """Unit vector `[N, 2]` away from the nearest edge of the airspace, which is not itself observed.

    The margin is a distance, so its gradient has length one; how the margin changed along the last step
    leaves two directions, of which the one nearer to the airport is taken. Unknown: towards the airport.
    """
    dx, dy = v.x - memory.x, v.y - memory.y
    step = jnp.hypot(dx, dy)
    known = (step > 0.05) & (step < 3.0)
    change = jnp.clip((v.margin - memory.margin) / jnp.maximum(step, 0.05), -1.0, 1.0)
    along, home = jnp.arctan2(dx, dy), jnp.arctan2(-v.x, -v.y)
    either = along[:, None] + jnp.arccos(change)[:, None] * jnp.asarray([1.0, -1.0])
    best = jnp.argmax(jnp.cos(either - home[:, None]), -1)
    direction = jnp.where(known, jnp.take_along_axis(either, best[:, None], -1)[:, 0], home)
    return jnp.stack([jnp.sin(direction), jnp.cos(direction)], -1)


def _boundary_cost(params: ExpertParams, v: View, memory: Memory, track: Track):
    """Price of leading an arrival out of the airspace, `[N, C]`."""
    inward = _inward(v, memory)
    at = np.asarray(MARGIN_STEPS) - 1
    dx, dy = track.x[at] - v.x[:, None], track.y[at] - v.y[:, None]
    gain = dx * inward[:, 0, None] + dy * inward[:, 1, None]
    risk = jnp.clip((SAFE_MARGIN_NM - v.margin[:, None] - gain) / SAFE_MARGIN_NM, 0.0, 1.0)
    risk = jnp.max(jnp.where(gain < -0.1, risk, 0.0), axis=0)
    return jnp.where(v.arrival[:, None], params.boundary * risk, 0.0)


def prices(params: ExpertParams, memory: Memory, obs: dict) -> tuple[jax.Array, Memory]:
    """Price `[N, C]` of every candidate, before legality, and the memory after it."""
    v = view(obs)
    track = fly(v)
    boundary = _boundary_cost(params, v, memory, track)
    arrival, memory = arrivals(params, v, memory)
    price = (
        params.conflict * severity(v, track, arrival.due_s)
        + _path_cost(params, v, track, arrival)
        + _altitude_cost(params, v, arrival)
        + _speed_cost(params, v, arrival)
        + _route_cost(params, v, arrival)
        + boundary
    )
    return price, memory


def act(params: ExpertParams, memory: Memory, obs: dict, key) -> tuple[jax.Array, Memory]:
    """The action `int32[5]` that saves most, or the no-op; draws nothing from `key`."""
    price, memory = prices(params, memory, obs)
    saving = price[:, :1] - price - params.command
    saving = jnp.where(legal_candidates(obs["action_mask"]), saving, -jnp.inf).at[:, 0].set(-jnp.inf)
    slot, candidate = jnp.divmod(jnp.argmax(saving), CANDIDATES)
    verb = jnp.asarray(VERBS_C)[candidate]
    value = candidate - jnp.asarray(OFFSET_C)[verb + 1]
    values = jnp.where(jnp.arange(3) == verb, value, 0)
    action = jnp.concatenate([jnp.stack([slot, verb]), values])
    noop = jnp.zeros(5, action.dtype).at[0].set(price.shape[0])
    return jnp.where(saving[slot, candidate] > 0.0, action, noop).astype(jnp.int32), memory


def expert(slots: int = 32) -> Policy:
    """The expert for observations of `slots` aircraft; its params are `ExpertParams`."""
    return Policy(init=lambda key: remember(slots), act=act)
