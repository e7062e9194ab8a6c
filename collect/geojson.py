"""The map of an airport as GeoJSON (RFC 7946): airspace, restricted areas, runways, routes and fixes.

    json.dumps(geojson.airport_map(episode.static, episode.routes))

Coordinates are longitude and latitude in degrees (WGS 84), rings run counterclockwise. Every feature has a
`kind` and its own properties, with units in their names.
"""

from collections.abc import Iterable

import numpy as np

from collect import coordinates

DECIMALS = 7  # of a degree: a centimetre


def airport_map(static: dict, routes: Iterable[dict]) -> dict:
    """A FeatureCollection of an airport's table and of routes, as recordings hold both.

    The fixes are those of the routes. A part of a route without a position (a heading to fly) is left out.
    """
    routes = list(routes)
    features = [_point("airport", *_degrees(0.0, 0.0, static), name=static["icao"].upper(),
                       title=static["name"], elevation_ft=static["elevation_ft"])]  # fmt: skip
    for volume in static["airspace"]:
        limits = {name: volume[name] for name in ("floor_ft", "ceiling_ft")}
        features.append(_polygon("airspace", volume["polygon_nm"], static, **limits))
    for area in static["restricted"]:
        features.append(_polygon("restricted", area["polygon_nm"], static, ceiling_ft=area["height_ft"]))
    features += [_runway(runway, static) for runway in static["runways"]]
    features += _routes(routes, static)
    fixes = {fix["name"]: fix for route in routes for fix in positions(route)}
    for name, fix in sorted(fixes.items()):
        features.append(_point("fix", *_degrees(fix["x_nm"], fix["y_nm"], static), name=name))
    return {"type": "FeatureCollection", "features": features}


def positions(route: dict) -> list[dict]:
    """The waypoints of a route that have a position."""
    return [waypoint for waypoint in route["waypoints"] if waypoint["x_nm"] is not None]


def _routes(routes: list[dict], static: dict) -> list[dict]:
    """Lines of the routes, one of those that differ in restrictions only."""
    lines = {}
    for route in routes:
        fixes = positions(route)
        if len(fixes) > 1:
            names = tuple(fix["name"] for fix in fixes)
            points = [_degrees(fix["x_nm"], fix["y_nm"], static) for fix in fixes]
            lines[route["route"], names] = _feature(
                "route", "LineString", points, name=route["route"], fixes=list(names)
            )
    return [lines[key] for key in sorted(lines)]


def _runway(runway: dict, static: dict) -> dict:
    """A runway from its landing threshold to its far end."""
    latitude, longitude = coordinates.to_globe(runway["x_nm"], runway["y_nm"], static)
    bearing = float(coordinates.true_deg(runway["heading_rad"], static))
    far = coordinates.beyond(latitude, longitude, bearing, runway["length_nm"])
    ends = [_rounded(longitude, latitude), _rounded(far[1], far[0])]
    properties = {name: runway[name] for name in ("name", "elevation_ft", "length_nm", "ils")}
    return _feature("runway", "LineString", ends, **properties, bearing_true_deg=round(bearing, 3))


def _polygon(kind: str, polygon_nm: list, static: dict, **properties) -> dict:
    ring = [_degrees(x, y, static) for x, y in polygon_nm]
    x, y = np.asarray(ring).T - np.asarray(ring[0])[:, None]
    area = np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
    ring = ring if area > 0 else ring[::-1]
    return _feature(kind, "Polygon", [[*ring, ring[0]]], **properties)


def _point(kind: str, longitude: float, latitude: float, **properties) -> dict:
    return _feature(kind, "Point", [longitude, latitude], **properties)


def _feature(kind: str, shape: str, coordinates: list, **properties) -> dict:
    geometry = {"type": shape, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"kind": kind, **properties}}


def _degrees(x_nm: float, y_nm: float, static: dict) -> list[float]:
    """[longitude, latitude] of a position in the plane."""
    latitude, longitude = coordinates.to_globe(x_nm, y_nm, static)
    return _rounded(longitude, latitude)


def _rounded(longitude, latitude) -> list[float]:
    return [round(float(longitude), DECIMALS), round(float(latitude), DECIMALS)]
