"""The air that a sector's aircraft fly in: wind by altitude, true airspeed and the wind triangle.

Facts of the game: aircraft/AircraftModel.js and airport/AirportModel.js. East and north are those of the
airport's magnetic frame.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import geometry
from wm.sector.airport import Airport
from wm.sector.traffic import Scene

TAS_PER_FT = 0.000016  # true airspeed grows 1.6 % per 1,000 ft
WIND_PER_FT = 0.00002  # wind grows 2 % per 1,000 ft above the field


@struct.dataclass
class Air:
    """What a sector's aircraft fly in during a step, `[]` each, or `[N]` the same for all."""

    elevation_ft: jax.Array  # of the airport
    latitude_rad: jax.Array
    magnetic_north_rad: jax.Array
    wind_speed_kt: jax.Array
    wind_from_rad: jax.Array


def air_of(scene: Scene, airport: Airport) -> Air:
    """The air of a scene at an airport."""
    return Air(
        elevation_ft=airport.elevation_ft,
        latitude_rad=airport.latitude_rad,
        magnetic_north_rad=airport.magnetic_north_rad,
        wind_speed_kt=scene.wind_speed_kt,
        wind_from_rad=scene.wind_from_rad,
    )


def wind_at(altitude_ft, air: Air):
    """Wind blowing towards, (east, north) in knots at each altitude."""
    factor = 1.0 + (altitude_ft - air.elevation_ft) * WIND_PER_FT
    speed = air.wind_speed_kt * factor
    return -speed * jnp.sin(air.wind_from_rad), -speed * jnp.cos(air.wind_from_rad)


def true_airspeed_kt(speed_kt, altitude_ft):
    """True airspeed of an indicated one."""
    return speed_kt * (1.0 + altitude_ft * TAS_PER_FT)


def crab_heading(track_rad, tas_kt, wind_east, wind_north):
    """Heading (rad) that makes a ground track good in wind, as the game computes it."""
    across = wind_north * jnp.sin(track_rad) - wind_east * jnp.cos(track_rad)
    crab = jnp.arcsin(jnp.clip(across / jnp.maximum(tas_kt, 1.0), -1.0, 1.0))
    return geometry.wrap_2pi(track_rad + crab)


def ground_vector(heading_rad, tas_kt, wind_east, wind_north):
    """Ground velocity (east, north) in kt of a heading in wind."""
    east = tas_kt * jnp.sin(heading_rad) + wind_east
    return east, tas_kt * jnp.cos(heading_rad) + wind_north
