"""The approach to an aircraft's assigned runway: course, offsets from it, glideslope, where it may be joined.

Kinematics, the network's features, the observation, the separation rule and the reward all take them from
here. Distances are nautical miles in the airport's magnetic frame; `cross` is right of the centreline
looking along the landing direction, `along` is the distance to go to the threshold, negative behind it.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import geometry
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import FT_PER_NM, Traffic

# Facts of the game: AircraftModel.isEstablishedOnCourse.
ESTABLISHED_NM = 0.0822894  # about 500 ft off the centreline
ESTABLISHED_RAD = 0.0872665  # 5 degrees


@struct.dataclass
class Course:
    """The assigned runway's approach course, `[..., N]` each."""

    x_nm: jax.Array  # landing threshold
    y_nm: jax.Array
    heading_rad: jax.Array
    sin: jax.Array  # of the heading
    cos: jax.Array
    elevation_ft: jax.Array  # of the runway
    glide_ft_per_nm: jax.Array  # how fast the glideslope rises
    flown: jax.Array  # bool, by an arrival that has a runway


def course(traffic: Traffic, airport: Airport) -> Course:
    """Look up the approach courses of traffic `[..., N]`."""
    runway = jnp.maximum(traffic.runway, 0)
    xy = airport.runway_xy_nm[runway]
    heading = airport.runway_heading_rad[runway]
    return Course(
        x_nm=xy[..., 0],
        y_nm=xy[..., 1],
        heading_rad=heading,
        sin=jnp.sin(heading),
        cos=jnp.cos(heading),
        elevation_ft=airport.runway_elevation_ft[runway],
        glide_ft_per_nm=jnp.tan(airport.runway_glideslope_rad[runway]) * FT_PER_NM,
        flown=(traffic.category == tr.ARRIVAL) & (traffic.runway >= 0),
    )


def offset(x_nm, y_nm, way: Course):
    """(cross, along) in nm of positions `[..., N]`; the game's getOffset."""
    dx, dy = way.x_nm - x_nm, way.y_nm - y_nm
    return way.sin * dy - way.cos * dx, way.sin * dx + way.cos * dy


def threshold(x_nm, y_nm, cross_nm, along_nm, heading_rad):
    """Landing threshold (x, y) of courses on which positions have this offset; the inverse of `offset`."""
    sin, cos = jnp.sin(heading_rad), jnp.cos(heading_rad)
    return x_nm + along_nm * sin - cross_nm * cos, y_nm + along_nm * cos + cross_nm * sin


def glideslope_ft(along_nm, way: Course):
    """Altitude (ft) of the glideslope at a distance from the threshold; the runway's elevation behind it."""
    return way.elevation_ft + way.glide_ft_per_nm * jnp.maximum(along_nm, 0.0)


def intercept_ft(traffic: Traffic, airport: Airport):
    """Lowest assigned altitude `[..., N]` (ft) with which the game accepts an ILS clearance."""
    return airport.runway_intercept_ft[jnp.maximum(traffic.runway, 0)]


def on_course(x_nm, y_nm, track_rad, way: Course):
    """Whether an arrival is established: within 500 ft and 5 degrees of its course, before the threshold."""
    cross, along = offset(x_nm, y_nm, way)
    angle = jnp.abs(geometry.wrap_pi(track_rad - way.heading_rad))
    return (jnp.abs(cross) <= ESTABLISHED_NM) & (along > 0) & (angle < ESTABLISHED_RAD) & way.flown


@struct.dataclass
class Approach:
    """Where aircraft are relative to their approach, `[..., N]` each."""

    cross_nm: jax.Array
    along_nm: jax.Array
    angle_rad: jax.Array  # heading minus the runway's, in [-pi, pi)
    track_angle_rad: jax.Array  # ground track minus the runway's heading
    glideslope_ft: jax.Array  # here
    intercept_ft: jax.Array  # see `intercept_ft`


def approach_of(traffic: Traffic, airport: Airport) -> Approach:
    """The approach geometry of traffic `[..., N]`."""
    way = course(traffic, airport)
    cross, along = offset(traffic.x_nm, traffic.y_nm, way)
    return Approach(
        cross_nm=cross,
        along_nm=along,
        angle_rad=geometry.wrap_pi(traffic.heading_rad - way.heading_rad),
        track_angle_rad=geometry.wrap_pi(traffic.ground_track_rad - way.heading_rad),
        glideslope_ft=glideslope_ft(along, way),
        intercept_ft=intercept_ft(traffic, airport),
    )
