"""Reward: named terms in the game's points, computed alike in the real game and the model.

`score` the game's own events, each once per aircraft; `loss` -200 per loss of separation by the
game's rule as it executes it; `stranded` -200 at the end for each arrival still in the air that
had time to land. The game defines a separation penalty but never awards it and its violation
flag sticks (aircraft/AircraftConflict.js), so losses are computed here on the sub-steps.
A `Ledger` carries what has already been counted. Letters: K sub-steps, N slots.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm import geometry
from wm import observe as ob
from wm import traffic as tr
from wm.airport import Airport
from wm.traffic import EVENT_NAMES, EVENT_POINTS, FRAME_S, SubSteps, Traffic

LATERAL_NM = 3.0
VERTICAL_FT = 1000.0
LOW_FT = 990.0  # the game ignores pairs with one below this height above the field
YOUNG_S = 90.0  # ... or with one in its first 90 s
DIVERGING_RAD = jnp.deg2rad(15.0)
DIVERGING_SID_RAD = jnp.deg2rad(10.0)
OPPOSITE_RAD = jnp.deg2rad(135.0)
ESTABLISHED_NM = 0.0822894  # about 500 ft off the centreline
ESTABLISHED_RAD = 0.0872665  # 5 degrees
SEPARATED_FRAMES = round(30.0 / FRAME_S)  # a loss ends after 30 s of separation
LOSS_POINTS = -200.0
STRANDED_POINTS = -200.0
UNIMPEDED_KT = 210.0
VECTORING_NM = 15.0  # added to an arrival's route for its way from the last fix to the runway
GATE_NM = 12.0  # where the shaping potential wants arrivals on the final
TIME_TO_FINISH = 1.5  # a flight had time if this multiple of its unimpeded time was left


@struct.dataclass
class Ledger:
    """What has been counted, per slot `[N]` and pair `[N, N]`."""

    id: jax.Array  # int32, the aircraft the slot's entries are about
    scored: jax.Array  # int32 bit mask of events already paid
    unimpeded_s: jax.Array  # float32, at first contact; 0 before
    due: jax.Array  # bool, had time to finish when it was first controllable
    apart_game: jax.Array  # uint8 frames since the pair last violated, saturating
    apart_raw: jax.Array


def empty_ledger(slots: int) -> Ledger:
    """A ledger that has counted nothing."""
    apart = jnp.full((slots, slots), SEPARATED_FRAMES, jnp.uint8)
    return Ledger(
        id=jnp.full((slots,), -1, jnp.int32),
        scored=jnp.zeros((slots,), jnp.int32),
        unimpeded_s=jnp.zeros((slots,), jnp.float32),
        due=jnp.zeros((slots,), bool),
        apart_game=apart,
        apart_raw=apart,
    )


def established(x_nm, y_nm, track_rad, traffic: Traffic, airport: Airport):
    """Whether an arrival is on its approach course: 500 ft, 5 degrees, before the threshold."""
    runway = jnp.maximum(traffic.runway, 0)
    heading, xy = airport.runway_heading_rad[runway], airport.runway_xy_nm[runway]
    cross, along = geometry.runway_offset(x_nm, y_nm, xy[..., 0], xy[..., 1], heading)
    angle = jnp.abs(geometry.wrap_pi(track_rad - heading))
    on_course = (jnp.abs(cross) <= ESTABLISHED_NM) & (along > 0) & (angle < ESTABLISHED_RAD)
    return on_course & (traffic.category == tr.ARRIVAL) & (traffic.runway >= 0)


def _passed_crossing(dx, dy, track_rad):
    """Whether either of a pair `[..., N, N]` is past the point where their tracks cross."""
    sin, cos = jnp.sin(track_rad), jnp.cos(track_rad)
    ax, ay, bx, by = sin[..., :, None], cos[..., :, None], sin[..., None, :], cos[..., None, :]
    determinant = bx * ay - by * ax
    first = (dy * bx - dx * by) / determinant
    second = (dy * ax - dx * ay) / determinant
    return (first < 0) | (second < 0)


def violations(sub: SubSteps, traffic: Traffic, airborne_s, airport: Airport):
    """Return (game, raw) violating pairs `[..., K, N, N]`, upper triangle.

    `traffic [..., N]` gives runway, route and category; `airborne_s [..., K, N]`. raw is 3 nm and
    1000 ft with no exemption; game adds the game's exemptions as executed (parallel approaches,
    converging courses past their crossing, first 90 s, below 990 ft). Its opposite-course
    exemption never fires: the distance change it tests is always zero.
    """

    def difference(v):
        return v[..., None, :] - v[..., :, None]

    static = jax.tree.map(lambda v: v[..., None, :], traffic)
    dx, dy = difference(sub.x_nm), difference(sub.y_nm)
    lateral = jnp.hypot(dx, dy)
    low = jnp.abs(difference(sub.altitude_ft)) < VERTICAL_FT
    flying = sub.present & (sub.phase > tr.WAITING)
    either = sub.controllable[..., None, :] | sub.controllable[..., :, None]
    n = sub.x_nm.shape[-1]
    upper = jnp.triu(jnp.ones((n, n), bool), 1)
    pair = flying[..., None, :] & flying[..., :, None] & either & upper & low
    raw = pair & (lateral < LATERAL_NM)

    on_course = established(sub.x_nm, sub.y_nm, sub.ground_track_rad, static, airport)
    runway = jnp.maximum(static.runway, 0)
    parallel = airport.parallel_minimum_nm[runway[..., :, None], runway[..., None, :]]
    both = on_course[..., None, :] & on_course[..., :, None] & (parallel >= 0)
    minimum = jnp.where(both & (difference(runway) != 0), parallel, LATERAL_NM)

    leg = jnp.clip(static.leg, 0, airport.route_on_sid.shape[1] - 1)
    on_sid = airport.route_on_sid[jnp.maximum(static.route, 0), leg] & (static.route >= 0)
    both_sid = on_sid[..., None, :] & on_sid[..., :, None]
    angle = jnp.abs(geometry.wrap_pi(difference(sub.heading_rad)))
    crossing = angle >= jnp.where(both_sid, DIVERGING_SID_RAD, DIVERGING_RAD)
    exempt = crossing & (angle <= OPPOSITE_RAD) & _passed_crossing(dx, dy, sub.ground_track_rad)

    counted = (sub.altitude_ft - airport.elevation_ft >= LOW_FT) & (airborne_s >= YOUNG_S)
    counted = counted[..., None, :] & counted[..., :, None]
    return pair & counted & (lateral < minimum) & ~exempt, raw


def count_losses(apart, violating):
    """Advance the pair timers over K frames; return (new losses, timers).

    `apart [N, N]` uint8, `violating [K, N, N]`. A loss is one pair from entry until it has been
    separated for 30 s.
    """

    def frame(timers, now):
        new = now & (timers >= SEPARATED_FRAMES)
        timers = jnp.where(now, 0, jnp.minimum(timers + 1, SEPARATED_FRAMES)).astype(jnp.uint8)
        return timers, jnp.sum(new)

    apart, losses = jax.lax.scan(frame, apart, violating)
    return jnp.sum(losses).astype(jnp.float32), apart


def unimpeded_s(traffic: Traffic, airport: Airport):
    """Unimpeded time to finish `[N]` (s): arrivals their route and 15 nm, others the radius."""
    arrival = ob.route_left_nm(traffic, airport) + VECTORING_NM
    nautical = jnp.where(traffic.category == tr.ARRIVAL, arrival, airport.radius_nm)
    return nautical / UNIMPEDED_KT * 3600.0


def _contact(ledger: Ledger, after: Traffic, remaining_s, airport: Airport):
    """Open entries for new aircraft and note each flight's first contact and whether it is due."""
    same = ledger.id == after.id
    fresh_pair = same[:, None] & same[None, :]

    def kept(value, default):
        return jnp.where(same, value, default)

    known = kept(ledger.unimpeded_s, 0.0)
    departed = (after.category != tr.DEPARTURE) | (after.phase > tr.WAITING)
    contact = after.valid & after.controllable & departed & (known == 0.0)
    needed = unimpeded_s(after, airport)
    due = contact & (remaining_s >= TIME_TO_FINISH * needed)
    ledger = Ledger(
        id=after.id,
        scored=kept(ledger.scored, 0),
        unimpeded_s=jnp.where(contact, needed, known),
        due=kept(ledger.due, False) | due,
        apart_game=jnp.where(fresh_pair, ledger.apart_game, SEPARATED_FRAMES),
        apart_raw=jnp.where(fresh_pair, ledger.apart_raw, SEPARATED_FRAMES),
    )
    return ledger, due


def _pay(ledger: Ledger, events):
    """Return (events paid now `[N, E]` bool, ledger): each event once per aircraft."""
    bits = 1 << jnp.arange(len(EVENT_NAMES), dtype=jnp.int32)
    already = (ledger.scored[:, None] & bits) > 0
    now = events & ~already
    return now, ledger.replace(scored=ledger.scored | jnp.sum(jnp.where(now, bits, 0), -1))


def step_reward(
    ledger: Ledger,
    before: Traffic,
    after: Traffic,
    sub: SubSteps,
    events,
    unassigned_points,
    remaining_s,
    airport: Airport,
):
    """Account for one decision; return (terms, metrics, ledger).

    before, after: traffic `[N]` around the step, same slots; a slot is not reused within a step.
    events `[N, E]` bool by slot of `before` or, for aircraft new in the step, of `after`.
    unassigned_points: points of events of no slot (already paid once per aircraft).
    remaining_s: time left in the episode after this step; <= 0 on the last one.
    terms: score, loss, stranded (points, unweighted). metrics: counts for reports.
    """
    during = jax.tree.map(lambda b, a: jnp.where(before.valid, b, a), before, after)
    ledger, opened = _contact(ledger, during, remaining_s, airport)
    frames = sub.x_nm.shape[-2]
    age = jnp.where(during.airborne_s >= 0, during.airborne_s, -1e6)
    offset = jnp.where(before.valid, jnp.arange(1, frames + 1)[:, None], 0) * FRAME_S
    game, raw = violations(sub, during, age[None] + offset, airport)
    loss_game, apart_game = count_losses(ledger.apart_game, game)
    loss_raw, apart_raw = count_losses(ledger.apart_raw, raw)
    ledger = ledger.replace(apart_game=apart_game, apart_raw=apart_raw)
    paid, ledger = _pay(ledger, events)
    arrival = during.category == tr.ARRIVAL
    landed = paid[:, EVENT_NAMES.index("ARRIVAL")]
    stranded = jnp.sum(after.valid & arrival & ledger.due & ~landed & (remaining_s <= 0))
    terms = {
        "score": jnp.sum(paid @ EVENT_POINTS) + unassigned_points,
        "loss": LOSS_POINTS * loss_game,
        "stranded": STRANDED_POINTS * stranded.astype(jnp.float32),
    }

    def total(where):
        return jnp.sum(where).astype(jnp.float32)

    metrics = {name.lower(): total(paid[:, i]) for i, name in enumerate(EVENT_NAMES)}
    metrics |= {
        "loss_game": loss_game,
        "loss_raw": loss_raw,
        "arrivals_due": total(opened & arrival),
        "departures_due": total(opened & ~arrival),
        "landed_due": total(landed & ledger.due),
        "stranded": stranded.astype(jnp.float32),
        "flight_hours": total(after.valid & after.controllable & (after.phase > tr.WAITING))
        * tr.STEP_S / 3600.0,
    }
    return terms, metrics, ledger


def potential(traffic: Traffic, airport: Airport):
    """Shaping potential `[...]` in points: how far each controllable aircraft is on its way.

    Arrivals gain as they near a gate 12 nm out on the final at the intercept altitude, more
    when cleared, established and landing; departures as they climb on their route. Used only as a
    potential difference, so it cannot change which policy is best, and never in a reported figure.
    """
    way = ob.runway_geometry(traffic, airport)
    intercept = airport.runway_intercept_ft[jnp.maximum(traffic.runway, 0)]
    gate = jnp.hypot(way["cross_nm"], way["along_nm"] - GATE_NM)
    high = jnp.maximum(traffic.altitude_ft - intercept, 0.0) / 1000.0
    arrival = 10.0 * jnp.exp(-(gate + 2.0 * high) / 20.0)
    on_course = established(
        traffic.x_nm, traffic.y_nm, traffic.ground_track_rad, traffic, airport
    )
    below = traffic.altitude_ft <= way["glideslope_ft"] + 100.0
    arrival = jnp.where(traffic.approach_clearance, arrival + 3.0, arrival)
    arrival = jnp.where(traffic.approach_clearance & on_course & below, 16.0, arrival)
    arrival = jnp.where(traffic.phase == tr.LANDING, 19.0, arrival)
    climbed = jnp.clip(traffic.altitude_ft / airport.ceiling_ft, 0.0, 1.0)
    on_route = traffic.heading_mode == tr.HEADING_LNAV
    departure = 3.0 * climbed + 2.0 * on_route
    inside = traffic.valid & traffic.controllable
    value = jnp.where(traffic.category == tr.ARRIVAL, arrival, departure)
    return jnp.sum(jnp.where(inside, value, 0.0), -1)
