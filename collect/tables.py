"""Whether what a page answers, or a recording says of its airport, is what its readers take it for.

A page or a file from somewhere else may hold anything. What is read further has been checked here: names,
types, ranges and numbers of parts.
"""

import json
from typing import Any

from collect import GameError
from wm.sector import traffic as tr

LARGEST = 1e9  # of any number: all are small in their units, and float32 holds them
IDS = 2**24  # float32 tells whole numbers below it apart
RUNWAYS, STREAMS, EVENTS = 24, 64, 32  # places per step of a recording; what is used follows from the airport
ROUTES, WAYPOINTS, VOLUMES, CORNERS = 2048, 256, 128, 2048  # most of each that an airport has
AGAIN = "open the game again, or set OPENSCOPE_URL to the address of another"


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number of reasonable size."""
    return type(value) in (int, float) and abs(value) <= LARGEST


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_line(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], bool)
    )


KINDS = {
    "a number": is_number,
    "a number or null": lambda value: value is None or is_number(value),
    "a whole number": lambda value: type(value) is int and is_number(value),
    "a text": lambda value: isinstance(value, str),
    "a text or null": lambda value: value is None or isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "two numbers": _is_point,
    "a line and whether it warns": _is_line,
    "a category": lambda value: isinstance(value, str) and value in tr.CATEGORIES,
}
"""What a value can be; lists hold one kind, objects have a kind for each name that is needed."""

STATIC = {
    **dict.fromkeys(("icao", "version"), "a text"),
    **dict.fromkeys(("elevation_ft", "min_altitude_ft", "ceiling_ft", "initial_altitude_ft"), "a number"),
    **dict.fromkeys(("radius_nm", "latitude_rad", "magnetic_north_rad"), "a number"),
    "arrival_runway": "a text or null",
    "runways": [
        {
            "name": "a text",
            **dict.fromkeys(("x_nm", "y_nm", "heading_rad", "elevation_ft", "glideslope_rad"), "a number"),
        }
    ],
    "runway_parallel_minimum_nm": [["a number"]],
    "airspace": [{"floor_ft": "a number", "ceiling_ft": "a number", "polygon_nm": ["two numbers"]}],
    "streams": [{"category": "a category", "rate_per_h": "a number", "speed_kt": "a number"}],
}
ROUTE = {
    "waypoints": [
        {
            "name": "a text",
            **dict.fromkeys(("x_nm", "y_nm", "vector_rad"), "a number or null"),
            **dict.fromkeys(
                ("altitude_min_ft", "altitude_max_ft", "speed_min_kt", "speed_max_kt"), "a number"
            ),
            **dict.fromkeys(("fly_over", "on_sid"), "true or false"),
        }
    ]
}


def misfit(value: Any, kind: str | list | dict, where: str) -> str | None:
    """Where a value of JSON is not of its kind, and how; None where it is."""
    if isinstance(kind, str):
        return None if KINDS[kind](value) else f"{where} is {_shown(value)}, must be {kind}"
    if not isinstance(value, type(kind)):
        return f"{where} is {_shown(value)}, must be {'an object' if isinstance(kind, dict) else 'a list'}"
    if isinstance(kind, list):
        parts = ((item, kind[0], f"{where}[{i}]") for i, item in enumerate(value))
    else:
        if lost := next((name for name in kind if name not in value), None):
            return f"{where} has no {lost}"
        parts = ((value[name], one, f"{where}.{name}") for name, one in kind.items())
    return next((found for part in parts if (found := misfit(*part))), None)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)[:60] if not isinstance(value, int) or is_number(value) else "a huge number"
    return text.encode("ascii", "backslashreplace").decode()


def airport_fault(static: Any, routes: Any) -> str | None:
    """What keeps an airport's tables and its routes from being read (wm.sector.airport); None for nothing."""
    if fault := misfit(static, STATIC, "airport"):
        return fault
    runways, minima = len(static["runways"]), static["runway_parallel_minimum_nm"]
    corners = [len(volume["polygon_nm"]) for volume in static["airspace"]]
    counts = {
        "runways": (runways, 1, RUNWAYS),
        "streams": (len(static["streams"]), 0, STREAMS),
        "volumes of airspace": (len(corners), 1, VOLUMES),
        "corners of its airspace": (max(corners, default=0), 1, CORNERS),
    }
    for name, (count, low, high) in counts.items():
        if not low <= count <= high:
            return f"airport has {count} {name}, must have {low} to {high}"
    if [len(row) for row in minima] != [runways] * runways:
        return f"airport.runway_parallel_minimum_nm must be {runways} by {runways} numbers"
    return routes_fault(routes)


def routes_fault(routes: Any) -> str | None:
    """What keeps routes from being read; None for nothing."""
    if fault := misfit(routes, [ROUTE], "routes"):
        return fault
    longest = max((len(route["waypoints"]) for route in routes), default=0)
    if len(routes) > ROUTES or longest > WAYPOINTS:
        return f"{len(routes)} routes of up to {longest} waypoints are more than {ROUTES} of {WAYPOINTS}"
    return None


def begun(found: Any) -> tuple[dict, str]:
    """The airport's tables and the first answer, from what the page returns when an episode begins.

    Raises GameError where it is anything else.
    """
    if not (isinstance(found, list | tuple) and len(found) == 2 and isinstance(found[0], str)):
        raise GameError(f"the page begins with {_shown(found)}, not with an airport: {AGAIN}")
    try:
        static = json.loads(found[0])
    except (ValueError, RecursionError) as error:
        raise GameError(f"the page's airport cannot be read ({_first_line(error)}): {AGAIN}") from None
    if fault := airport_fault(static, []):
        raise GameError(f"the page's airport cannot be used ({fault}): {AGAIN}")
    return static, found[1]


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200]
