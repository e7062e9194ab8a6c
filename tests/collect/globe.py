"""The inverse of collect.coordinates.to_globe, which only tests need."""

import numpy as np

from wm.sector.geometry import EARTH_RADIUS_NM


def to_plane(latitude_deg, longitude_deg, static: dict) -> tuple[np.ndarray, np.ndarray]:
    """Nautical miles (x, y) in the plane of places `[...]` on the globe, up to a quarter turn away."""
    turn, latitude = static["magnetic_north_rad"], static["latitude_rad"]
    across = np.radians(np.asarray(longitude_deg, np.float64)) - static["longitude_rad"]
    across = (across + np.pi) % (2.0 * np.pi) - np.pi
    east = 2.0 * EARTH_RADIUS_NM * np.arcsin(np.cos(latitude) * np.sin(across / 2.0))
    north = (np.radians(np.asarray(latitude_deg, np.float64)) - latitude) * EARTH_RADIUS_NM
    return east * np.cos(turn) - north * np.sin(turn), east * np.sin(turn) + north * np.cos(turn)
