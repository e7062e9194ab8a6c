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
HEADING_GUIDES = ("keep", "assigned", "fix", "vector", "localizer", "threshold", "runway")
ALTITUDE_GUIDES = ("keep", "assigned", "maximum", "minimum", "glideslope", "field", "level",
                   "ceiling", "free")
SPEED_GUIDES = ("keep", "assigned", "highest", "restriction", "lowest", "stop", "free")


@struct.dataclass
class Guidance:
    """What each aircraft follows during one step; `[N]` each."""

    heading: jax.Array  # int32 index into HEADING_GUIDES
    localizer_gain: jax.Array  # angle between target track and course, over the angle off the course
    altitude: jax.Array  # int32 index into ALTITUDE_GUIDES
    free_altitude_ft: jax.Array
    speed: jax.Array  # int32 index into SPEED_GUIDES
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
class Fix:
    """A fix or vector leg, `[..., N]` each."""

    x_nm: jax.Array
    y_nm: jax.Array
    vector_rad: jax.Array  # -1 for a fix


@struct.dataclass
class Surroundings:
    """What the guides refer to, `[..., N]` each. Within a step it stays, so it is looked up once."""

    course: approach.Course
    fix: Fix
    following: Fix  # the fix once the leg has advanced
    maximum_ft: jax.Array  # the restrictions ahead
    minimum_ft: jax.Array
    restricted_kt: jax.Array


def _fix(t: Traffic, airport: Airport) -> Fix:
    route = jnp.maximum(t.route, 0)
    leg = jnp.clip(t.leg, 0, airport.route_xy_nm.shape[1] - 1)
    xy = airport.route_xy_nm[route, leg]
    return Fix(xy[..., 0], xy[..., 1], airport.route_vector_rad[route, leg])


def surroundings(t: Traffic, airport: Airport) -> Surroundings:
    """Look up what the guides of traffic `[..., N]` refer to."""
    asked = restrictions(t, airport)
    return Surroundings(
        course=approach.course(t, airport),
        fix=_fix(t, airport),
        following=_fix(t.replace(leg=t.leg + 1), airport),
        maximum_ft=asked["maximum"].value,
        minimum_ft=asked["minimum"].value,
        restricted_kt=asked["speed"].value,
    )


def _choose(index, *options):
    """Select by class index; XLA turns the chain of selects into one fused kernel."""
    chosen, *others = options
    for i, option in enumerate(others, start=1):
        chosen = jnp.where(index == i, option, chosen)
    return chosen


def target_track(t: Traffic, g: Guidance, keep_rad, around: Surroundings, air: Air):
    """(target rad, whether it is a ground track rather than a heading) on this frame."""
    course, fix = around.course, around.fix
    north = air.magnetic_north_rad
    scale = geometry.east_scale(t.x_nm, t.y_nm, air.latitude_rad, north)

    to_fix = g.heading == HEADING_GUIDES.index("fix")  # all other guides with a place use the runway
    dx = jnp.where(to_fix, fix.x_nm, course.x_nm) - t.x_nm
    dy = jnp.where(to_fix, fix.y_nm, course.y_nm) - t.y_nm
    bearing = geometry.true_bearing_to(dx, dy, scale, north)
    off_course = geometry.wrap_pi(course.heading_rad - bearing)
    lean = jnp.clip(g.localizer_gain * off_course, -jnp.pi / 3, jnp.pi / 3)
    target = _choose(
        g.heading,
        keep_rad,
        t.assigned_heading_rad,
        bearing,
        fix.vector_rad,
        course.heading_rad - lean,
        bearing,
        course.heading_rad,
    )
    return geometry.wrap_2pi(target), g.heading >= HEADING_GUIDES.index("fix")


def target_altitude(t: Traffic, g: Guidance, keep_ft, around: Surroundings):
    """Target altitude (ft) on this frame."""
    _, along = approach.offset(t.x_nm, t.y_nm, around.course)
    glide = approach.glideslope_ft(along, around.course)
    target = _choose(
        g.altitude,
        keep_ft,
        t.assigned_altitude_ft,
        around.maximum_ft,
        around.minimum_ft,
        jnp.minimum(t.assigned_altitude_ft, glide),
        around.course.elevation_ft,
        t.altitude_ft,
        t.ceiling_ft,
        g.free_altitude_ft,
    )
    return jnp.minimum(target, t.ceiling_ft)


def target_speed(t: Traffic, g: Guidance, keep_kt, around: Surroundings, grounded):
    """Target indicated airspeed (kt) on this frame, within the type's and the legal limits."""
    target = _choose(
        g.speed,
        keep_kt,
        t.assigned_speed_kt,
        t.maximum_speed_kt,
        around.restricted_kt,
        t.minimum_speed_kt,
        jnp.zeros_like(t.speed_kt),
        g.free_speed_kt,
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


def _frame(t: Traffic, g: Guidance, around: Surroundings, air: Air) -> dict:
    """The MOVING columns of traffic `t` one frame later."""
    grounded = on_ground(t, air, around.course.elevation_ft)
    east, north = wind_at(t.altitude_ft, air)
    tas = true_airspeed_kt(t.speed_kt, t.altitude_ft)
    track, is_track = target_track(t, g, t.target_heading_rad, around, air)
    heading_target = jnp.where(is_track, crab_heading(track, tas, east, north), track)
    altitude_target = target_altitude(t, g, t.target_altitude_ft, around)
    speed_target = target_speed(t, g, t.target_speed_kt, around, grounded)

    heading = _turn(t, heading_target, grounded)
    altitude = _climb(t, altitude_target, around)
    moved = t.replace(heading_rad=heading, altitude_ft=altitude)
    grounded = on_ground(moved, air, around.course.elevation_ft)
    speed = _accelerate(moved, speed_target, grounded)
    wind = wind_at(altitude, air)
    east, north = ground_vector(heading, true_airspeed_kt(speed, altitude), *wind)
    ground_speed = jnp.sqrt(east * east + north * north)
    ground_track = jnp.where(grounded, heading, geometry.bearing(east, north))
    east = jnp.where(grounded, ground_speed * jnp.sin(heading), east)
    north = jnp.where(grounded, ground_speed * jnp.cos(heading), north)
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
    passed = frame >= g.leg_frame
    fix = jax.tree.map(lambda a, b: jnp.where(passed, b, a), around.fix, around.following)
    moving = _frame(t, g, around.replace(fix=fix), air)
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
