"""What the expert reads from one observation: aircraft, their approaches and the sector in physical units.

A policy sees nothing but the observation. So the approach course of every aircraft is worked out here from
where the aircraft is and where the course lies beside it; from then on all geometry is wm.sector.approach.
Letters: N aircraft. Angles rad, distances nm, heights ft.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import approach, commands
from wm.sector.approach import Approach, Course
from wm.sector.geometry import wrap_pi
from wm.sector.observe import read, read_global
from wm.sector.traffic import FT_PER_NM, TYPICAL_RATE

# The observation does not say how steep a glideslope is. This is the game's usual one.
GLIDE_FT_PER_NM = float(FT_PER_NM * np.tan(np.deg2rad(3.0)))
# Wider than the game's 500 ft and 5 degrees, and of the heading where the game takes the track: an approach
# that is about to be established, or crabs into the wind, is left alone as well.
ALIGNED_NM = 0.1
ALIGNED_RAD = float(np.deg2rad(8.0))
LONG_AGO_S = 1e4


@struct.dataclass
class Picture:
    """One observation, `[N]` each unless said otherwise."""

    x: jax.Array
    y: jax.Array
    altitude: jax.Array
    heading: jax.Array
    speed: jax.Array
    ground_speed: jax.Array
    target_altitude: jax.Array
    target_heading: jax.Array
    target_speed: jax.Array
    assigned_altitude: jax.Array
    assigned_speed: jax.Array
    speed_held: jax.Array
    vnav: jax.Array  # altitude follows the route's restrictions, so a descent may begin any time
    lnav: jax.Array
    heading_held: jax.Array
    cleared: jax.Array
    arrival: jax.Array
    flying: jax.Array
    controllable: jax.Array
    established: jax.Array
    since_climb_s: jax.Array  # in phase CLIMB, else LONG_AGO_S
    course: Course  # of the assigned runway
    approach: Approach  # where the aircraft is relative to it
    fix_xy: jax.Array  # [N, 2, 2] the fix flown to and the one after
    fix_course: jax.Array  # [N, 2] the course of a vector leg, the bearing of a fix
    fix_is_vector: jax.Array  # [N, 2]
    climb: jax.Array  # ft/s
    descent: jax.Array  # ft/s
    decelerate: jax.Array  # kt/s
    margin: jax.Array  # inside the airspace
    wind: jax.Array  # [2] kt, towards east and north
    levels: jax.Array  # [LEVELS]
    ceiling: jax.Array  # []
    elevation: jax.Array  # [] of the airport


def _angle(aircraft, name):
    return jnp.arctan2(read(aircraft, f"{name}_sin"), read(aircraft, f"{name}_cos"))


def _approach(aircraft, x, y, heading, arrival) -> tuple[Course, Approach]:
    """The course of each aircraft's runway and the aircraft's place on it, `[N]`."""
    cross, along = read(aircraft, "runway_cross_nm"), read(aircraft, "runway_along_nm")
    angle, altitude = _angle(aircraft, "runway_angle"), read(aircraft, "altitude_ft")
    runway = heading - angle
    x, y = approach.threshold(x, y, cross, along, runway)
    slope = altitude - read(aircraft, "above_glideslope_ft")
    course = Course(
        x_nm=x,
        y_nm=y,
        heading_rad=runway,
        sin=jnp.sin(runway),
        cos=jnp.cos(runway),
        elevation_ft=slope - GLIDE_FT_PER_NM * jnp.maximum(along, 0.0),
        glide_ft_per_nm=jnp.full_like(x, GLIDE_FT_PER_NM),
        flown=arrival,
    )
    place = Approach(
        cross_nm=cross,
        along_nm=along,
        angle_rad=angle,
        track_angle_rad=wrap_pi(_angle(aircraft, "track") - runway),
        glideslope_ft=slope,
        intercept_ft=read(aircraft, "assigned_altitude_ft") - read(aircraft, "intercept_margin_ft"),
    )
    return course, place


def _fixes(aircraft, x, y, heading) -> dict:
    """Positions and courses of the two fixes ahead; a fix that is missing is a vector leg ahead."""
    xy, course, vector = [], [], []
    for name in ("fix", "following"):
        distance = read(aircraft, f"{name}_distance_nm")
        bearing = heading + _angle(aircraft, f"{name}_bearing")
        xy.append(jnp.stack([x + distance * jnp.sin(bearing), y + distance * jnp.cos(bearing)], -1))
        course.append(bearing)
        vector.append(distance <= 0.0)
    return {
        "fix_xy": jnp.stack(xy, -2),
        "fix_course": jnp.stack(course, -1),
        "fix_is_vector": jnp.stack(vector, -1),
    }


def _modes(obs: dict) -> dict:
    """What is true or false of each aircraft, bool `[N]`; false of an empty slot."""

    def flag(name):
        return obs["aircraft_mask"] & (read(obs["aircraft"], name) > 0.5)

    grounded = flag("phase_apron") | flag("phase_taxi") | flag("phase_waiting") | flag("phase_takeoff")
    return {
        "speed_held": flag("speed_mode_hold"),
        "vnav": flag("altitude_mode_vnav"),
        "lnav": flag("heading_mode_lnav"),
        "heading_held": flag("heading_mode_hold"),
        "cleared": flag("approach_clearance"),
        "arrival": flag("category_arrival"),
        "flying": obs["aircraft_mask"] & ~grounded,
        "controllable": flag("controllable"),
    }


def _established(obs: dict, modes: dict, place: Approach):
    """Whether an arrival lands, or is cleared and on its course or about to be, bool `[N]`."""
    aligned = (jnp.abs(place.cross_nm) < ALIGNED_NM) & (jnp.abs(place.angle_rad) < ALIGNED_RAD)
    landing = obs["aircraft_mask"] & (read(obs["aircraft"], "phase_landing") > 0.5)
    return modes["arrival"] & (landing | (modes["cleared"] & aligned))


def picture(obs: dict) -> Picture:
    """Read an observation (unbatched, see wm.sector.observe.observe) back into physical quantities."""
    a, g = obs["aircraft"], obs["global_state"]
    x, y, altitude, heading = read(a, "x_nm"), read(a, "y_nm"), read(a, "altitude_ft"), _angle(a, "heading")
    modes = _modes(obs)
    course, place = _approach(a, x, y, heading, modes["arrival"])
    climbing = obs["aircraft_mask"] & (read(a, "phase_climb") > 0.5)
    return Picture(
        x=x,
        y=y,
        altitude=altitude,
        heading=heading,
        speed=read(a, "speed_kt"),
        ground_speed=read(a, "ground_speed_kt"),
        target_altitude=altitude + read(a, "target_climb_ft"),
        target_heading=heading + _angle(a, "target_turn"),
        target_speed=read(a, "speed_kt") + read(a, "target_acceleration_kt"),
        assigned_altitude=read(a, "assigned_altitude_ft"),
        assigned_speed=read(a, "assigned_speed_kt"),
        established=_established(obs, modes, place),
        since_climb_s=jnp.where(climbing, read(a, "since_phase_s"), LONG_AGO_S),
        course=course,
        approach=place,
        climb=read(a, "climb_fpm") * TYPICAL_RATE / 60.0,
        descent=read(a, "descent_fpm") * TYPICAL_RATE / 60.0,
        decelerate=jnp.maximum(read(a, "decelerate_kt_s"), 0.5),
        margin=read(a, "airspace_margin_nm"),
        wind=jnp.stack([read_global(g, "wind_east_kt"), read_global(g, "wind_north_kt")]),
        levels=jnp.stack([read_global(g, f"level_{i}_ft") for i in range(commands.LEVELS)]),
        ceiling=read_global(g, "ceiling_ft"),
        elevation=read_global(g, "elevation_ft"),
        **modes,
        **_fixes(a, x, y, heading),
    )
