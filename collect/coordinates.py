"""Where positions in an airport's plane lie on the globe, exactly as the game converts them.

    latitude, longitude = to_globe(x_nm, y_nm, episode.static)      # degrees

The game measures east along the airport's own parallel and north along its meridian, both as great-circle
distances, and turns the two by the magnetic declination (base/DynamicPositionModel.js,
base/positionModelHelpers.js). All in float64. `static` is the airport's table of a recording.
"""

import numpy as np

from wm.sector.geometry import EARTH_RADIUS_NM

RUNWAY_RADIUS_NM = 3440.0  # the game's other radius of the earth: of bearings, runways and flight


def to_globe(x_nm, y_nm, static: dict) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude (degrees, longitude in [-180, 180)) of positions `[...]` in the plane."""
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    turn, latitude = static["magnetic_north_rad"], static["latitude_rad"]
    east = x * np.cos(turn) + y * np.sin(turn)
    north = y * np.cos(turn) - x * np.sin(turn)
    across = 2.0 * np.arcsin(np.sin(east / (2.0 * EARTH_RADIUS_NM)) / np.cos(latitude))
    longitude = np.degrees(static["longitude_rad"] + across)
    return np.degrees(latitude + north / EARTH_RADIUS_NM), (longitude + 180.0) % 360.0 - 180.0


def true_deg(bearing_rad, static: dict) -> np.ndarray:
    """True bearings (degrees in [0, 360)) of magnetic ones (rad)."""
    return np.degrees(np.asarray(bearing_rad, np.float64) + static["magnetic_north_rad"]) % 360.0


def beyond(latitude_deg: float, longitude_deg: float, bearing_deg: float, distance_nm: float):
    """Where a great circle ends that leaves a place on a true bearing; degrees."""
    begin, bearing = np.radians(latitude_deg), np.radians(bearing_deg)
    angle = distance_nm / RUNWAY_RADIUS_NM
    end = np.arcsin(np.sin(begin) * np.cos(angle) + np.cos(begin) * np.sin(angle) * np.cos(bearing))
    east = np.sin(bearing) * np.sin(angle) * np.cos(begin)
    along = np.cos(angle) - np.sin(begin) * np.sin(end)
    return np.degrees(end), longitude_deg + np.degrees(np.arctan2(east, along))
