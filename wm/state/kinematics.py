"""Kinematics: what openScope's physics does with given targets, frame by frame.

Known physics only: rate limits, the wind triangle and the integration of position, in the
game's order of operations (AircraftModel.updatePhysics: turn, altitude, speed, position with
explicit Euler steps). Which target an aircraft follows, and when within the step it changes, is
given by `Guidance`; that is what wm.state.network learns. Letters: N aircraft, K frames.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import approach, geometry
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.route import restrictions
from wm.sector.traffic import (
    FRAME_S,
    FRAMES_PER_STEP,
    SPEED_LIMIT_BELOW_FT,
    SPEED_LIMIT_KT,
    TURN_RAD_S,
    TYPICAL_RATE,
    Scene,
    SubSteps,
    Traffic,
)
from wm.sector.wind import Air, air_of, crab_heading, ground_vector, true_airspeed_kt, wind_at
from wm.state import fused

BRAKING = 3.5  # deceleration on the ground, times the type's
STRATOSPHERE_FT = 36152.0
ON_GROUND_FT = 5.0

# The columns that change from frame to frame, and those of them that the sub-steps show.
RECORDED = ("x_nm", "y_nm", "altitude_ft", "heading_rad", "ground_track_rad")
MOVING = (*RECORDED, "speed_kt", "ground_speed_kt", "target_heading_rad", "target_altitude_ft",
          "target_speed_kt", "expedite")

# What an aircraft can steer for. The target is computed again on every frame, from the position.
HEADING_GUIDES = (
    "keep", "straight", "assigned", "fix", "vector", "track", "localizer", "intercept", "landing",
)  # fmt: skip
ALTITUDE_GUIDES = ("keep", "assigned", "maximum", "minimum", "glideslope", "level", "ceiling", "free")
SPEED_GUIDES = ("keep", "assigned", "highest", "restriction", "lowest", "landing", "free")

LOCALIZER_GAIN = 20.0  # the course flown leans towards the localizer by so many times the angle off it
FINAL_NM = 5.0  # an arrival slows to its landing speed from here,
STABLE_HOURS = 60.0 / 3600.0  # to where it has a minute left at that speed


@struct.dataclass
class Axis:
    """What steers one axis during a step: a guide, and from a frame on another; `[N]` each."""

    first: jax.Array  # int32 index into the axis's guides
    then: jax.Array
    frame: jax.Array  # int32 frame from which `then` steers; 0 for the whole step

    def at(self, frame):
        """The guide on a frame."""
        return jnp.where(frame >= self.frame, self.then, self.first)


@struct.dataclass
class Guidance:
    """What each aircraft follows during one step; `[N]` each."""

    heading: Axis
    altitude: Axis
    free_altitude_ft: jax.Array
    speed: Axis
    free_speed_kt: jax.Array
    leg_frame: jax.Array  # int32 frame on which the route advances by a leg; K for never
    phase: jax.Array  # int32 phase after the step
    phase_frame: jax.Array  # int32 frame on which it begins; K for never


def climb_rate_fpm(t: Traffic):
    """Climb rate in normal flight at the present altitude (the game's density correction)."""
    ratio = (518.6 - 0.00356 * t.altitude_ft) / 518.6
    density = 420.7 * 1.232 * ratio**5.256 / (518.6 - 0.00356 * t.altitude_ft)
    at_ceiling, share = jnp.where(t.jet, 500.0, 100.0), t.altitude_ft / jnp.maximum(t.ceiling_ft, 1.0)
    thin = t.climb_fpm * density * (1.0 - share) + share * at_ceiling
    return TYPICAL_RATE * jnp.where(t.altitude_ft < STRATOSPHERE_FT, thin, t.climb_fpm)


def on_ground(t: Traffic, airport: Airport | Air, runway_elevation_ft=None):
    """Whether an aircraft is within 5 ft of its runway's (looked up by default) or airport's elevation."""
    if runway_elevation_ft is None:
        runway_elevation_ft = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    field = jnp.maximum(runway_elevation_ft, airport.elevation_ft)
    return (t.altitude_ft - field < ON_GROUND_FT) & (t.category != tr.OVERFLIGHT)


@struct.dataclass
class Leg:
    """A fix or vector leg, and the restrictions from it on, `[..., N]` each."""

    x_nm: jax.Array
    y_nm: jax.Array
    vector_rad: jax.Array  # -1 for a fix
    maximum_ft: jax.Array
    minimum_ft: jax.Array
    restricted_kt: jax.Array


@struct.dataclass
class Surroundings:
    """What the guides refer to, `[..., N]` each, looked up once for a whole step."""

    course: approach.Course
    leg: Leg
    following: Leg  # once the leg has advanced

    def at(self, passed) -> "Surroundings":
        """The same where the leg has advanced, bool `[..., N]`."""
        return self.replace(leg=jax.tree.map(lambda a, b: jnp.where(passed, b, a), self.leg, self.following))


def _leg(t: Traffic, airport: Airport) -> Leg:
    route = jnp.maximum(t.route, 0)
    leg = jnp.clip(t.leg, 0, airport.route_xy_nm.shape[1] - 1)
    xy = airport.route_xy_nm[route, leg]
    asked = restrictions(t, airport)
    return Leg(
        x_nm=xy[..., 0],
        y_nm=xy[..., 1],
        vector_rad=airport.route_vector_rad[route, leg],
        maximum_ft=asked["maximum"].value,
        minimum_ft=asked["minimum"].value,
        restricted_kt=asked["speed"].value,
    )


def surroundings(t: Traffic, airport: Airport) -> Surroundings:
    """Look up what the guides of traffic `[..., N]` refer to."""
    return Surroundings(
        course=approach.course(t, airport),
        leg=_leg(t, airport),
        following=_leg(t.replace(leg=t.leg + 1), airport),
    )


def _choose(index, *options):
    """Select by class index; XLA turns the chain of selects into one fused kernel."""
    chosen, *others = options
    for i, option in enumerate(others, start=1):
        chosen = jnp.where(index == i, option, chosen)
    return chosen


def _localizer(t: Traffic, course: approach.Course, bearing):
    """(course flown along the localizer, course flown to meet it): ground tracks on this frame.

    To meet it, the game takes the larger or smaller of that course and the assigned heading, as numbers.
    """
    along = course.heading_rad - LOCALIZER_GAIN * (course.heading_rad - bearing)
    assigned = t.assigned_heading_rad
    larger, smaller = jnp.maximum(along, assigned), jnp.minimum(along, assigned)
    return along, jnp.where(assigned < course.heading_rad, larger, smaller)


def target_track(t: Traffic, guide, keep_rad, around: Surroundings, air: Air):
    """(target rad, whether it is a ground track rather than a heading) by a heading guide `[N]`."""
    course, fix = around.course, around.leg
    to_fix = guide == HEADING_GUIDES.index("fix")  # all other guides with a place use the runway
    dx = jnp.where(to_fix, fix.x_nm, course.x_nm) - t.x_nm
    dy = jnp.where(to_fix, fix.y_nm, course.y_nm) - t.y_nm
    north = air.magnetic_north_rad
    bearing = geometry.true_bearing_to(t.x_nm, t.y_nm, dx, dy, air.latitude_rad, north)
    _, along = approach.offset(t.x_nm, t.y_nm, course)
    localizer, intercept = _localizer(t, course, bearing)
    target = _choose(
        guide,
        keep_rad,
        t.heading_rad,
        t.assigned_heading_rad,
        bearing,
        fix.vector_rad,
        t.assigned_heading_rad,
        localizer,
        intercept,
        jnp.where(along > 0.0, bearing, course.heading_rad),
    )
    return geometry.wrap_2pi(target), guide >= HEADING_GUIDES.index("fix")


def target_altitude(t: Traffic, guide, free_ft, keep_ft, around: Surroundings):
    """Target altitude (ft) by an altitude guide `[N]`; `free_ft` is what the guide "free" aims at."""
    _, along = approach.offset(t.x_nm, t.y_nm, around.course)
    glide = approach.glideslope_ft(along, around.course)
    target = _choose(
        guide,
        keep_ft,
        t.assigned_altitude_ft,
        around.leg.maximum_ft,
        around.leg.minimum_ft,
        jnp.where(along > 0.0, jnp.minimum(t.assigned_altitude_ft, glide), glide),
        t.altitude_ft,
        t.ceiling_ft,
        free_ft,
    )
    return jnp.minimum(target, t.ceiling_ft)


def _landing_speed_kt(t: Traffic, course: approach.Course, grounded):
    """The speed of a landing: from its own or the assigned one 5 nm out to the type's, and a stop (kt)."""
    _, along = approach.offset(t.x_nm, t.y_nm, course)
    begin = jnp.where(t.speed_mode == tr.MODE_HOLD, t.assigned_speed_kt, t.speed_kt)
    stable_nm = t.landing_speed_kt * STABLE_HOURS
    share = jnp.clip((along - stable_nm) / (FINAL_NM - stable_nm), 0.0, 1.0)
    down = (t.altitude_ft <= course.elevation_ft) | ((along <= 0.0) & grounded)
    return jnp.where(down, 0.0, t.landing_speed_kt + share * (begin - t.landing_speed_kt))


def target_speed(t: Traffic, guide, free_kt, keep_kt, around: Surroundings, grounded):
    """Target indicated airspeed (kt) by a speed guide `[N]`, within the type's and the legal limits."""
    target = _choose(
        guide,
        keep_kt,
        t.assigned_speed_kt,
        t.maximum_speed_kt,
        around.leg.restricted_kt,
        t.minimum_speed_kt,
        _landing_speed_kt(t, around.course, grounded),
        free_kt,
    )
    legal = jnp.where(t.altitude_ft < SPEED_LIMIT_BELOW_FT, SPEED_LIMIT_KT, jnp.inf)
    target = jnp.minimum(jnp.minimum(target, legal), t.maximum_speed_kt)
    return jnp.where(grounded, target, jnp.maximum(target, t.minimum_speed_kt))


def _turn(t: Traffic, target_rad, grounded):
    difference = geometry.wrap_pi(target_rad - t.heading_rad)
    step = TURN_RAD_S * FRAME_S
    turned = t.heading_rad + jnp.clip(difference, -step, step)
    return jnp.where(grounded, t.heading_rad, geometry.wrap_2pi(turned))


def _climb(t: Traffic, target_ft, around: Surroundings):
    established = approach.on_course(t.x_nm, t.y_nm, t.ground_track_rad, around.course)
    down = t.descent_fpm * jnp.where(t.expedite | established, 1.0, TYPICAL_RATE)
    fast_up = t.expedite | (t.phase == tr.TAKEOFF)
    up = jnp.where(fast_up, t.climb_fpm, climb_rate_fpm(t))
    step = FRAME_S / 60.0
    return t.altitude_ft + jnp.clip(target_ft - t.altitude_ft, -down * step, up * step)


def _accelerate(t: Traffic, target_kt, grounded):
    slow = jnp.clip(t.speed_kt / jnp.maximum(t.minimum_speed_kt, 1.0), 0.0, 1.0)
    faster = t.accelerate_kt_s * (2.0 - slow) * FRAME_S
    slower = t.decelerate_kt_s * jnp.where(grounded, BRAKING, 1.0) * FRAME_S
    return t.speed_kt + jnp.clip(target_kt - t.speed_kt, -slower, faster)


def move(t: Traffic, g: Guidance, frame, around: Surroundings, air: Air) -> dict:
    """The MOVING columns of traffic `t` one frame later."""
    grounded = on_ground(t, air, around.course.elevation_ft)
    east, north = wind_at(t.altitude_ft, air)
    tas = true_airspeed_kt(t.speed_kt, t.altitude_ft)
    track, is_track = target_track(t, g.heading.at(frame), t.target_heading_rad, around, air)
    heading_target = jnp.where(is_track, crab_heading(track, tas, east, north), track)
    guide = g.altitude.at(frame)
    altitude_target = target_altitude(t, guide, g.free_altitude_ft, t.target_altitude_ft, around)
    guide = g.speed.at(frame)
    speed_target = target_speed(t, guide, g.free_speed_kt, t.target_speed_kt, around, grounded)
    # On the ground the game moves an aircraft along its target track, wherever it points.
    drift = geometry.bearing(*ground_vector(heading_target, tas, east, north))
    rolling = jnp.where(is_track, track, drift)

    heading = _turn(t, heading_target, grounded)
    altitude = _climb(t, altitude_target, around)
    moved = t.replace(heading_rad=heading, altitude_ft=altitude)
    grounded = on_ground(moved, air, around.course.elevation_ft)
    speed = _accelerate(moved, speed_target, grounded)
    wind = wind_at(altitude, air)
    east, north = ground_vector(heading, true_airspeed_kt(speed, altitude), *wind)
    ground_speed = jnp.sqrt(east * east + north * north)
    ground_track = jnp.where(grounded, rolling, geometry.bearing(east, north))
    east = jnp.where(grounded, ground_speed * jnp.sin(rolling), east)
    north = jnp.where(grounded, ground_speed * jnp.cos(rolling), north)
    magnetic_north = air.magnetic_north_rad
    scale = geometry.east_scale(t.x_nm, t.y_nm, air.latitude_rad, magnetic_north)
    hours = FRAME_S / 3600.0
    dx, dy = geometry.plane_displacement(east * hours, north * hours, scale, magnetic_north)
    new = {
        "x_nm": t.x_nm + dx,
        "y_nm": t.y_nm + dy,
        "altitude_ft": altitude,
        "heading_rad": heading,
        "speed_kt": speed,
        "ground_speed_kt": ground_speed,
        "ground_track_rad": ground_track,
        "target_heading_rad": heading_target,
        "target_altitude_ft": altitude_target,
        "target_speed_kt": speed_target,
    }
    moves = t.valid & (t.phase > tr.WAITING)
    new = {name: jnp.where(moves, value, getattr(t, name)) for name, value in new.items()}
    return new | {"expedite": t.expedite & (altitude != altitude_target)}


def _sequenced(start: Traffic, g: Guidance, frame) -> dict:
    """Leg and phase on a frame of the step that began with traffic `start`."""
    leg = start.leg + (frame >= g.leg_frame)
    return {"leg": leg, "phase": jnp.where(frame >= g.phase_frame, g.phase, start.phase)}


def _next_frame(moving: dict, constants: tuple, frame):
    """Body of the loop over frames: (MOVING columns after it, those the sub-steps show)."""
    start, g, around, air = constants
    t = start.replace(**moving, **_sequenced(start, g, frame))
    moving = move(t, g, frame, around.at(frame >= g.leg_frame), air)
    return moving, {name: moving[name] for name in RECORDED}


def advance(scene: Scene, guidance: Guidance, airport: Airport):
    """Advance a scene `[N]` by one decision; return (scene, sub-steps `[K, N]`).

    Moves aircraft only: modes, removal, clocks, runways and spawns are left to the caller.
    The loop over frames carries only what moves and looks nothing up: leg and phase follow from the
    frame, and only the next leg can come into use.
    """
    start = scene.traffic
    around = surroundings(start, airport)
    moving = {name: getattr(start, name) for name in MOVING}
    constants = (start, guidance, around, air_of(scene, airport))
    moving, track = fused.scan_frames(_next_frame, moving, constants, FRAMES_PER_STEP)
    shape = track["x_nm"].shape
    sub = SubSteps(
        **track,
        phase=_sequenced(start, guidance, jnp.arange(FRAMES_PER_STEP)[:, None])["phase"],
        controllable=jnp.broadcast_to(start.controllable, shape),
        present=jnp.broadcast_to(start.valid, shape),
    )
    last = _sequenced(start, guidance, FRAMES_PER_STEP - 1)
    return scene.replace(traffic=start.replace(**moving, **last)), sub
