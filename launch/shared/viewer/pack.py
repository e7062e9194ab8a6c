"""An episode as compact JSON: whole numbers in one compressed block, the map and what happened as lists.

The block holds a row per aircraft and decision, aircraft after aircraft, as unsigned 16-bit numbers, column
after column. Every column is stored as differences from row to row (modulo 65536), compressed by gzip and
written in base64. A value is `low + step * number`.
"""

import base64
import gzip
from typing import Any

import numpy as np

from launch.shared.viewer.flown import Flown
from launch.shared.viewer.losses import conflicts
from rl.flown import flights
from wm.sector import traffic as tr
from wm.sector.traffic import FT_PER_NM, Traffic

DEGREES = {"heading_rad": "heading_deg", "assigned_heading_rad": "assigned_heading_deg"}
COLUMNS = {
    "x_nm": (-327.68, 0.01),
    "y_nm": (-327.68, 0.01),
    "altitude_ft": (-2000.0, 1.0),
    "heading_deg": (0.0, 0.01),
    "speed_kt": (0.0, 0.1),
    "ground_speed_kt": (0.0, 0.1),
    "assigned_altitude_ft": (-2000.0, 1.0),  # -1 for none, as in the schema
    "assigned_heading_deg": (-1.0, 0.01),
    "assigned_speed_kt": (-1.0, 0.1),
    "phase": (-1.0, 1.0),
    "flags": (0.0, 1.0),  # the sum of FLAGS
    "runway": (-1.0, 1.0),
    "route": (-1.0, 1.0),
    "leg": (-1.0, 1.0),
    "disagreement": (0.0, 0.0001),
}
"""Lowest value and step of each column; what lies outside is shown at the edge of its range."""
FLAGS = {"controllable": 1, "approach_clearance": 2, "hit": 4}
RUNWAY_NM = 1.5  # of a runway whose length nobody knows


def pack(flown: Flown) -> dict[str, Any]:
    """The whole episode as plain JSON."""
    flying = flights(_columns(flown.traffic, flown.disagreement))
    steps = len(flown.traffic.valid) - 1
    columns = {} if flown.disagreement is None else {"disagreement": COLUMNS["disagreement"]}
    columns = {name: span for name, span in COLUMNS.items() if name != "disagreement"} | columns
    return {
        "title": flown.title,
        "icao": flown.icao,
        "steps": steps,
        "step_s": tr.STEP_S,
        "begin_s": flown.begin_s,
        "phases": list(tr.PHASES),
        "map": map_of(flown),
        "flights": [_about(flight, flown.callsigns) for flight in flying],
        "columns": {name: list(span) for name, span in columns.items()},
        "rows": sum(len(flight["step"]) for flight in flying),
        "block": _block(flying, columns),
        "commands": [list(row) for row in flown.commands],
        "events": [[*row, float(tr.EVENTS[row[2]])] for row in flown.events],
        "conflicts": [[*row[:5], round(row[5], 2)] for row in conflicts(flown.traffic, flown.airport)],
        "terms": {
            name: [[int(t), float(values[t])] for t in np.flatnonzero(values)]
            for name, values in flown.terms.items()
        },
    }


def _columns(traffic: Traffic, disagreement: np.ndarray | None) -> dict[str, np.ndarray]:
    """What the viewer shows of traffic `[T + 1, N]`, in its own units."""
    read = {name: np.asarray(getattr(traffic, name)) for name in (*tr.schema(Traffic),)}
    for name, degrees in DEGREES.items():
        read[degrees] = np.where(read[name] < 0, -1.0, np.rad2deg(read[name].astype(np.float64)) % 360.0)
    read["flags"] = sum(read[name].astype(int) * bit for name, bit in FLAGS.items())
    wanted = {"valid", "id", "category", *COLUMNS} - {"disagreement"}
    extra = {} if disagreement is None else {"disagreement": disagreement}
    return {name: read[name] for name in wanted} | extra


def _about(flight: dict[str, np.ndarray], callsigns: dict[int, str]) -> dict[str, Any]:
    who = int(flight["id"][0])
    return {
        "id": who,
        "callsign": callsigns.get(who, f"#{who}"),
        "category": tr.CATEGORIES[flight["category"][0]],
        "first": int(flight["step"][0]),
        "count": len(flight["step"]),
    }


def _block(flying: list[dict[str, np.ndarray]], columns: dict[str, tuple[float, float]]) -> str:
    parts = []
    for name, (low, step) in columns.items():
        values = np.concatenate([np.zeros(0), *(flight[name] for flight in flying)])
        numbers = np.clip(np.rint((values - low) / step), 0, 65535).astype(np.int64)
        parts.append(np.diff(numbers, prepend=0).astype("<u2"))
    whole = np.concatenate(parts).tobytes()
    return base64.b64encode(gzip.compress(whole, mtime=0)).decode("ascii")


def map_of(flown: Flown) -> dict[str, Any]:
    """The sector: airspace, restricted areas, runways and the routes that somebody flew (nm, ft, degrees)."""
    airport = flown.airport
    volumes = zip(np.asarray(airport.airspace_xy_nm), np.asarray(airport.airspace_vertices), strict=True)
    used = np.unique(np.asarray(flown.traffic.route)[np.asarray(flown.traffic.valid)])
    return {
        "elevation_ft": float(airport.elevation_ft),
        "ceiling_ft": float(airport.ceiling_ft),
        "airspace": [_points(xy[:n]) for xy, n in volumes if n],
        "restricted": [_points(area["polygon_nm"]) for area in flown.static.get("restricted", ())],
        "runways": [_runway(flown, r) for r in range(int(airport.runway_count))],
        "routes": {str(q): _fixes(flown, q) for q in used.tolist() if q >= 0},
    }


def _runway(flown: Flown, r: int) -> dict[str, Any]:
    airport, named = flown.airport, flown.static.get("runways", ())
    heading = float(np.rad2deg(airport.runway_heading_rad[r]))
    about = named[r] if r < len(named) else {}
    return {
        "name": about.get("name", f"{round(heading / 10) or 36}"),
        "xy": _points([airport.runway_xy_nm[r]])[0],
        "heading_deg": round(heading, 2),
        "length_nm": round(about.get("length_nm", RUNWAY_NM), 2),
        "elevation_ft": float(airport.runway_elevation_ft[r]),
        "rise_ft_per_nm": round(float(np.tan(airport.runway_glideslope_rad[r])) * FT_PER_NM, 1),
    }


def _fixes(flown: Flown, q: int) -> list[list]:
    """[name, x, y] of a route's legs in order; a leg without a fix is [""]."""
    airport, known = flown.airport, flown.routes
    points = known[q]["waypoints"] if q < len(known) else ()
    names = [point["name"] for point in points]
    legs = int(airport.route_legs[q])
    xy, vector = np.asarray(airport.route_xy_nm[q]), np.asarray(airport.route_vector_rad[q])
    return [
        [names[leg] if leg < len(names) else "", *_points([xy[leg]])[0]] if vector[leg] < 0 else [""]
        for leg in range(legs)
    ]


def _points(xy) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in xy]
