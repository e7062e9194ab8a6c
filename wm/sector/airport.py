"""Tables of one airport, fixed during an episode, padded so that airports stack to `[A, ...]`.

Built from the airport as the page itself loaded it (collect.game.Game.static and its routes).
Dimension letters: R runways, P airspace volumes, V polygon vertices, Q routes, L legs, S streams.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import geometry
from wm.sector.columns import stack_padded
from wm.sector.traffic import CATEGORIES, FT_PER_NM

FINAL_APPROACH_FIX_NM = 5.0  # the game's gate for landing or missed approach
MINIMUM_IN_TRAIL_NM = 5.5  # spacing of a stream's spawns
LEVELS = 9  # altitudes an action can name


@struct.dataclass
class Airport:
    """One airport; every leaf is an array, counts say how much of a padded axis is used."""

    elevation_ft: jax.Array  # []
    minimum_altitude_ft: jax.Array  # [] lowest assignable
    ceiling_ft: jax.Array  # [] highest assignable; assigning it leaves the airspace through the top
    radius_nm: jax.Array  # []
    latitude_rad: jax.Array  # []
    magnetic_north_rad: jax.Array  # []
    levels_ft: jax.Array  # [LEVELS] ascending
    runway_count: jax.Array  # []
    runway_xy_nm: jax.Array  # [R, 2] landing thresholds
    runway_heading_rad: jax.Array  # [R]
    runway_elevation_ft: jax.Array  # [R]
    runway_glideslope_rad: jax.Array  # [R]
    runway_intercept_ft: jax.Array  # [R] lowest assigned altitude an ILS clearance accepts
    parallel_minimum_nm: jax.Array  # [R, R] between established parallel approaches, else -1
    airspace_xy_nm: jax.Array  # [P, V, 2]
    airspace_vertices: jax.Array  # [P] vertices used, 0 for padding
    airspace_floor_ft: jax.Array  # [P]
    airspace_ceiling_ft: jax.Array  # [P]
    route_xy_nm: jax.Array  # [Q, L, 2]
    route_legs: jax.Array  # [Q] fixes used
    route_altitude_ft: jax.Array  # [Q, L, 2] minimum, maximum; -1 none
    route_speed_kt: jax.Array  # [Q, L, 2] minimum, maximum; -1 none
    route_vector_rad: jax.Array  # [Q, L] heading of a vector leg, -1 for a fix
    route_initial_ft: jax.Array  # [Q] altitude a departure is assigned when it takes off
    route_fly_over: jax.Array  # [Q, L] bool
    route_on_sid: jax.Array  # [Q, L] bool
    route_after_nm: jax.Array  # [Q, L] distance over the fixes that follow
    stream_count: jax.Array  # []
    stream_category: jax.Array  # [S]
    stream_interval_s: jax.Array  # [S] mean time between spawns at the airport's own rate
    stream_minimum_s: jax.Array  # [S] shortest time between spawns
    # `with_legs_ahead` looks these up. From each leg on: the first leg that has the property named, or -1.
    leg_of_fix: jax.Array  # [Q, L] int32; a fix, no vector leg
    leg_of_maximum: jax.Array  # [Q, L] int32; a maximum altitude
    leg_of_minimum: jax.Array  # [Q, L] int32; a minimum altitude
    leg_of_speed: jax.Array  # [Q, L] int32; a maximum speed


def altitude_levels(static: dict) -> np.ndarray:
    """Return the nine assignable altitudes (ft, ascending) of an airport.

    The lowest assignable one, the lowest that the arrival runway's ILS accepts (so that a
    glideslope can always be met from below), three in steps of 1,000 ft above it for
    layering, three spread up to the ceiling, and the ceiling.
    """
    ceiling = float(static["ceiling_ft"])
    lowest = float(static["min_altitude_ft"])
    arrival = [r for r in static["runways"] if r["name"] == static["arrival_runway"]]
    intercept = max(lowest, max(intercept_altitude_ft(r) for r in arrival or static["runways"]))
    base = np.ceil(intercept / 1000.0) * 1000.0
    near = base + 1000.0 * np.arange(1, 4)
    far = near[-1] + (ceiling - near[-1]) * np.arange(1, 4) / 4
    levels = np.concatenate([[lowest, intercept], near, np.round(far / 1000.0) * 1000.0, [ceiling]])
    return np.maximum.accumulate(np.minimum(levels, ceiling)).astype(np.float32)


def intercept_altitude_ft(runway: dict) -> float:
    """Lowest assigned altitude an ILS clearance accepts: glideslope at 5 nm, up to 100 ft."""
    rise = np.tan(runway["glideslope_rad"]) * FINAL_APPROACH_FIX_NM * FT_PER_NM
    return float(np.ceil((runway["elevation_ft"] + rise) / 100.0) * 100.0)


def _pad(rows: list, shape: tuple[int, ...], fill: float = 0.0) -> np.ndarray:
    """Stack arrays of unequal lengths into `shape`, padding with `fill`."""
    out = np.full(shape, fill, np.float32)
    for i, row in enumerate(rows):
        row = np.asarray(row, np.float32)
        out[(i, *(slice(0, n) for n in row.shape))] = row
    return out


def _after_nm(waypoints: list[dict]) -> np.ndarray:
    """Distance `[legs]` from every fix over the fixes after it; vector legs have no length."""
    xy = np.asarray([(w["x_nm"] or 0.0, w["y_nm"] or 0.0) for w in waypoints]).reshape(-1, 2)
    is_fix = np.asarray([w["vector_rad"] is None for w in waypoints], bool)
    length = np.where(is_fix[1:] & is_fix[:-1], np.linalg.norm(np.diff(xy, axis=0), axis=1), 0.0)
    return np.append(np.cumsum(length[::-1])[::-1], 0.0)[: len(waypoints)]


def _routes(routes: list[dict], initial_altitude_ft: float) -> dict:
    """Route columns `[Q, L, ...]`; `routes` in id order, each {"waypoints": [{...}]}."""
    q = max(1, len(routes))
    length = max([1] + [len(r["waypoints"]) for r in routes])

    def column(read, width, fill):
        rows = [[read(w) for w in r["waypoints"]] for r in routes]
        return _pad(rows, (q, length) + ((width,) if width else ()), fill)

    return {
        "route_xy_nm": column(lambda w: (w["x_nm"] or 0.0, w["y_nm"] or 0.0), 2, 0.0),
        "route_legs": _pad([len(r["waypoints"]) for r in routes], (q,)).astype(np.int32),
        "route_altitude_ft": column(lambda w: (w["altitude_min_ft"], w["altitude_max_ft"]), 2, -1.0),
        "route_speed_kt": column(lambda w: (w["speed_min_kt"], w["speed_max_kt"]), 2, -1.0),
        "route_vector_rad": column(
            lambda w: -1.0 if w["vector_rad"] is None else w["vector_rad"], 0, -1.0
        ),
        "route_initial_ft": _pad(
            [r.get("initial_altitude_ft", initial_altitude_ft) for r in routes], (q,)
        ),
        "route_fly_over": column(lambda w: w["fly_over"], 0, 0.0).astype(bool),
        "route_on_sid": column(lambda w: w["on_sid"], 0, 0.0).astype(bool),
        "route_after_nm": _pad([_after_nm(r["waypoints"]) for r in routes], (q, length)),
    }


def _streams(streams: list[dict]) -> dict:
    s = max(1, len(streams))
    interval = [3600.0 / max(x["rate_per_h"], 1e-6) for x in streams]
    minimum = [
        3600.0 * MINIMUM_IN_TRAIL_NM / x["speed_kt"] if x["speed_kt"] else 0.0 for x in streams
    ]
    return {
        "stream_count": np.int32(len(streams)),
        "stream_category": _pad(
            [CATEGORIES.index(x["category"]) for x in streams], (s,), -1
        ).astype(np.int32),
        "stream_interval_s": _pad(interval, (s,), 1e9),
        "stream_minimum_s": _pad(minimum, (s,), 0.0),
    }


def from_static(static: dict, routes: list[dict]) -> Airport:
    """Build an Airport from the page's tables (collect.game.Game.static) and its routes."""
    runways, volumes = static["runways"], static["airspace"]
    p, v = len(volumes), max(len(a["polygon_nm"]) for a in volumes)
    columns = {
        "elevation_ft": static["elevation_ft"],
        "minimum_altitude_ft": static["min_altitude_ft"],
        "ceiling_ft": static["ceiling_ft"],
        "radius_nm": static["radius_nm"],
        "latitude_rad": static["latitude_rad"],
        "magnetic_north_rad": static["magnetic_north_rad"],
        "levels_ft": altitude_levels(static),
        "runway_count": np.int32(len(runways)),
        "runway_xy_nm": [(r["x_nm"], r["y_nm"]) for r in runways],
        "runway_heading_rad": [r["heading_rad"] for r in runways],
        "runway_elevation_ft": [r["elevation_ft"] for r in runways],
        "runway_glideslope_rad": [r["glideslope_rad"] for r in runways],
        "runway_intercept_ft": [intercept_altitude_ft(r) for r in runways],
        "parallel_minimum_nm": static["runway_parallel_minimum_nm"],
        "airspace_xy_nm": _pad([a["polygon_nm"] for a in volumes], (p, v, 2)),
        "airspace_vertices": np.asarray([len(a["polygon_nm"]) for a in volumes], np.int32),
        "airspace_floor_ft": [a["floor_ft"] for a in volumes],
        "airspace_ceiling_ft": [a["ceiling_ft"] for a in volumes],
        **_routes(routes, static["initial_altitude_ft"]),
        **_streams(static["streams"]),
    }
    return with_legs_ahead({k: _array(x) for k, x in columns.items()})


def _array(value):
    """Arrays keep their type; the page's numbers are real even where JSON wrote them without a point."""
    return jnp.asarray(value, None if isinstance(value, (np.ndarray, np.generic)) else np.float32)


def stack(airports: list[Airport]) -> Airport:
    """Stack airports to `[A, ...]`, padding every axis to the largest (counts say what is used)."""
    columns = stack_padded([own_columns(airport) for airport in airports])
    return with_legs_ahead(jax.tree.map(jnp.asarray, columns))


def trimmed(airports: Airport) -> Airport:
    """Airports `[A, ...]` without the airspace volumes and vertices that none of them uses.

    With its padding the airspace of all recorded airports has 4,575 edges, that of the usual one a dozen, and
    every step measures the distance of every aircraft to each.
    """
    count = np.asarray(airports.airspace_vertices)
    volumes, vertices = max(1, np.flatnonzero(count.any(0)).max(initial=0) + 1), max(1, count.max())
    return airports.replace(
        airspace_xy_nm=airports.airspace_xy_nm[:, :volumes, :vertices],
        airspace_vertices=airports.airspace_vertices[:, :volumes],
        airspace_floor_ft=airports.airspace_floor_ft[:, :volumes],
        airspace_ceiling_ft=airports.airspace_ceiling_ft[:, :volumes],
    )


def select(airports: Airport, airport_id) -> Airport:
    """Return one airport of a stacked set."""
    return jax.tree.map(lambda x: x[airport_id], airports)


def airspace_margin_nm(x_nm, y_nm, altitude_ft, airport: Airport):
    """Distance (nm) to the airspace's lateral edge, positive inside; volumes at this altitude."""

    def volume(polygon, count, floor, ceiling):
        margin = geometry.signed_distance_to_polygon(x_nm, y_nm, polygon, count)
        within = (altitude_ft >= floor) & (altitude_ft <= ceiling)
        return jnp.where(within, margin, -jnp.abs(margin))

    margins = jax.vmap(volume)(
        airport.airspace_xy_nm,
        airport.airspace_vertices,
        airport.airspace_floor_ft,
        airport.airspace_ceiling_ft,
    )
    return jnp.max(margins, axis=0)


def with_legs_ahead(columns: dict) -> Airport:
    """Build an Airport, or several stacked ones, from all columns but the `leg_of_` ones."""
    asked = {
        "leg_of_fix": columns["route_vector_rad"] < 0,
        "leg_of_maximum": columns["route_altitude_ft"][..., 1] >= 0,
        "leg_of_minimum": columns["route_altitude_ft"][..., 0] >= 0,
        "leg_of_speed": columns["route_speed_kt"][..., 1] >= 0,
    }
    found = {name: _first_leg_ahead(has, columns["route_legs"]) for name, has in asked.items()}
    return Airport(**columns, **found)


def own_columns(airport: Airport) -> dict:
    """The columns that `with_legs_ahead` takes: all that do not follow from others."""
    return {k: v for k, v in vars(airport).items() if not k.startswith("leg_of_")}


def _first_leg_ahead(has, route_legs) -> jax.Array:
    """From every leg `[..., Q, L]` on, the first used one where `has` is true, or -1; int32."""
    count = has.shape[-1]
    legs = jnp.arange(count)
    used = legs < route_legs[..., None]
    nearest = jax.lax.cummin(jnp.where(has & used, legs, count), axis=has.ndim - 1, reverse=True)
    return jnp.where(nearest < count, nearest, -1).astype(jnp.int32)
