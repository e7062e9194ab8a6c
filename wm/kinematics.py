"""Kinematics: what openScope's physics does with given targets, frame by frame.

Known physics only: rate limits, the wind triangle and the integration of position, in the
game's order of operations (AircraftModel.updatePhysics: turn, altitude, speed, position with
explicit Euler steps). Which target an aircraft follows, and when within the step it changes, is
given by `Guidance`; that is what wm.dynamics learns. Letters: N aircraft, K frames.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm import geometry
from wm import observe as ob
from wm import reward as rw
from wm import traffic as tr
from wm.airport import Airport
from wm.traffic import FRAME_S, FRAMES_PER_STEP, Scene, SubSteps, Traffic

TURN_RAD_S = 0.0523598776  # 3 degrees per second
TYPICAL_RATE = 0.7  # share of the type's climb and descent rate in normal flight
TAS_PER_FT = 0.000016  # true airspeed grows 1.6 % per 1,000 ft
WIND_PER_FT = 0.00002  # wind grows 2 % per 1,000 ft above the field
BRAKING = 3.5  # deceleration on the ground, times the type's
STRATOSPHERE_FT = 36152.0
SPEED_LIMIT_KT, SPEED_LIMIT_BELOW_FT = 250.0, 10000.0
ON_GROUND_FT = 5.0

# What an aircraft can steer for; all are recomputed on every frame from its position.
HEADING_GUIDES = ("keep", "assigned", "fix", "vector", "localizer", "threshold", "runway")
ALTITUDE_GUIDES = ("keep", "assigned", "maximum", "minimum", "glideslope", "field", "level",
                   "ceiling", "free")
SPEED_GUIDES = ("keep", "assigned", "highest", "restriction", "lowest", "stop", "free")


@struct.dataclass
class Guidance:
    """What each aircraft follows during one step; `[N]` each."""

    heading: jax.Array  # int32 index into HEADING_GUIDES
    localizer_gain: jax.Array  # target track leaves the course by gain times the angle off it
    altitude: jax.Array  # int32 index into ALTITUDE_GUIDES
    free_altitude_ft: jax.Array
    speed: jax.Array  # int32 index into SPEED_GUIDES
    free_speed_kt: jax.Array
    leg_frame: jax.Array  # int32 frame on which the route advances by a leg; K for never
    phase: jax.Array  # int32 phase after the step
    phase_frame: jax.Array  # int32 frame on which it begins; K for never


def wind_at(altitude_ft, scene: Scene, airport: Airport):
    """Wind blowing towards, (east, north) in knots at each altitude."""
    factor = 1.0 + (altitude_ft - airport.elevation_ft) * WIND_PER_FT
    speed = scene.wind_speed_kt * factor
    return -speed * jnp.sin(scene.wind_from_rad), -speed * jnp.cos(scene.wind_from_rad)


def true_airspeed_kt(speed_kt, altitude_ft):
    """True airspeed of an indicated one."""
    return speed_kt * (1.0 + altitude_ft * TAS_PER_FT)


def crab_heading(track_rad, tas_kt, wind_east, wind_north):
    """Heading (rad) that makes a ground track good in wind, as the game computes it."""
    speed = jnp.hypot(wind_east, wind_north)
    angle = track_rad - geometry.bearing(wind_east, wind_north)
    crab = jnp.arcsin(jnp.clip(speed * jnp.sin(angle) / jnp.maximum(tas_kt, 1.0), -1.0, 1.0))
    return geometry.wrap_2pi(track_rad + crab)


def ground_vector(heading_rad, tas_kt, wind_east, wind_north):
    """(ground speed kt, ground track rad) of a heading in wind."""
    east = tas_kt * jnp.sin(heading_rad) + wind_east
    north = tas_kt * jnp.cos(heading_rad) + wind_north
    return jnp.hypot(east, north), geometry.bearing(east, north)


def climb_rate_fpm(t: Traffic):
    """Climb rate in normal flight at the present altitude (the game's density correction)."""
    ratio = (518.6 - 0.00356 * t.altitude_ft) / 518.6
    density = 420.7 * 1.232 * ratio**5.256 / (518.6 - 0.00356 * t.altitude_ft)
    at_ceiling = jnp.where(t.jet, 500.0, 100.0)
    share = t.altitude_ft / jnp.maximum(t.ceiling_ft, 1.0)
    thin = t.climb_fpm * density * (1.0 - share) + share * at_ceiling
    return TYPICAL_RATE * jnp.where(t.altitude_ft < STRATOSPHERE_FT, thin, t.climb_fpm)


def on_ground(t: Traffic, airport: Airport):
    """Whether an aircraft is within 5 ft of its runway's or the airport's elevation."""
    runway = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    field = jnp.maximum(runway, airport.elevation_ft)
    return (t.altitude_ft - field < ON_GROUND_FT) & (t.category != tr.OVERFLIGHT)


def restriction_legs(airport: Airport) -> dict[str, jax.Array]:
    """For every (route, leg): the first leg from there on with each kind of restriction, or -1.

    Keys maximum, minimum (altitude) and speed; `[Q, L]` int32. Vectorised look-ahead table.
    """
    used = jnp.arange(airport.route_xy_nm.shape[1]) < airport.route_legs[:, None]

    def first_from(has):
        legs = jnp.where(has & used, jnp.arange(has.shape[1])[None], 10**6)
        nearest = jax.lax.cummin(legs, axis=1, reverse=True)
        return jnp.where(nearest < 10**6, nearest, -1).astype(jnp.int32)

    return {
        "maximum": first_from(airport.route_altitude_ft[..., 1] >= 0),
        "minimum": first_from(airport.route_altitude_ft[..., 0] >= 0),
        "speed": first_from(airport.route_speed_kt[..., 1] >= 0),
    }


def restrictions(t: Traffic, airport: Airport, legs: dict[str, jax.Array]) -> dict:
    """The next altitude maximum, minimum and speed maximum: value, distance_nm, exists, leg."""
    route, leg = jnp.maximum(t.route, 0), jnp.clip(t.leg, 0, airport.route_xy_nm.shape[1] - 1)
    tables = {
        "maximum": airport.route_altitude_ft[..., 1],
        "minimum": airport.route_altitude_ft[..., 0],
        "speed": airport.route_speed_kt[..., 1],
    }
    out = {}
    for name, table in tables.items():
        at = legs[name][route, leg]
        index = jnp.maximum(at, 0)
        xy = airport.route_xy_nm[route, index]
        out[name] = {
            "value": table[route, index],
            "distance_nm": jnp.hypot(xy[..., 0] - t.x_nm, xy[..., 1] - t.y_nm),
            "exists": (at >= 0) & (t.route >= 0) & (t.leg >= 0),
            "leg": at,
        }
    return out


def _choose(index, *options):
    """Select by class index; XLA turns the chain of selects into one fused kernel."""
    chosen = options[0]
    for i, option in enumerate(options[1:], start=1):
        chosen = jnp.where(index == i, option, chosen)
    return chosen


def target_track(t: Traffic, g: Guidance, keep_rad, airport: Airport):
    """(target rad, whether it is a ground track rather than a heading) on this frame."""
    fix = ob.current_fix(t, airport)
    runway = jnp.maximum(t.runway, 0)
    course, xy = airport.runway_heading_rad[runway], airport.runway_xy_nm[runway]
    scale = geometry.east_scale(t.x_nm, t.y_nm, airport.latitude_rad, airport.magnetic_north_rad)
    north = airport.magnetic_north_rad
    to_fix = geometry.true_bearing_to(fix["dx_nm"], fix["dy_nm"], scale, north)
    to_runway = geometry.true_bearing_to(
        xy[..., 0] - t.x_nm, xy[..., 1] - t.y_nm, scale, north
    )
    off_course = geometry.wrap_pi(course - to_runway)
    lean = jnp.clip(g.localizer_gain * off_course, -jnp.pi / 3, jnp.pi / 3)
    target = _choose(
        g.heading,
        keep_rad,
        t.assigned_heading_rad,
        to_fix,
        fix["vector_rad"],
        course - lean,
        to_runway,
        course,
    )
    return geometry.wrap_2pi(target), g.heading >= HEADING_GUIDES.index("fix")


def target_altitude(t: Traffic, g: Guidance, keep_ft, asked: dict, airport: Airport):
    """Target altitude (ft) on this frame."""
    glide = ob.runway_geometry(t, airport)["glideslope_ft"]
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    target = _choose(
        g.altitude,
        keep_ft,
        t.assigned_altitude_ft,
        asked["maximum"]["value"],
        asked["minimum"]["value"],
        jnp.minimum(t.assigned_altitude_ft, glide),
        field,
        t.altitude_ft,
        t.ceiling_ft,
        g.free_altitude_ft,
    )
    return jnp.minimum(target, t.ceiling_ft)


def target_speed(t: Traffic, g: Guidance, keep_kt, asked: dict, grounded):
    """Target indicated airspeed (kt) on this frame, within the type's and the legal limits."""
    target = _choose(
        g.speed,
        keep_kt,
        t.assigned_speed_kt,
        t.maximum_speed_kt,
        asked["speed"]["value"],
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


def _climb(t: Traffic, target_ft, airport: Airport):
    course = rw.established(t.x_nm, t.y_nm, t.ground_track_rad, t, airport)
    fast_down = t.expedite | course
    down = t.descent_fpm * jnp.where(fast_down, 1.0, TYPICAL_RATE)
    fast_up = t.expedite | (t.phase == tr.TAKEOFF)
    up = jnp.where(fast_up, t.climb_fpm, climb_rate_fpm(t))
    step = FRAME_S / 60.0
    return t.altitude_ft + jnp.clip(target_ft - t.altitude_ft, -down * step, up * step)


def _accelerate(t: Traffic, target_kt, grounded):
    slow = jnp.clip(t.speed_kt / jnp.maximum(t.minimum_speed_kt, 1.0), 0.0, 1.0)
    faster = t.accelerate_kt_s * (2.0 - slow) * FRAME_S
    slower = t.decelerate_kt_s * jnp.where(grounded, BRAKING, 1.0) * FRAME_S
    return t.speed_kt + jnp.clip(target_kt - t.speed_kt, -slower, faster)


def _frame(scene: Scene, g: Guidance, asked: dict, airport: Airport, frame):
    """Advance every aircraft by one frame."""
    t = scene.traffic
    t = t.replace(
        leg=t.leg + (g.leg_frame == frame),
        phase=jnp.where(g.phase_frame == frame, g.phase, t.phase),
    )
    grounded = on_ground(t, airport)
    east, north = wind_at(t.altitude_ft, scene, airport)
    tas = true_airspeed_kt(t.speed_kt, t.altitude_ft)
    track, is_track = target_track(t, g, t.target_heading_rad, airport)
    heading_target = jnp.where(is_track, crab_heading(track, tas, east, north), track)
    altitude_target = target_altitude(t, g, t.target_altitude_ft, asked, airport)
    speed_target = target_speed(t, g, t.target_speed_kt, asked, grounded)

    heading = _turn(t, heading_target, grounded)
    altitude = _climb(t, altitude_target, airport)
    moved = t.replace(heading_rad=heading, altitude_ft=altitude)
    speed = _accelerate(moved, speed_target, on_ground(moved, airport))
    east, north = wind_at(altitude, scene, airport)
    tas = true_airspeed_kt(speed, altitude)
    ground_speed, ground_track = ground_vector(heading, tas, east, north)
    ground_track = jnp.where(on_ground(moved, airport), heading, ground_track)
    scale = geometry.east_scale(t.x_nm, t.y_nm, airport.latitude_rad, airport.magnetic_north_rad)
    dx, dy = geometry.plane_step(
        ground_track, ground_speed * FRAME_S / 3600.0, scale, airport.magnetic_north_rad
    )
    moves = t.valid & (t.phase > tr.WAITING)

    def put(new, old):
        return jnp.where(moves, new, old)

    t = t.replace(
        x_nm=put(t.x_nm + dx, t.x_nm),
        y_nm=put(t.y_nm + dy, t.y_nm),
        altitude_ft=put(altitude, t.altitude_ft),
        heading_rad=put(heading, t.heading_rad),
        speed_kt=put(speed, t.speed_kt),
        ground_speed_kt=put(ground_speed, t.ground_speed_kt),
        ground_track_rad=put(ground_track, t.ground_track_rad),
        target_heading_rad=put(heading_target, t.target_heading_rad),
        target_altitude_ft=put(altitude_target, t.target_altitude_ft),
        target_speed_kt=put(speed_target, t.target_speed_kt),
        expedite=t.expedite & (altitude != altitude_target),
    )
    return scene.replace(traffic=t)


def advance(scene: Scene, guidance: Guidance, legs: dict, airport: Airport):
    """Advance a scene `[N]` by one decision; return (scene, sub-steps `[K, N]`).

    Moves aircraft only: modes, removal, clocks, runways and spawns are left to the caller.
    `legs` is restriction_legs(airport).
    """
    asked = restrictions(scene.traffic, airport, legs)

    def body(scene, frame):
        scene = _frame(scene, guidance, asked, airport, frame)
        t = scene.traffic
        sub = SubSteps(
            x_nm=t.x_nm,
            y_nm=t.y_nm,
            altitude_ft=t.altitude_ft,
            heading_rad=t.heading_rad,
            ground_track_rad=t.ground_track_rad,
            phase=t.phase,
            controllable=t.controllable,
            present=t.valid,
        )
        return scene, sub

    return jax.lax.scan(body, scene, jnp.arange(FRAMES_PER_STEP))
