"""Reward: named terms in the game's points, computed alike in the real game and the model.

`score` the game's own events, each once per aircraft; `loss` -200 per loss of separation by the
game's rule as it executes it; `stranded` -200 at the end for each arrival still in the airspace that
had time to land. The game defines a separation penalty but never awards it and its violation
flag sticks (aircraft/AircraftConflict.js), so losses are computed here on the sub-steps.
A `Ledger` carries what has already been counted. Letters: K sub-steps, N slots, D = N // 2: a pair of
aircraft is an entry of `[D, N]`, see wm.sector.pairs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import geometry, pairs
from wm.sector import observe as ob
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import EVENT_NAMES, EVENT_POINTS, FRAME_S, SubSteps, Traffic

LATERAL_NM = 3.0
VERTICAL_FT = 1000.0
LOW_FT = 990.0  # the game ignores pairs with one below this height above the field
YOUNG_S = 90.0  # ... or with one in its first 90 s
DIVERGING_RAD = np.deg2rad(15.0)
DIVERGING_SID_RAD = np.deg2rad(10.0)
OPPOSITE_RAD = np.deg2rad(135.0)
ESTABLISHED_NM = 0.0822894  # about 500 ft off the centreline
ESTABLISHED_RAD = 0.0872665  # 5 degrees
SEPARATED_FRAMES = round(30.0 / FRAME_S)  # a loss ends after 30 s of separation
UNROLL = 5  # frames judged in one compiled loop body
LOSS_POINTS = -200.0
STRANDED_POINTS = -200.0
UNIMPEDED_KT = 210.0
VECTORING_NM = 15.0  # added to an arrival's route for its way from the last fix to the runway
GATE_NM = 12.0  # where the shaping potential wants arrivals on the final
TIME_TO_FINISH = 1.5  # a flight had time if this multiple of its unimpeded time was left


@struct.dataclass
class Ledger:
    """What has been counted, per slot `[N]` and pair `[D, N]`."""

    id: jax.Array  # int32, the aircraft the slot's entries are about
    scored: jax.Array  # int32 bit mask of events already paid
    unimpeded_s: jax.Array  # float32, at first contact; 0 before
    due: jax.Array  # bool, had time to finish when it was first controllable
    apart_game: jax.Array  # uint8 frames since the pair last violated, saturating
    apart_raw: jax.Array


def empty_ledger(slots: int) -> Ledger:
    """A ledger that has counted nothing."""
    apart = jnp.full((slots // 2, slots), SEPARATED_FRAMES, jnp.uint8)
    return Ledger(
        id=jnp.full((slots,), -1, jnp.int32),
        scored=jnp.zeros((slots,), jnp.int32),
        unimpeded_s=jnp.zeros((slots,), jnp.float32),
        due=jnp.zeros((slots,), bool),
        apart_game=apart,
        apart_raw=apart,
    )


@struct.dataclass
class Course:
    """The assigned runway's approach course, `[..., N]` each."""

    x_nm: jax.Array  # landing threshold
    y_nm: jax.Array
    heading_rad: jax.Array
    sin: jax.Array  # of the heading
    cos: jax.Array
    flown: jax.Array  # bool, by an arrival that has a runway


def course(traffic: Traffic, airport: Airport) -> Course:
    """Look up the approach courses of traffic `[..., N]`."""
    runway = jnp.maximum(traffic.runway, 0)
    xy = airport.runway_xy_nm[runway]
    flown = (traffic.category == tr.ARRIVAL) & (traffic.runway >= 0)
    heading = airport.runway_heading_rad[runway]
    return Course(xy[..., 0], xy[..., 1], heading, jnp.sin(heading), jnp.cos(heading), flown)


def course_offset(x_nm, y_nm, way: Course):
    """(cross, along) in nm of positions, as geometry.runway_offset gives them."""
    return geometry.line_offset(x_nm, y_nm, way.x_nm, way.y_nm, way.sin, way.cos)


def on_course(x_nm, y_nm, track_rad, way: Course):
    """Whether an arrival is on its approach course: 500 ft, 5 degrees, before the threshold."""
    cross, along = course_offset(x_nm, y_nm, way)
    angle = jnp.abs(geometry.wrap_pi(track_rad - way.heading_rad))
    return (jnp.abs(cross) <= ESTABLISHED_NM) & (along > 0) & (angle < ESTABLISHED_RAD) & way.flown


def established(x_nm, y_nm, track_rad, traffic: Traffic, airport: Airport):
    """`on_course` for traffic whose courses have not been looked up."""
    return on_course(x_nm, y_nm, track_rad, course(traffic, airport))


@struct.dataclass
class PairRule:
    """What the separation rule asks of each aircraft `[..., N]` and pair `[..., D, N]` in a step."""

    course: Course
    on_sid: jax.Array  # bool [..., N]
    parallel_nm2: jax.Array  # squared minimum where both are established
    elevation_ft: jax.Array  # []


def pair_rule(traffic: Traffic, airport: Airport) -> PairRule:
    """Look up everything of the rule that does not change from frame to frame."""
    runway = jnp.maximum(traffic.runway, 0)
    first, second = pairs.both_sides(runway)
    parallel = airport.parallel_minimum_nm[first, second]
    minimum = jnp.where((parallel >= 0) & (first != second), parallel, LATERAL_NM)
    leg = jnp.clip(traffic.leg, 0, airport.route_on_sid.shape[1] - 1)
    on_sid = airport.route_on_sid[jnp.maximum(traffic.route, 0), leg] & (traffic.route >= 0)
    return PairRule(course(traffic, airport), on_sid, minimum**2, airport.elevation_ft)


def _both(flag):
    first, second = pairs.both_sides(flag)
    return first & second


def _difference(value):
    first, second = pairs.both_sides(value)
    return second - first


def _exempt_by_course(s: SubSteps, dx, dy, on_sid):
    """Whether courses diverge enough and one of a pair is past the point where their tracks cross.

    Angles are compared by their cosines, quotients by the sign of numerator times denominator.
    """
    (ax, bx), (ay, by) = (pairs.both_sides(f(s.ground_track_rad)) for f in (jnp.sin, jnp.cos))
    determinant = bx * ay - by * ax
    first = (dy * bx - dx * by) * determinant
    second = (dy * ax - dx * ay) * determinant
    east, north = (pairs.both_sides(f(s.heading_rad)) for f in (jnp.sin, jnp.cos))
    cosine = east[0] * east[1] + north[0] * north[1]
    diverging = jnp.where(_both(on_sid), np.cos(DIVERGING_SID_RAD), np.cos(DIVERGING_RAD))
    crossing = (cosine <= diverging) & (cosine >= np.cos(OPPOSITE_RAD))
    return crossing & ((first < 0) | (second < 0))


def judge(s: SubSteps, airborne_s, rule: PairRule):
    """Return (game, raw) violating pairs `[..., D, N]` of frames `[..., N]`.

    raw is 3 nm and 1000 ft with no exemption; game adds the game's exemptions as executed
    (parallel approaches, converging courses past their crossing, first 90 s, below 990 ft). Its
    opposite-course exemption never fires: the distance change it tests is always zero.
    """
    dx, dy = _difference(s.x_nm), _difference(s.y_nm)
    lateral2 = dx * dx + dy * dy
    low = jnp.abs(_difference(s.altitude_ft)) < VERTICAL_FT
    controllable, other = pairs.both_sides(s.controllable)
    pair = _both(s.present & (s.phase > tr.WAITING)) & (controllable | other) & low
    pair = pair & pairs.once(s.x_nm.shape[-1])
    raw = pair & (lateral2 < LATERAL_NM**2)

    lined_up = on_course(s.x_nm, s.y_nm, s.ground_track_rad, rule.course)
    minimum2 = jnp.where(_both(lined_up), rule.parallel_nm2, LATERAL_NM**2)
    counted = (s.altitude_ft - rule.elevation_ft >= LOW_FT) & (airborne_s >= YOUNG_S)
    exempt = _exempt_by_course(s, dx, dy, rule.on_sid)
    return pair & (lateral2 < minimum2) & _both(counted) & ~exempt, raw


def violations(sub: SubSteps, traffic: Traffic, airborne_s, airport: Airport):
    """`judge` on all sub-steps at once: `[..., K, D, N]` each.

    `traffic [..., N]` gives runway, route and category; `airborne_s [..., K, N]`.
    """
    frames = jax.tree.map(lambda v: v[..., None, :], traffic)
    return judge(sub, airborne_s, pair_rule(frames, airport))


def count_frame(apart, losses, violating):
    """Advance pair timers `apart` and loss counts by one frame; all `[D, N]`, the first two uint8.

    A loss is one pair from entry until it has been separated for 30 s.
    """
    new = violating & (apart >= SEPARATED_FRAMES)
    apart = jnp.where(violating, 0, jnp.minimum(apart + 1, SEPARATED_FRAMES)).astype(jnp.uint8)
    return apart, losses + new.astype(jnp.uint8)


def count_losses(apart, violating):
    """`count_frame` over `violating [K, D, N]`; return (new losses, timers)."""

    def frame(carry, now):
        return count_frame(*carry, now), None

    (apart, losses), _ = jax.lax.scan(frame, (apart, jnp.zeros_like(apart)), violating)
    return jnp.sum(losses.astype(jnp.float32)), apart


def _separation(ledger: Ledger, before: Traffic, during: Traffic, sub: SubSteps, airport: Airport):
    """Judge and count every frame in one loop, so that no array of pairs outlives its frame.

    Returns (losses by the game's rule, losses by the raw one, ledger).
    """
    rule = pair_rule(during, airport)
    age = jnp.where(during.airborne_s >= 0, during.airborne_s, -1e6)
    none = jnp.zeros_like(ledger.apart_game)

    def frame(word, now):
        number, s = now
        airborne_s = age + jnp.where(before.valid, number * FRAME_S, 0.0)
        judged = judge(s, airborne_s, rule)
        apart_game, game, apart_raw, raw = _unpack(word)
        game = count_frame(apart_game, game, judged[0])
        return _pack(*game, *count_frame(apart_raw, raw, judged[1])), None

    frames = jnp.arange(1, sub.x_nm.shape[0] + 1)
    word = _pack(ledger.apart_game, none, ledger.apart_raw, none)
    word, _ = jax.lax.scan(frame, word, (frames, sub), unroll=UNROLL)
    apart_game, game, apart_raw, raw = _unpack(word)
    losses = [jnp.sum(count.astype(jnp.float32)) for count in (game, raw)]
    return *losses, ledger.replace(apart_game=apart_game, apart_raw=apart_raw)


def _pack(*columns):
    """Four uint8 arrays as one uint32: a loop that carries one array judges a pair only once."""
    return sum(column.astype(jnp.uint32) << (8 * i) for i, column in enumerate(columns))


def _unpack(word):
    return [(word >> (8 * i)).astype(jnp.uint8) for i in range(4)]


def unimpeded_s(traffic: Traffic, airport: Airport):
    """Unimpeded time to finish `[N]` (s): arrivals their route and 15 nm, others the radius."""
    arrival = ob.route_left_nm(traffic, airport) + VECTORING_NM
    nautical = jnp.where(traffic.category == tr.ARRIVAL, arrival, airport.radius_nm)
    return nautical / UNIMPEDED_KT * 3600.0


def _contact(ledger: Ledger, after: Traffic, remaining_s, airport: Airport):
    """Open entries for new aircraft and note each flight's first contact and whether it is due."""
    same = ledger.id == after.id
    same_pair = _both(same)

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
        apart_game=jnp.where(same_pair, ledger.apart_game, SEPARATED_FRAMES),
        apart_raw=jnp.where(same_pair, ledger.apart_raw, SEPARATED_FRAMES),
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
    loss_game, loss_raw, ledger = _separation(ledger, before, during, sub, airport)
    paid, ledger = _pay(ledger, events)
    arrival = during.category == tr.ARRIVAL
    landed = paid[:, EVENT_NAMES.index("ARRIVAL")]
    # An arrival that has left the airspace has paid for it; the real game still shows it, the model doesn't.
    inside = after.valid & after.controllable
    stranded = jnp.sum(inside & arrival & ledger.due & ~landed & (remaining_s <= 0))
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
    # Summed in a kernel of its own: one that reduces is slow at all else that the compiler would put into it.
    return jnp.sum(jax.lax.optimization_barrier(jnp.where(inside, value, 0.0)), -1)
