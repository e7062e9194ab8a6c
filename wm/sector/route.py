"""An aircraft's own route: the fix it flies to, the next fix ahead, restrictions to come, the way left.

A route is a row of `Airport.route_*`; `traffic.leg` says which of its legs is current. Letters: N aircraft.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector.airport import Airport
from wm.sector.traffic import Traffic


def next_fix(traffic: Traffic, airport: Airport):
    """Leg index `[..., N]` of the next remaining fix with a position, -1 where none remains."""
    legs = airport.route_xy_nm.shape[1]
    found = airport.leg_of_fix[jnp.maximum(traffic.route, 0), jnp.clip(traffic.leg, 0, legs - 1)]
    exists = (traffic.route >= 0) & (traffic.leg >= 0) & (traffic.leg < legs)
    return jnp.where(exists, found, -1)


@struct.dataclass
class Leg:
    """Where a leg's fix is and what it asks, `[..., N]` each; -1 stands for none."""

    exists: jax.Array  # bool
    dx_nm: jax.Array  # from the aircraft, east and north
    dy_nm: jax.Array
    vector_rad: jax.Array  # heading of a vector leg, -1 for a fix
    fly_over: jax.Array  # bool
    altitude_min_ft: jax.Array
    altitude_max_ft: jax.Array
    speed_min_kt: jax.Array
    speed_max_kt: jax.Array


def current_leg(traffic: Traffic, airport: Airport, ahead: int = 0) -> Leg:
    """The leg that aircraft `[..., N]` fly, or the one `ahead` of it."""
    route = jnp.maximum(traffic.route, 0)
    leg = jnp.maximum(traffic.leg, 0) + ahead
    exists = (traffic.route >= 0) & (traffic.leg >= 0) & (leg < airport.route_legs[route])
    leg = jnp.minimum(leg, airport.route_xy_nm.shape[1] - 1)
    xy = airport.route_xy_nm[route, leg]
    return Leg(
        exists=exists,
        dx_nm=xy[..., 0] - traffic.x_nm,
        dy_nm=xy[..., 1] - traffic.y_nm,
        vector_rad=airport.route_vector_rad[route, leg],
        fly_over=airport.route_fly_over[route, leg],
        altitude_min_ft=airport.route_altitude_ft[route, leg, 0],
        altitude_max_ft=airport.route_altitude_ft[route, leg, 1],
        speed_min_kt=airport.route_speed_kt[route, leg, 0],
        speed_max_kt=airport.route_speed_kt[route, leg, 1],
    )


def route_left_nm(traffic: Traffic, airport: Airport):
    """Distance `[..., N]` (nm) over the remaining fixes, from the present position."""
    route = jnp.maximum(traffic.route, 0)
    leg = jnp.clip(traffic.leg, 0, airport.route_after_nm.shape[1] - 1)
    fix = current_leg(traffic, airport)
    first = jnp.where(
        fix.exists & (fix.vector_rad < 0), jnp.hypot(fix.dx_nm, fix.dy_nm), 0.0
    )
    return jnp.where(traffic.route >= 0, first + airport.route_after_nm[route, leg], 0.0)


@struct.dataclass
class Restriction:
    """The next restriction of one kind on each aircraft's route, `[..., N]` each."""

    value: jax.Array  # ft or kt
    distance_nm: jax.Array  # to the fix that has it
    exists: jax.Array  # bool
    leg: jax.Array  # of that fix, -1 where none


def restrictions(t: Traffic, airport: Airport) -> dict[str, Restriction]:
    """The next altitude maximum, altitude minimum and speed maximum: keys maximum, minimum, speed."""
    route, leg = jnp.maximum(t.route, 0), jnp.clip(t.leg, 0, airport.route_xy_nm.shape[1] - 1)
    tables = {
        "maximum": (airport.route_altitude_ft[..., 1], airport.leg_of_maximum),
        "minimum": (airport.route_altitude_ft[..., 0], airport.leg_of_minimum),
        "speed": (airport.route_speed_kt[..., 1], airport.leg_of_speed),
    }
    found = {}
    for name, (table, leg_of) in tables.items():
        at = leg_of[route, leg]
        index = jnp.maximum(at, 0)
        xy = airport.route_xy_nm[route, index]
        found[name] = Restriction(
            value=table[route, index],
            distance_nm=jnp.hypot(xy[..., 0] - t.x_nm, xy[..., 1] - t.y_nm),
            exists=(at >= 0) & (t.route >= 0) & (t.leg >= 0),
            leg=at,
        )
    return found
