"""openScope's autopilot, tower and airspace written by hand: a yardstick for what the network learns.

`step` takes and returns what a step of the learned model does. It moves aircraft with the same kinematics,
but computes on every frame, in the game's order, what the network has to predict. Facts of openScope 6.29:
AircraftModel.updateFlightPhase, updateTarget, _updateAircraftControllability; ScoreController. Left out:
holds, restricted areas, and what a removal does to the game's list. Letters: N aircraft, R runways, L legs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import approach, geometry
from wm.sector import traffic as tr
from wm.sector.airport import FINAL_APPROACH_FIX_NM, Airport, airspace_margin_nm
from wm.sector.route import current_leg, restrictions
from wm.sector.traffic import EVENT_NAMES, FRAMES_PER_STEP, Runways, Scene, SubSteps, Traffic
from wm.sector.wind import air_of
from wm.state import kinematics as kn
from wm.state import spawn as sp
from wm.state import transition
from wm.state.features import TAKEOFF_TURN_FT
from wm.state.network import BUST, CONTACT, HANDED_OFF, LANDED, NEVER, OFF_ROUTE, STAY

GLIDEPATH_FT = 100.0  # an approach farther off the glideslope than this is missed
STOPPED_KT = 5.0
WINDOW_RAD = jnp.deg2rad(1.5)  # off the localizer, within which it is flown whatever the assigned heading
EARLY_NM = 0.5  # how far before it the turn onto the localizer begins
PASSED_NM, FLY_BY_NM = 0.5, 5.0  # a fix counts as passed within the one; turns begin within the other


@struct.dataclass
class Place:
    """Where the approach to its runway has each aircraft on a frame, `[N]` each."""

    course: approach.Course
    along_nm: jax.Array
    established: jax.Array  # bool, on the course
    glideslope_ft: jax.Array


def _place(t: Traffic, airport: Airport) -> Place:
    course = approach.course(t, airport)
    _, along = approach.offset(t.x_nm, t.y_nm, course)
    return Place(
        course=course,
        along_nm=along,
        established=approach.on_course(t.x_nm, t.y_nm, t.ground_track_rad, course),
        glideslope_ft=approach.glideslope_ft(along, course),
    )


def _released(t: Traffic, runways: Runways, airport: Airport):
    """Which waiting aircraft `[N]` the tower lets go: the first in a queue, the last departure far enough."""
    runway = jnp.maximum(t.runway, 0)
    last = runways.last_departure[runway]
    same = (t.id[None, :] == last[:, None]) & t.valid[None, :]
    here, at = jnp.any(same, -1), jnp.argmax(same, -1)
    flown = jnp.hypot(t.x_nm[at] - t.x_nm, t.y_nm[at] - t.y_nm)
    distance = jnp.where(here, flown, runways.last_departure_distance_nm[runway])
    clear = sp.tower_clears(t, runways, distance, here & kn.on_ground(t, airport)[at])
    return t.valid & (t.phase == tr.WAITING) & (t.queue_position == 0) & clear


def _phases(t: Traffic, runways: Runways, airport: Airport):
    """Traffic `[N]` and runways after the frame's changes of phase, and who met the localizer too high."""
    here = _place(t, airport)
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    goes = _released(t, runways, airport)
    above = t.altitude_ft - here.glideslope_ft
    final = (t.phase == tr.APPROACH) & here.established & (here.along_nm <= FINAL_APPROACH_FIX_NM)
    missed = final & (jnp.abs(above) > GLIDEPATH_FT)
    joins = (t.phase == tr.DESCENT) & t.approach_clearance & here.established
    climbs = (t.phase == tr.TAKEOFF) & (t.altitude_ft - field > TAKEOFF_TURN_FT)
    level = t.altitude_ft == t.flight_plan_altitude_ft
    below = t.altitude_ft < t.flight_plan_altitude_ft
    phase = t.phase
    for change, new in (
        (goes, tr.TAKEOFF),
        (climbs, tr.CLIMB),
        ((t.phase == tr.CLIMB) & level, tr.CRUISE),
        (((t.phase == tr.CRUISE) & below) | missed, tr.DESCENT),
        (joins, tr.APPROACH),
        (final & ~missed, tr.LANDING),
    ):
        phase = jnp.where(change, new, phase)
    unassigned = {n: goes & (getattr(t, n) < 0) for n in ("assigned_altitude_ft", "assigned_speed_kt")}
    altitude = jnp.where(
        unassigned["assigned_altitude_ft"],
        airport.route_initial_ft[jnp.maximum(t.route, 0)],
        jnp.where(missed, transition.missed_approach_ft(t.altitude_ft, field), t.assigned_altitude_ft),
    )
    heading = jnp.where(goes & (t.assigned_heading_rad < 0), here.course.heading_rad, t.assigned_heading_rad)
    on = lambda mode, name: jnp.where(goes & (getattr(t, name) == tr.MODE_OFF), mode, getattr(t, name))  # noqa: E731
    t = t.replace(
        phase=phase,
        autopilot=t.autopilot | climbs,
        approach_clearance=t.approach_clearance & ~missed,
        assigned_altitude_ft=altitude,
        assigned_heading_rad=jnp.where(missed, t.heading_rad, heading),
        assigned_speed_kt=jnp.where(unassigned["assigned_speed_kt"], t.cruise_speed_kt, t.assigned_speed_kt),
        altitude_mode=jnp.where(missed, tr.MODE_HOLD, on(tr.MODE_HOLD, "altitude_mode")),
        heading_mode=jnp.where(missed, tr.MODE_HOLD, on(tr.HEADING_LNAV, "heading_mode")),
        speed_mode=on(tr.SPEED_N1, "speed_mode"),
    )
    return t, _departed(t, goes, runways), joins & (above > GLIDEPATH_FT)


def _departed(t: Traffic, goes, runways: Runways) -> Runways:
    """Runways after the departures `goes [N]`, one a runway at most."""
    used = jax.nn.one_hot(t.runway, runways.last_departure.shape[-1], dtype=bool) & goes[:, None]
    any_went, slot = jnp.any(used, 0), jnp.argmax(used, 0)
    return runways.replace(
        last_departure=jnp.where(any_went, t.id[slot], runways.last_departure),
        last_departure_class=jnp.where(any_went, t.runway_class[slot], runways.last_departure_class),
    )


def _altitude(t: Traffic, here: Place, airport: Airport):
    """Target altitude `[N]` (ft) of an engaged autopilot."""
    wanted = t.assigned_altitude_ft
    glide = jnp.where(here.established, jnp.minimum(wanted, here.glideslope_ft), wanted)
    landing = jnp.where(here.along_nm > 0.0, glide, here.course.elevation_ft)
    target = jnp.select(
        [
            t.phase == tr.LANDING,
            t.altitude_mode == tr.MODE_OFF,
            t.altitude_mode == tr.MODE_HOLD,
            t.altitude_mode == tr.ALTITUDE_APPROACH,
        ],
        [landing, t.altitude_ft, wanted, glide],
        _profile(t, airport),
    )
    return jnp.where(t.autopilot, target, t.target_altitude_ft)


def _profile(t: Traffic, airport: Airport):
    """Target altitude `[N]` (ft) by the route's restrictions (VNAV)."""
    asked, wanted, now = restrictions(t, airport), t.assigned_altitude_ft, t.altitude_ft
    top, bottom = asked["maximum"], asked["minimum"]

    def descent(to):
        """What to aim at on the way down to a restriction: nothing new before the top of descent."""
        minutes = (now - to.value) / (t.descent_fpm * tr.TYPICAL_RATE)
        late = minutes > to.distance_nm / jnp.maximum(t.ground_speed_kt, 1e-3) * 60.0
        return jnp.where(late, to.value, t.target_altitude_ft)

    both, crossed = top.exists & bottom.exists, bottom.value > top.value
    down = jnp.select(
        [
            ~bottom.exists | (bottom.value < wanted),
            now < bottom.value,
            top.exists & (wanted > top.value),
            top.exists & (now > top.value) & crossed & (bottom.leg < top.leg),
            top.exists & (now > top.value),
        ],
        [wanted, bottom.value, wanted, descent(bottom), descent(top)],
        t.target_altitude_ft,
    )
    up = jnp.select(
        [
            ~top.exists | (wanted < top.value),
            now > top.value,
            both & (wanted < bottom.value),
            both & (now < bottom.value) & crossed & (top.leg <= bottom.leg),
            both & (now < bottom.value),
        ],
        [wanted, descent(top), wanted, top.value, bottom.value],
        top.value,
    )
    return jnp.where(wanted < now, down, up)


def _heading(t: Traffic, here: Place, airport: Airport, air):
    """(heading guide `[N]`, leg after the frame, who has passed the last fix) of an engaged autopilot."""
    index = kn.HEADING_GUIDES.index
    fix, following = current_leg(t, airport), current_leg(t, airport, 1)
    distance = jnp.hypot(fix.dx_nm, fix.dy_nm)
    course = geometry.bearing(following.dx_nm - fix.dx_nm, following.dy_nm - fix.dy_nm)
    change = jnp.abs(geometry.wrap_pi(course - t.target_heading_rad))
    radius = t.ground_speed_kt / 3600.0 / tr.TURN_RAD_S
    lead = jnp.where(following.exists & (following.vector_rad < 0), radius * jnp.tan(change / 2.0), 0.0)
    fly_by = ~fix.fly_over & (distance < FLY_BY_NM) & (distance < lead)
    routed = t.autopilot & (t.heading_mode == tr.HEADING_LNAV) & (t.phase != tr.LANDING)
    passes = routed & fix.exists & (fix.vector_rad < 0) & ((distance < PASSED_NM) | fly_by)
    last = passes & ~following.exists
    leg = t.leg + (passes & ~last)
    to = current_leg(t.replace(leg=leg), airport)
    lnav = jnp.where(to.vector_rad >= 0, index("vector"), index("fix"))
    lnav = jnp.where(last, index("straight"), jnp.where(fix.exists, lnav, index("keep")))
    guide = jnp.select(
        [
            t.phase == tr.TAKEOFF,
            ~t.autopilot,
            t.phase == tr.LANDING,
            t.heading_mode == tr.MODE_OFF,
            t.heading_mode == tr.MODE_HOLD,
            t.heading_mode == tr.HEADING_LNAV,
        ],
        [index("straight"), index("keep"), index("landing"), index("straight"), index("assigned"), lnav],
        _localizer_guide(t, here, air),
    )
    return guide, leg, last


def _localizer_guide(t: Traffic, here: Place, air):
    """How `[N]` aircraft told to join the localizer do so: straight on, turning to it, or along it."""
    course = here.course
    cross, _ = approach.offset(t.x_nm, t.y_nm, course)
    dx, dy = course.x_nm - t.x_nm, course.y_nm - t.y_nm
    bearing = geometry.true_bearing_to(t.x_nm, t.y_nm, dx, dy, air.latitude_rad, air.magnetic_north_rad)
    window = jnp.abs(course.heading_rad - bearing) < WINDOW_RAD
    angle = geometry.wrap_pi(t.heading_rad - course.heading_rad)
    sine = jnp.sin(angle)
    to_course = -cross / jnp.where(sine == 0.0, 1e-9, sine)
    turn_s = jnp.abs(angle) / tr.TURN_RAD_S
    early = t.speed_kt * turn_s / 3600.0 * jnp.abs(angle) + EARLY_NM
    meets = (to_course > 0.0) & (to_course <= early)
    along = window | (jnp.abs(cross) <= approach.ESTABLISHED_NM)
    index = kn.HEADING_GUIDES.index
    flown = jnp.where(along, index("localizer"), index("intercept"))
    return jnp.where(meets | window, flown, index("track"))


def _speed(t: Traffic, airport: Airport):
    """Target speed `[N]` (kt) of an engaged autopilot, but for landings."""
    target = jnp.select(
        [t.speed_mode == tr.MODE_OFF, t.speed_mode == tr.MODE_HOLD, t.speed_mode == tr.SPEED_N1],
        [t.speed_kt, t.assigned_speed_kt, t.maximum_speed_kt],
        _restricted_speed(t, airport),
    )
    return jnp.where(t.autopilot, target, t.target_speed_kt)


def _restricted_speed(t: Traffic, airport: Airport):
    """Target speed `[N]` (kt) by the next restriction that the present speed does not meet (VNAV)."""
    route = jnp.maximum(t.route, 0)
    legs = jnp.arange(airport.route_xy_nm.shape[1])
    ahead = (legs >= t.leg[:, None]) & (legs < airport.route_legs[route][:, None]) & (t.route >= 0)[:, None]
    low, high = jnp.moveaxis(airport.route_speed_kt[route], -1, 0)  # [N, L]
    too_fast = ahead & (high >= 0) & (high <= t.speed_kt[:, None])
    too_slow = ahead & (low >= 0) & (low >= t.speed_kt[:, None])
    slows, hurries = jnp.any(too_fast, -1), jnp.any(too_slow, -1)
    where_high, where_low = jnp.argmax(too_fast, -1), jnp.argmax(too_slow, -1)
    at = lambda table, leg: jnp.take_along_axis(table, leg[:, None], 1)[:, 0]  # noqa: E731
    most, least = at(high, where_high), at(low, where_low)
    xy = airport.route_xy_nm[route, where_high]
    distance = jnp.hypot(xy[:, 0] - t.x_nm, xy[:, 1] - t.y_nm)
    late = (t.speed_kt - most) / t.decelerate_kt_s > distance / jnp.maximum(t.ground_speed_kt, 1e-3) * 3600.0
    slower = jnp.where(late, jnp.minimum(most, t.assigned_speed_kt), t.target_speed_kt)
    faster = jnp.minimum(least, t.assigned_speed_kt)
    first = slows & (~hurries | (where_high < where_low))
    return jnp.where(first, slower, jnp.where(hurries, faster, t.assigned_speed_kt))


def _fate(t: Traffic, airport: Airport):
    """Index `[N]` into FATES of what a frame makes of each aircraft."""
    inside = airspace_margin_nm(t.x_nm, t.y_nm, t.altitude_ft, airport) > 0.0
    arrival = t.category == tr.ARRIVAL
    leaves = jnp.where(arrival, BUST, jnp.where(t.heading_mode == tr.HEADING_LNAV, HANDED_OFF, OFF_ROUTE))
    fate = jnp.where(t.controllable & ~inside, leaves, jnp.where(~t.controllable & inside, CONTACT, STAY))
    stopped = arrival & kn.on_ground(t, airport) & (t.speed_kt < STOPPED_KT)
    return jnp.where(t.valid, jnp.where(stopped, LANDED, fate), STAY)


def _frame(carry, frame, scene: Scene, airport: Airport, air):
    """One frame: phases, targets, movement, airspace. The carry is (traffic, runways, Changes)."""
    before, runways, changes = carry
    t, runways, high = _phases(before, runways, airport)
    here = _place(t, airport)
    rolls = t.phase == tr.TAKEOFF
    altitude = _altitude(t, here, airport)
    climbing = jnp.where(t.speed_kt >= t.minimum_speed_kt, t.ceiling_ft, t.altitude_ft)
    altitude = jnp.where(rolls, climbing, altitude)
    stalls = (t.speed_kt < t.minimum_speed_kt) & ~kn.on_ground(t, airport)
    altitude = jnp.where(stalls, jnp.minimum(0.0, altitude), altitude)
    guide, leg, last = _heading(t, here, airport, air)
    t = t.replace(
        leg=leg,
        heading_mode=jnp.where(last, tr.MODE_HOLD, t.heading_mode),
        assigned_heading_rad=jnp.where(last, t.heading_rad, t.assigned_heading_rad),
    )
    speed = jnp.where(rolls, t.minimum_speed_kt, _speed(t, airport))
    landing, free = kn.SPEED_GUIDES.index("landing"), kn.SPEED_GUIDES.index("free")
    guidance = kn.Guidance(
        heading=_always(guide),
        altitude=_always(jnp.full_like(guide, kn.ALTITUDE_GUIDES.index("free"))),
        free_altitude_ft=altitude,
        speed=_always(jnp.where(t.phase == tr.LANDING, landing, free)),
        free_speed_kt=speed,
        leg_frame=changes.leg_frame,
        phase=t.phase,
        phase_frame=changes.phase_frame,
    )
    moving = kn.move(t, guidance, frame, kn.surroundings(t, airport), air)
    t = t.replace(**moving)
    fate = jnp.where(changes.fate > CONTACT, changes.fate, _fate(t, airport))
    t = t.replace(controllable=t.controllable | (fate == CONTACT))
    happened = high[:, None] & (np.asarray(EVENT_NAMES) == "LOCALIZER_INTERCEPT_ABOVE_GLIDESLOPE")
    changes = transition.Changes(
        leg_frame=jnp.where(t.leg != before.leg, frame, changes.leg_frame),
        phase=t.phase,
        phase_frame=jnp.where(t.phase != before.phase, frame, changes.phase_frame),
        fate=jnp.where(fate == STAY, changes.fate, fate),
        events=changes.events | happened,
    )
    return (t, runways, changes), {name: moving[name] for name in kn.RECORDED} | {"phase": t.phase}


def _always(guide) -> kn.Axis:
    return kn.Axis(guide, guide, jnp.zeros_like(guide))


def step(scene: Scene, airport: Airport):
    """Advance a scene `[N]`, whose commands are applied, by one decision; returns as `transition` does."""
    start = scene.traffic
    shape = start.x_nm.shape
    never = jnp.full(shape, NEVER, jnp.int32)
    changes = transition.Changes(
        leg_frame=never,
        phase=start.phase,
        phase_frame=never,
        fate=jnp.full(shape, STAY, jnp.int32),
        events=jnp.zeros((*shape, len(EVENT_NAMES)), bool),
    )
    air = air_of(scene, airport)
    (t, _, changes), track = jax.lax.scan(
        lambda carry, frame: _frame(carry, frame, scene, airport, air),
        (start, scene.runways, changes),
        jnp.arange(FRAMES_PER_STEP),
    )
    sub = SubSteps(
        **track,
        controllable=jnp.broadcast_to(start.controllable, track["x_nm"].shape),
        present=jnp.broadcast_to(start.valid, track["x_nm"].shape),
    )
    t = t.replace(controllable=start.controllable)  # the clocks write it, from the fates
    return transition.conclude(scene, scene.replace(traffic=t), sub, changes, airport)
