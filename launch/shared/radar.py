"""Pictures of episodes: where aircraft flew, at what altitude, over the sector's map."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from rl.flown import flights
from wm.sector import traffic as tr
from wm.sector.airport import Airport

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.collections import LineCollection

EVERY = 3  # decisions between points of a track
FINAL_NM = 12.0  # of the extended centreline drawn before a runway
STRIP_NM = 1.5  # as long as every runway is drawn
MARGIN_NM = 5.0  # shown around the airspace
WIDE = 4  # panels side by side


def picture(tracks: dict[str, np.ndarray], airport: Airport) -> dict[str, Any]:
    """What `draw` needs of an episode as plain JSON: the map (nm), and tracks thinned to every 15 s."""
    used = np.unique(tracks["route"][tracks["valid"]])
    shown = [_thin(flight) for flight in flights(tracks) if flight["controllable"].any()]
    return map_of(airport, used) | {"flights": shown}


def map_of(airport: Airport, used) -> dict[str, Any]:
    """The sector's map (nm) with the routes of numbers `used`, as plain JSON."""
    volumes = zip(np.asarray(airport.airspace_xy_nm), np.asarray(airport.airspace_vertices), strict=True)
    legs = zip(
        np.asarray(airport.route_xy_nm),
        np.asarray(airport.route_vector_rad) < 0,
        np.asarray(airport.route_legs),
        strict=True,
    )
    used = {int(r) for r in used if r >= 0}
    runways = int(airport.runway_count)
    return {
        "airspace": [_points(xy[:n]) for xy, n in volumes if n],
        "routes": [_points(xy[:n][fix[:n]]) for i, (xy, fix, n) in enumerate(legs) if i in used],
        "runways": [
            [*_points([xy])[0], round(float(heading), 4)]
            for xy, heading in zip(
                np.asarray(airport.runway_xy_nm)[:runways],
                np.asarray(airport.runway_heading_rad)[:runways],
                strict=True,
            )
        ],
        "ceiling_ft": float(airport.ceiling_ft),
    }


def _points(xy) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in xy]


def _thin(flight: dict[str, np.ndarray]) -> dict[str, Any]:
    flying = np.flatnonzero(flight["phase"] > tr.WAITING)
    rows = flying[::EVERY]
    return {
        "arrival": bool(flight["category"][0] == tr.ARRIVAL),
        "step": flight["step"][rows].tolist(),
        "xy_nm": _points(np.stack([flight["x_nm"][rows], flight["y_nm"][rows]], -1)),
        "altitude_ft": np.round(flight["altitude_ft"][rows]).astype(int).tolist(),
    }


def draw(panels: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw `{title: picture}` side by side; arrivals solid, departures dashed, coloured by altitude.

    Raises ValueError where there is nothing to draw.
    """
    if not panels:
        raise ValueError("no episode with tracks to draw")
    wide = min(len(panels), WIDE)
    high = -(-len(panels) // wide)
    figure, axes = pyplot.subplots(
        high, wide, figsize=(5.0 * wide + 1.0, 5.2 * high), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    ceiling = max(shown["ceiling_ft"] for shown in panels.values())
    for (title, shown), axis in zip(panels.items(), axes.flat, strict=False):
        draw_map(axis, shown)
        for flight in shown["flights"]:
            xy = np.asarray(flight["xy_nm"])
            if len(xy) < 2:
                continue
            lines = LineCollection(
                np.stack([xy[:-1], xy[1:]], 1),
                array=np.asarray(flight["altitude_ft"][:-1], float),
                cmap="viridis",
                clim=(0.0, ceiling),
                linewidths=1.0,
                linestyles="solid" if flight["arrival"] else "dashed",
            )
            axis.add_collection(lines)
        axis.set(title=title)
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0.0, ceiling), "viridis")
    figure.colorbar(scale, ax=axes, label="altitude (ft)", shrink=0.8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def draw_map(axis, shown: dict[str, Any]) -> None:
    """Airspace, routes, runways and finals of a map, which fills the axis."""
    edge = np.concatenate(shown["airspace"])
    (left, bottom), (right, top) = edge.min(0) - MARGIN_NM, edge.max(0) + MARGIN_NM
    axis.set(aspect="equal", xlabel="nm", xlim=(left, right), ylim=(bottom, top))
    for polygon in shown["airspace"]:
        axis.plot(*np.asarray([*polygon, polygon[0]]).T, color="0.4", linewidth=1.0)
    for route in shown["routes"]:
        if route:
            axis.plot(*np.asarray(route).T, color="0.85", linewidth=0.8, marker=".", markersize=2, zorder=0)
    for x, y, heading in shown["runways"]:
        back = -FINAL_NM * np.asarray([np.sin(heading), np.cos(heading)])
        axis.plot([x, x + back[0]], [y, y + back[1]], color="0.7", linewidth=0.6, linestyle=":")
        ahead = -back / FINAL_NM * STRIP_NM
        axis.plot([x, x + ahead[0]], [y, y + ahead[1]], color="black", linewidth=2.5)
