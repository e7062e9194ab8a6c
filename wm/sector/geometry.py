"""Plane geometry in the airport's magnetic frame: angles, bearings, polygons.

openScope integrates positions on a sphere and shows them in a plane whose east scale is fixed
at the airport's latitude (base/DynamicPositionModel.js). `east_scale` is the ratio between the
two. It differs from 1 by about 1 % at 60 nm; without it a track would be off by 0.3 nm after five minutes.
"""

import jax.numpy as jnp

EARTH_RADIUS_NM = 6371.0 / 1.852


def wrap_2pi(angle):
    """Return `angle` (rad) in [0, 2 pi), up to rounding; a floor costs far less than a remainder."""
    return jnp.maximum(angle - 2 * jnp.pi * jnp.floor(angle / (2 * jnp.pi)), 0.0)


def wrap_pi(angle):
    """Return `angle` (rad) in [-pi, pi)."""
    return angle - 2 * jnp.pi * jnp.floor((angle + jnp.pi) / (2 * jnp.pi))


def bearing(dx_nm, dy_nm):
    """Bearing (rad, clockwise from north) of the plane vector (dx, dy)."""
    return wrap_2pi(jnp.arctan2(dx_nm, dy_nm))


def east_scale(x_nm, y_nm, latitude_rad, magnetic_north_rad):
    """Return plane east distance per true east distance at a position (ratio, about 1)."""
    north_nm = y_nm * jnp.cos(magnetic_north_rad) - x_nm * jnp.sin(magnetic_north_rad)
    return jnp.cos(latitude_rad) / jnp.cos(latitude_rad + north_nm / EARTH_RADIUS_NM)


def plane_displacement(east_nm, north_nm, scale, magnetic_north_rad):
    """Displacement (dx, dy) in the plane of a flight by (east, north) in the magnetic frame."""
    cos, sin = jnp.cos(magnetic_north_rad), jnp.sin(magnetic_north_rad)
    east, north = (east_nm * cos + north_nm * sin) * scale, north_nm * cos - east_nm * sin
    return east * cos - north * sin, east * sin + north * cos


def true_bearing_to(x_nm, y_nm, dx_nm, dy_nm, latitude_rad, magnetic_north_rad):
    """Magnetic bearing (rad) on which the great circle from a position along a plane vector begins.

    It leaves the straight line of the plane by half the convergence of the meridians, which the game's gain
    of 20 on the localizer makes a third of a degree at 10 nm.
    """
    cos, sin = jnp.cos(magnetic_north_rad), jnp.sin(magnetic_north_rad)
    begin = latitude_rad + (y_nm * cos - x_nm * sin) / EARTH_RADIUS_NM
    north = (dy_nm * cos - dx_nm * sin) / EARTH_RADIUS_NM
    east = (dx_nm * cos + dy_nm * sin) / (EARTH_RADIUS_NM * jnp.cos(latitude_rad))
    across = jnp.cos(begin + north)
    # cos a sin b - sin a cos b cos c, without the difference of nearly equal numbers
    along = jnp.sin(north) + 2.0 * jnp.sin(begin) * across * jnp.sin(east / 2.0) ** 2
    return wrap_2pi(jnp.arctan2(jnp.sin(east) * across, along) - magnetic_north_rad)


def signed_distance_to_polygon(x_nm, y_nm, polygon_nm, count):
    """Distance (nm) from points `[...]` to the boundary of `polygon [V, 2]`; negative outside.

    Only the first `count` vertices are used; the polygon closes itself. A polygon with fewer
    than three vertices contains nothing and is infinitely far.
    """
    total = polygon_nm.shape[0]
    index = jnp.arange(total)
    start = polygon_nm
    end = polygon_nm[jnp.where(index + 1 >= count, 0, index + 1)]
    used = index < count
    px, py = x_nm[..., None], y_nm[..., None]
    ex, ey = end[:, 0] - start[:, 0], end[:, 1] - start[:, 1]
    wx, wy = px - start[:, 0], py - start[:, 1]
    fraction = jnp.clip((wx * ex + wy * ey) / jnp.maximum(ex * ex + ey * ey, 1e-9), 0.0, 1.0)
    squared = (wx - ex * fraction) ** 2 + (wy - ey * fraction) ** 2
    nearest = jnp.sqrt(jnp.min(jnp.where(used, squared, jnp.inf), axis=-1))
    straddles = (start[:, 1] > py) != (end[:, 1] > py)
    slope = jnp.where(ey == 0, 1.0, ey)
    crossing_x = start[:, 0] + ex * (py - start[:, 1]) / slope
    crossings = jnp.sum(used & straddles & (px < crossing_x), axis=-1)
    inside = (crossings % 2 == 1) & (count >= 3)
    return jnp.where(inside, nearest, -nearest)
