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
from rl.sequence import Memory, Sequence, remember, sequence, working
from wm.sector import commands
from wm.sector.geometry import wrap_pi

FAR_FT = 1e5
SHORTEST_FINAL_NM = 6.5
SETTLING_NM = 0.8  # flown while turning onto the localiser
LOW_SHARE = 0.25  # price of being below the profile, or slower than wanted, as a share of the opposite
SLOW_SHARE = 0.6
PATH_STEPS = 5  # look-ahead steps after which a path is judged too long ...
FAR_STEPS = 16  # ... and too short: what will be lost by then need not be lost at once
MARGIN_STEPS = (4, 7)  # look-ahead steps after which a way out of the airspace is judged
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
    """The expert's prices (points) and geometry; tuned on training seeds, real and imagined."""

    command: float = 0.4  # what a command must save
    heading: float = 0.2  # ... and a heading on top
    conflict: float = 60.0  # a certain loss of separation
    spacing_s: float = 70.0  # between landings
    slack_nm: float = 0.8  # how much too early an arrival may be
    early_nm: float = 1.0  # ... and by how much it may be cleared for the approach too early
    lose_nm: float = 1.5  # of what there is to lose, what has to be seen within FAR_STEPS
    urgency: float = 8.0  # weight of what an arrival saves whose turn it is to land
    vector_nm: float = 26.0  # distance to go from which an arrival is vectored off its route
    departure_heading: float = 25.0  # a departure taken off its route
    keep_clearance: float = 40.0  # cancelling an approach that works
    ils: float = 8.0  # what an approach clearance is worth
    intercept: float = 1.5  # ... and a heading on which it can be given
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
    place: Sequence
    excess: jax.Array  # nm to lose behind the aircraft ahead and for the descent
    steep: jax.Array  # ... for the descent alone
    join_ft: jax.Array  # altitude to meet the localiser at
    wanted_ft: jax.Array  # altitude level of the descent profile here
    vectored: jax.Array  # bool


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


def _to_join_nm(v: View):
    """Distance to go `[N]` on the present heading to the localiser and along it."""
    closing = jnp.clip(-v.angle * jnp.sign(v.cross), np.deg2rad(10.0), np.deg2rad(60.0))
    across = jnp.abs(v.cross)
    return v.along - across / jnp.tan(closing) + across / jnp.sin(closing)


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
    to_go = jnp.where(working(v), _to_join_nm(v), to_go)
    to_go = jnp.where(v.established, v.along, to_go)
    join = _join_altitude(v, to_go)
    steep = (v.altitude - join) / params.descent_ft_nm + 10.0 - to_go
    steep = jnp.where(v.established, 0.0, steep)
    place, memory = sequence(params.spacing_s, v, memory, to_go)
    excess = jnp.where(v.established, 0.0, jnp.maximum(place.wait_nm, steep))
    profile = join + jnp.maximum(to_go + jnp.maximum(place.wait_nm, 0.0) - 14.0, 0.0) * params.profile_ft_nm
    fits = (v.levels[None] <= profile[:, None] + 300.0) & (v.levels[None] >= join[:, None])
    wanted = jnp.max(jnp.where(fits, v.levels[None], join[:, None]), -1)
    vectored = v.arrival & v.controllable & (~v.lnav | (to_go < params.vector_nm) | v.fix_is_vector[:, 0])
    return Arrival(to_go, priced, place, excess, steep, join, wanted, vectored), memory


def _leads_to_final(params: ExpertParams, v: View, arrival: Arrival, heading):
    """Whether holding `heading [N, K]` (rad) leads onto localiser and glideslope from below; nm to fly then.

    Both `[N, K]`. The heading closes with the localiser at a good angle, far enough out to be established
    before SHORTEST_FINAL_NM, and nobody has to be waited for.
    """
    side = jnp.sign(v.cross)[:, None]
    now, then = (-v.angle)[:, None] * side, -wrap_pi(heading - (v.heading - v.angle)[:, None]) * side
    radius = (v.ground_speed / 3600.0 / TURN_RAD_S)[:, None]
    across = jnp.abs(v.cross)[:, None] - radius * jnp.abs(jnp.cos(then) - jnp.cos(now))
    along = v.along[:, None] - radius * jnp.abs(jnp.sin(now) - jnp.sin(then))
    closing = jnp.clip(then, np.deg2rad(10.0), np.deg2rad(52.0))
    converging = (closing == then) & (now > 0.0) & (across > 0.25)
    meet = along - across / jnp.tan(closing)
    path = across / jnp.sin(closing) + v.along[:, None] - along
    return converging & _from_below(params, v, arrival, meet, path) & (path < 8.0), path + meet


def _from_below(params: ExpertParams, v: View, arrival: Arrival, meet, path):
    """Whether the localiser met at `meet [N, K]` (nm out) after `path` (nm) leaves room for an approach."""
    lost = path / jnp.maximum(v.ground_speed, 80.0)[:, None] * 3600.0 * v.descent[:, None]
    low = jnp.maximum(v.altitude[:, None] - lost, v.assigned_altitude[:, None])
    slope = v.runway_elevation[:, None] + GRADIENT_FT_NM * (meet - SETTLING_NM)
    free = v.arrival & (arrival.place.wait_nm < params.early_nm) & ~v.cleared & ~arrival.place.abreast
    return free[:, None] & (meet > SHORTEST_FINAL_NM) & (low < slope)


def _clearable(params: ExpertParams, v: View, arrival: Arrival):
    """Whether an approach clearance works: now, and once on a held heading, `[N]` each.

    Either nearly on the localiser already, or on (or turning to) a heading that leads to it.
    """
    side = jnp.sign(v.cross)
    now, then = -v.angle * side, -wrap_pi(v.target_heading - v.heading + v.angle) * side
    off = jnp.arctan2(jnp.abs(v.cross), jnp.maximum(v.along, 0.1))
    gentle = (now > np.deg2rad(-4.0)) & (now < np.deg2rad(30.0))
    window = (off < np.deg2rad(1.2)) & gentle & (jnp.abs(then) < np.deg2rad(30.0)) & (v.along > 0)
    window = window & _from_below(params, v, arrival, v.along[:, None], 0.0)[:, 0]
    converging = _leads_to_final(params, v, arrival, v.target_heading[:, None])[0][:, 0]
    ready = window | converging
    return ready & (window | v.heading_held), ready


def _path_cost(params: ExpertParams, v: View, track: Track, arrival: Arrival):
    """Detour (nm) under every candidate against the place in the landing sequence, `[N, C]`.

    Too long a path costs at once. What is to be lost need only begin to be lost: a leg flown on costs no
    command, and turns back and forth would. A heading that leads to the final is judged by its own length.
    """
    which = np.r_[0, HEADING_0:SPEED_0, DIRECT_C]

    def lost(steps):
        at = jax.tree.map(lambda a: a[steps - 1], track)
        left = _to_go(v, at.x[:, which], at.y[:, which], at.heading[:, which])[1]
        flown = v.ground_speed[:, None] / 3600.0 * steps * LOOK_STEP_S
        return left + flown - arrival.priced[:, None]

    excess = jnp.maximum(arrival.excess, 0.0)[:, None]
    wanting = jnp.minimum(excess, params.lose_nm) - lost(FAR_STEPS) - params.slack_nm
    cost = jnp.maximum(lost(PATH_STEPS) - excess, 0.0) + 0.9 * jnp.maximum(wanting, 0.0)
    changes = np.deg2rad(np.asarray(commands.HEADING_CHANGES_DEG, np.float32))
    heading = jnp.concatenate([v.target_heading[:, None], v.heading[:, None] + changes], -1)
    joins, length = _leads_to_final(params, v, arrival, heading)
    joined = jnp.maximum(length - arrival.to_go[:, None] - excess, 0.0) - params.intercept
    cost = cost.at[:, :-1].min(jnp.where(joins, joined, jnp.inf))
    judged = jnp.broadcast_to(cost[:, :1], (v.x.shape[0], CANDIDATES))
    judged = judged.at[:, which].set(cost)
    return jnp.where((arrival.vectored & ~working(v))[:, None], judged, 0.0)


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
    settled = (v.cleared & working(v))[:, None]
    through = IS_ALTITUDE & (aim >= v.ceiling)  # the game lets aircraft out there
    far = far + jnp.where(through, params.boundary, 0.0)
    inbound = inbound + jnp.where(through, params.boundary, 0.0)
    descends = arrival.vectored | (arrival.steep > 0.0)
    inbound = jnp.where(descends[:, None], inbound, far)
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
    inbound = jnp.where(np.arange(CANDIDATES) == DIRECT_C, 1.0, params.heading * IS_HEADING)
    cancels = IS_ALTITUDE | IS_HEADING | (np.arange(CANDIDATES) >= ILS_C)
    keep = jnp.where(v.established, 10.0, 1.0) * params.keep_clearance
    inbound = inbound + jnp.where(working(v)[:, None] & cancels, keep[:, None], 0.0)
    ready, ready_if_held = _clearable(params, v, arrival)
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


def prices(params: ExpertParams, memory: Memory, obs: dict) -> tuple[jax.Array, Memory, jax.Array]:
    """Price `[N, C]` of every candidate, before legality, the memory after it, and who cannot wait `[N]`.

    What an arrival misses whose turn it is to land, everybody behind it loses too.
    """
    v = view(obs)
    track = fly(v)
    boundary = _boundary_cost(params, v, memory, track)
    arrival, memory = arrivals(params, v, memory)
    price = (
        params.conflict * severity(v, track, arrival.place.due_s)
        + _path_cost(params, v, track, arrival)
        + _altitude_cost(params, v, arrival)
        + _speed_cost(params, v, arrival)
        + _route_cost(params, v, arrival)
        + boundary
    )
    free = arrival.vectored & (arrival.place.wait_nm < 2.0) & (arrival.to_go < params.vector_nm)
    urgent = free & ~working(v)
    return price, memory, urgent


def act(params: ExpertParams, memory: Memory, obs: dict, key) -> tuple[jax.Array, Memory]:
    """The action `int32[5]` that saves most, or the no-op; draws nothing from `key`."""
    price, memory, urgent = prices(params, memory, obs)
    saving = price[:, :1] - price - params.command
    saving = saving * jnp.where(urgent, params.urgency, 1.0)[:, None]
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
