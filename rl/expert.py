"""A rule-based controller that works in the real game, from the observation alone.

At every decision it prices every legal command of every aircraft. What costs: predicted conflicts, detours
from the shortest path to a place in the landing sequence, altitude and speed away from the profile, leaving
the route or the airspace. A point is worth about a nautical mile of extra flying. The command that saves most
is given, if it saves more than a command costs. Letters: N aircraft, C candidate commands, K headings; see
rl.lookahead for the candidates and for the units.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rl.acting import Policy
from rl.arrivals import Arrival, ExpertParams, arrivals, clearable, leads_to_final, to_go_nm
from rl.conflicts import severity
from rl.lookahead import (
    ALTITUDE_0,
    CANDIDATES,
    CHANGES_RAD,
    DIRECT_C,
    HEADING_0,
    ILS_C,
    LOOK_STEP_S,
    SPEED_0,
    Track,
    fly,
    legal_candidates,
)
from rl.picture import Picture, picture
from rl.sequence import Memory, remember, working
from wm.sector import commands

LONG_STEPS = 5  # look-ahead steps after which a path is judged to be too long
SHORT_STEPS = 16  # look-ahead steps after which a path is judged to be too short
MARGIN_STEPS = (4, 7)  # look-ahead steps after which a way out of the airspace is judged
SAFE_MARGIN_NM = 2.0
VERBS_C = np.repeat(
    [commands.ALTITUDE, commands.ALTITUDE, commands.HEADING, commands.SPEED, commands.ILS, commands.DIRECT],
    [1, commands.LEVELS, len(commands.HEADING_CHANGES_DEG), len(commands.SPEED_LEVELS_KT), 1, 1],
).astype(np.int32)
OFFSET_C = np.asarray([0, ALTITUDE_0, HEADING_0, SPEED_0, ILS_C, DIRECT_C], np.int32)
AHEAD_C = HEADING_0 + commands.HEADING_CHANGES_DEG.index(0)
IS_ALTITUDE = (np.arange(CANDIDATES) >= ALTITUDE_0) & (np.arange(CANDIDATES) < HEADING_0)
IS_HEADING = (np.arange(CANDIDATES) >= HEADING_0) & (np.arange(CANDIDATES) < SPEED_0)
IS_SPEED = (np.arange(CANDIDATES) >= SPEED_0) & (np.arange(CANDIDATES) < ILS_C)


def _path_cost(params: ExpertParams, p: Picture, track: Track, arrival: Arrival):
    """Distance (nm) by which every candidate is off the place in the landing sequence, `[N, C]`.

    A path that is too long after LONG_STEPS costs all that it is too long. One that is too short need only
    have begun its detour after SHORT_STEPS: flying on for a while takes no command, turning back and forth
    would. A heading that leads to the final approach is judged by the length of that path.
    """
    which = np.r_[0, HEADING_0:SPEED_0, DIRECT_C]

    def lost(steps):
        at = jax.tree.map(lambda a: a[steps - 1], track)
        left = to_go_nm(p, at.x[:, which], at.y[:, which], at.heading[:, which])[1]
        flown = p.ground_speed[:, None] / 3600.0 * steps * LOOK_STEP_S
        return left + flown - arrival.priced[:, None]

    excess = jnp.maximum(arrival.excess, 0.0)[:, None]
    wanting = jnp.minimum(excess, params.lose_nm) - lost(SHORT_STEPS) - params.slack_nm
    cost = jnp.maximum(lost(LONG_STEPS) - excess, 0.0) + 0.9 * jnp.maximum(wanting, 0.0)
    heading = jnp.concatenate([p.target_heading[:, None], p.heading[:, None] + CHANGES_RAD], -1)
    joins, length = leads_to_final(params, p, arrival, heading)
    joined = jnp.maximum(length - arrival.to_go[:, None] - excess, 0.0) - params.intercept
    cost = cost.at[:, :-1].min(jnp.where(joins, joined, jnp.inf))
    judged = jnp.broadcast_to(cost[:, :1], (p.x.shape[0], CANDIDATES))
    judged = judged.at[:, which].set(cost)
    return jnp.where((arrival.vectored & ~working(p))[:, None], judged, 0.0)


def _altitude_cost(params: ExpertParams, p: Picture, arrival: Arrival):
    """Price of the altitude aimed at under every candidate, `[N, C]`."""
    n = p.x.shape[0]
    aim = jnp.broadcast_to(p.target_altitude[:, None], (n, CANDIDATES))
    aim = aim.at[:, ALTITUDE_0:HEADING_0].set(jnp.broadcast_to(p.levels, (n, commands.LEVELS)))
    high = aim - arrival.wanted_ft[:, None]
    weight = jnp.where(high > 0, 1.0, params.low_share) * params.altitude / 1000.0
    unusable = aim < jnp.minimum(p.approach.intercept_ft, arrival.join_ft)[:, None] - 50.0
    inbound = jnp.abs(high) * weight + jnp.where(unusable, params.unusable, 0.0)
    inbound = inbound + jnp.where(aim > arrival.join_ft[:, None] + 50.0, params.again, 0.0)
    far = jnp.where(IS_ALTITUDE, 2.0, 0.0)
    own = jnp.maximum(p.assigned_altitude, 0.0)[:, None]
    aim_out = jnp.where(IS_ALTITUDE, aim, own)
    outbound = jnp.minimum(jnp.maximum(p.ceiling - aim_out, 0.0) * 0.0006, 5.0)
    settled = (p.cleared & working(p))[:, None]
    through = IS_ALTITUDE & (aim >= p.ceiling)  # the game lets aircraft out there
    far = far + jnp.where(through, params.boundary, 0.0)
    inbound = inbound + jnp.where(through, params.boundary, 0.0)
    descends = arrival.vectored | (arrival.steep > 0.0)
    inbound = jnp.where(descends[:, None], inbound, far)
    return jnp.where(p.arrival[:, None], jnp.where(settled, 0.0, inbound), outbound)


def _speed_cost(params: ExpertParams, p: Picture, arrival: Arrival):
    """Price of the speed flown under every candidate, `[N, C]`."""
    late = arrival.excess > 1.0
    slow_nm = jnp.where(arrival.excess > 4.0, 45.0, jnp.where(late, 30.0, params.near_nm))
    wanted = jnp.where(arrival.to_go < slow_nm, params.near_kt, params.far_kt)
    free = ~(arrival.vectored | (p.arrival & late & (arrival.to_go < 45.0)))
    now = jnp.where(p.speed_held, p.assigned_speed, p.target_speed)
    n = p.x.shape[0]
    speed = jnp.broadcast_to(now[:, None], (n, CANDIDATES))
    speed = speed.at[:, SPEED_0:ILS_C].set(jnp.asarray(commands.SPEED_LEVELS_KT, jnp.float32))
    fast = speed - wanted[:, None]
    inbound = jnp.where(fast > 0, fast, -params.slow_share * fast) * params.speed / 40.0
    slowed = jnp.where(p.speed_held, jnp.maximum(300.0 - p.assigned_speed, 0.0) / 80.0, 0.0)
    outbound = jnp.where(IS_SPEED, jnp.maximum(300.0 - speed, 0.0) / 80.0 + 0.3, slowed[:, None])
    landing = (p.established & (p.approach.along_nm < 6.0))[:, None]
    inbound = jnp.where(landing | free[:, None], jnp.where(IS_SPEED, 1.0, 0.0), inbound)
    return jnp.where(p.arrival[:, None], inbound, outbound)


def _route_cost(params: ExpertParams, p: Picture, arrival: Arrival):
    """Price of leaving or not regaining the route, and of cancelling an approach, `[N, C]`."""
    off_route = IS_HEADING | (np.arange(CANDIDATES) == ILS_C)
    candidate_lnav = (p.lnav[:, None] & ~off_route) | (np.arange(CANDIDATES) == DIRECT_C)
    edge = jnp.clip(params.departure_heading - 2.0 * p.margin, 4.0, params.departure_heading)
    price = jnp.where(p.lnav, params.departure_heading, edge)
    outbound = jnp.where(candidate_lnav, 0.0, price[:, None])
    inbound = jnp.where(np.arange(CANDIDATES) == DIRECT_C, 1.0, jnp.where(IS_HEADING, params.heading, 0.0))
    cancels = IS_ALTITUDE | IS_HEADING | (np.arange(CANDIDATES) >= ILS_C)
    keep = jnp.where(p.established, 10.0, 1.0) * params.keep_clearance
    inbound = inbound + jnp.where(working(p)[:, None] & cancels, keep[:, None], 0.0)
    ready, ready_if_held = clearable(params, p, arrival)
    inbound = inbound.at[:, ILS_C].add(jnp.where(ready, -params.ils, 50.0))
    inbound = inbound.at[:, AHEAD_C].add(jnp.where(ready_if_held & ~ready, -params.ils, 0.0))
    return jnp.where(p.arrival[:, None], inbound, outbound)


def _inward(p: Picture, memory: Memory):
    """Unit vector `[N, 2]` away from the nearest edge of the airspace.

    The edge is not observed, only the distance to it (the margin), whose gradient has length one. How much
    the margin changed along the last step leaves two directions. The one nearer to the airport is taken, and
    the direction to the airport where the last step is unknown.
    """
    dx, dy = p.x - memory.x, p.y - memory.y
    step = jnp.hypot(dx, dy)
    known = (step > 0.05) & (step < 3.0)
    change = jnp.clip((p.margin - memory.margin) / jnp.maximum(step, 0.05), -1.0, 1.0)
    along, home = jnp.arctan2(dx, dy), jnp.arctan2(-p.x, -p.y)
    either = along[:, None] + jnp.arccos(change)[:, None] * np.asarray([1.0, -1.0], np.float32)
    best = jnp.argmax(jnp.cos(either - home[:, None]), -1)
    direction = jnp.where(known, jnp.take_along_axis(either, best[:, None], -1)[:, 0], home)
    return jnp.stack([jnp.sin(direction), jnp.cos(direction)], -1)


def _boundary_cost(params: ExpertParams, p: Picture, memory: Memory, track: Track):
    """Price of leading an arrival out of the airspace, `[N, C]`."""
    inward = _inward(p, memory)
    at = np.asarray(MARGIN_STEPS) - 1
    dx, dy = track.x[at] - p.x[:, None], track.y[at] - p.y[:, None]
    gain = dx * inward[:, 0, None] + dy * inward[:, 1, None]
    risk = jnp.clip((SAFE_MARGIN_NM - p.margin[:, None] - gain) / SAFE_MARGIN_NM, 0.0, 1.0)
    risk = jnp.max(jnp.where(gain < -0.1, risk, 0.0), axis=0)
    return jnp.where(p.arrival[:, None], params.boundary * risk, 0.0)


def prices(params: ExpertParams, memory: Memory, obs: dict) -> tuple[jax.Array, Memory, jax.Array]:
    """Price `[N, C]` of every candidate, legal or not, the memory after it, and who is urgent, bool `[N]`.

    An arrival is urgent when its turn to land is near: what it loses, everybody behind it loses too.
    """
    p = picture(obs)
    track = fly(p)
    boundary = _boundary_cost(params, p, memory, track)
    arrival, memory = arrivals(params, p, memory)
    price = (
        params.conflict * severity(p, track, arrival.place.due_s)
        + _path_cost(params, p, track, arrival)
        + _altitude_cost(params, p, arrival)
        + _speed_cost(params, p, arrival)
        + _route_cost(params, p, arrival)
        + boundary
    )
    free = arrival.vectored & (arrival.place.wait_nm < 2.0) & (arrival.to_go < params.vector_nm)
    urgent = free & ~working(p)
    return price, memory, urgent


def savings(params: ExpertParams, memory: Memory, obs: dict) -> tuple[jax.Array, Memory]:
    """What every candidate saves compared with no command `[N, C]`, and the memory after it.

    Minus infinity where a candidate is illegal, and for no command itself.
    """
    price, memory, urgent = prices(params, memory, obs)
    saving = price[:, :1] - price - params.command
    saving = saving * jnp.where(urgent, params.urgency, 1.0)[:, None]
    legal = legal_candidates(obs["action_mask"])
    return jnp.where(legal, saving, -jnp.inf).at[:, 0].set(-jnp.inf), memory


def no_command(slots: int) -> jax.Array:
    """The action `int32[5]` that commands nobody."""
    return jnp.zeros(5, jnp.int32).at[0].set(slots)


def command_of(slot, candidate) -> jax.Array:
    """The action `int32[5]` that gives an aircraft a candidate command."""
    verb = jnp.asarray(VERBS_C)[candidate]
    value = candidate - jnp.asarray(OFFSET_C)[verb + 1]
    values = jnp.where(jnp.arange(3) == verb, value, 0)
    return jnp.concatenate([jnp.stack([slot, verb]), values]).astype(jnp.int32)


def act(params: ExpertParams, memory: Memory, obs: dict, key) -> tuple[jax.Array, Memory]:
    """The action `int32[5]` that saves most, or the no-op, and the memory after it; `key` is not used."""
    saving, memory = savings(params, memory, obs)
    slot, candidate = jnp.divmod(jnp.argmax(saving), CANDIDATES)
    none, best = no_command(saving.shape[0]), command_of(slot, candidate)
    return jnp.where(saving[slot, candidate] > 0.0, best, none), memory


def expert(slots: int = 32) -> Policy:
    """The expert for observations of `slots` aircraft; its params are `ExpertParams`."""
    return Policy(init=lambda key: remember(slots), act=act)
