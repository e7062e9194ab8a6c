"""Hand-made airports and scenes for the tests of the definitions; nothing here is a recording.

The main airport lies at 2,000 ft with two parallel westerly runways 1 nm apart and a crossing one; numbers
are round so that expected values can be worked out by hand.
"""

import jax.numpy as jnp
import numpy as np

from wm.sector import traffic as tr
from wm.sector.airport import Airport, from_static

WEST = np.deg2rad(270.0)
NORTH = 0.0
SQUARE = [(-50, -50), (50, -50), (50, 50), (-50, 50)]
RUNWAY_27L, RUNWAY_27R, RUNWAY_36 = range(3)
ARRIVAL_ROUTE, SID_ROUTE, VECTOR_ROUTE = range(3)


def fix(x_nm, y_nm, low=-1.0, high=-1.0, slow=-1.0, fast=-1.0, fly_over=False, on_sid=False) -> dict:
    """One fix of a route as the page's tables give it; -1 stands for no restriction."""
    return {
        "x_nm": x_nm,
        "y_nm": y_nm,
        "altitude_min_ft": low,
        "altitude_max_ft": high,
        "speed_min_kt": slow,
        "speed_max_kt": fast,
        "vector_rad": None,
        "fly_over": fly_over,
        "on_sid": on_sid,
    }


def vector(heading_deg: float, on_sid: bool = False) -> dict:
    """One vector leg of a route: a heading and no position."""
    return fix(None, None, on_sid=on_sid) | {"vector_rad": np.deg2rad(heading_deg)}


def routes() -> list[dict]:
    """An arrival over three fixes 10 nm apart, a SID, and a SID that begins with a vector."""
    arrival = [fix(30, 0, high=12000), fix(20, 0, low=6000, high=9000, fast=230), fix(10, 0)]
    sid = [fix(-5, 0, on_sid=True), fix(-25, 0, high=15000, on_sid=True), fix(-60, 0)]
    vectored = [vector(360, on_sid=True), fix(0, 20, on_sid=True)]
    return [{"waypoints": arrival}, {"waypoints": sid}, {"waypoints": vectored}]


def _runway(name: str, x_nm: float, y_nm: float, heading_rad: float, elevation_ft: float) -> dict:
    return {
        "name": name,
        "x_nm": x_nm,
        "y_nm": y_nm,
        "heading_rad": heading_rad,
        "elevation_ft": elevation_ft,
        "glideslope_rad": np.deg2rad(3.0),
    }


def static(**changes) -> dict:
    """The page's tables of the main airport; whole numbers are integers, as JSON gives them."""
    tables = {
        "elevation_ft": 2000,
        "min_altitude_ft": 3000,
        "ceiling_ft": 19000,
        "initial_altitude_ft": 7000,
        "radius_nm": 60,
        "latitude_rad": 0.63,
        "magnetic_north_rad": 0.2,
        "runways": [
            _runway("27L", 1, 0, WEST, 2000),
            _runway("27R", 1, 1, WEST, 2050),
            _runway("36", 0, -1, NORTH, 2000),
        ],
        "arrival_runway": "27L",
        "runway_parallel_minimum_nm": [[-1, 1.5, -1], [1.5, -1, -1], [-1, -1, -1]],
        "airspace": [{"polygon_nm": SQUARE, "floor_ft": 0, "ceiling_ft": 19000}],
        "streams": [
            {"category": "arrival", "rate_per_h": 10, "speed_kt": 280},
            {"category": "departure", "rate_per_h": 12, "speed_kt": 0},
        ],
    }
    return tables | changes


def airport(**changes) -> Airport:
    """The main airport, with `changes` to its tables."""
    return from_static(static(**changes), routes())


def larger_airport() -> Airport:
    """An airport that is longer than the main one on every padded axis."""
    octagon = [(40 * np.cos(a), 40 * np.sin(a)) for a in np.arange(8) * np.pi / 4]
    volumes = [{"polygon_nm": octagon, "floor_ft": 1000.0 * i, "ceiling_ft": 15000.0} for i in range(3)]
    runways = [_runway(str(i), i, -i, 0.5 + i, 130.5) for i in range(5)]
    long_route = [{"waypoints": [fix(5.0 * i, 3.0, low=4000, fast=250) for i in range(9)]}]
    tables = static(
        elevation_ft=130.5,
        min_altitude_ft=1200,
        ceiling_ft=15000,
        latitude_rad=-0.4,
        magnetic_north_rad=-0.1,
        runways=runways,
        arrival_runway="3",
        runway_parallel_minimum_nm=np.full((5, 5), -1.0).tolist(),
        airspace=volumes,
        streams=static()["streams"] * 2,
    )
    return from_static(tables, routes() + long_route)


def traffic(slots: int, **columns) -> tr.Traffic:
    """Traffic with `slots` slots; lists set the first ones, single values all; unset fields suit a jet."""
    filled = {
        "altitude_ft": 10000.0,
        "heading_rad": WEST,
        "ground_track_rad": WEST,
        "speed_kt": 250.0,
        "ground_speed_kt": 250.0,
        "category": tr.ARRIVAL,
        "phase": tr.DESCENT,
        "controllable": True,
        "autopilot": True,
        "altitude_mode": tr.MODE_HOLD,
        "heading_mode": tr.HEADING_LNAV,
        "speed_mode": tr.SPEED_VNAV,
        "assigned_altitude_ft": 10000.0,
        "assigned_heading_rad": WEST,
        "assigned_speed_kt": 250.0,
        "runway": RUNWAY_27L,
        "route": ARRIVAL_ROUTE,
        "leg": 0,
        "minimum_speed_kt": 130.0,
        "maximum_speed_kt": 460.0,
        "ceiling_ft": 41000.0,
        "airborne_s": 600.0,
        "since_contact_s": 0.0,
    } | columns
    count = max([len(v) for v in columns.values() if np.ndim(v)], default=slots)
    empty = tr.empty(tr.Traffic, (slots,), np)
    arrays = {name: getattr(empty, name).copy() for name in tr.schema(tr.Traffic)}
    for name, value in (filled | {"valid": True, "id": np.arange(count) + 100} | columns).items():
        arrays[name][:count] = value
    return tr.Traffic(**{name: jnp.asarray(value) for name, value in arrays.items()})


def scene(aircraft: tr.Traffic, place: Airport, **changes) -> tr.Scene:
    """A scene of the aircraft at the airport, by default without wind."""
    fields = {
        "traffic": aircraft,
        "runways": tr.empty(tr.Runways, place.runway_heading_rad.shape),
        "since_spawn_s": jnp.full(place.stream_category.shape, 20.0, jnp.float32),
        "wind_speed_kt": jnp.float32(0.0),
        "wind_from_rad": jnp.float32(0.0),
        "time_s": jnp.float32(0.0),
    }
    return tr.Scene(**(fields | changes))


def random_traffic(rng: np.random.Generator, slots: int) -> tr.Traffic:
    """Traffic over the whole range of every field the definitions read; a third of the slots is empty."""
    draw = {
        "id": rng.permutation(1000)[:slots],
        "x_nm": rng.uniform(-70, 70, slots),
        "y_nm": rng.uniform(-70, 70, slots),
        "altitude_ft": rng.uniform(0, 40000, slots),
        "heading_rad": rng.uniform(0, 2 * np.pi, slots),
        "speed_kt": rng.uniform(0, 480, slots),
        "ground_speed_kt": rng.uniform(0, 550, slots),
        "ground_track_rad": rng.uniform(0, 2 * np.pi, slots),
        "category": rng.integers(0, 3, slots),
        "phase": rng.integers(0, 10, slots),
        "controllable": rng.random(slots) < 0.7,
        "altitude_mode": rng.integers(0, 4, slots),
        "heading_mode": rng.integers(0, 4, slots),
        "speed_mode": rng.integers(0, 4, slots),
        "assigned_altitude_ft": rng.choice([-1.0, 3000, 3700, 5000, 19001], slots),
        "assigned_heading_rad": np.where(rng.random(slots) < 0.3, -1.0, rng.uniform(0, 2 * np.pi, slots)),
        "assigned_speed_kt": rng.choice([-1.0, 180.0, 280.0], slots),
        "target_altitude_ft": rng.uniform(0, 40000, slots),
        "target_heading_rad": rng.uniform(0, 2 * np.pi, slots),
        "target_speed_kt": rng.uniform(0, 480, slots),
        "expedite": rng.random(slots) < 0.5,
        "turn": rng.integers(-1, 2, slots),
        "approach_clearance": rng.random(slots) < 0.4,
        "runway": rng.integers(-1, 3, slots),
        "route": rng.integers(-1, 3, slots),
        "leg": rng.integers(-1, 4, slots),
        "queue_position": rng.integers(-1, 5, slots),
        "since_phase_s": rng.uniform(0, 9000, slots),
        "climb_fpm": rng.uniform(500, 5000, slots),
        "descent_fpm": rng.uniform(500, 4000, slots),
        "decelerate_kt_s": rng.uniform(0.5, 3, slots),
        "minimum_speed_kt": rng.uniform(34, 200, slots),
        "maximum_speed_kt": rng.uniform(140, 600, slots),
        "ceiling_ft": rng.uniform(8000, 45000, slots),
        "airborne_s": rng.choice([-1.0, 89.5, 90.0, 2000.0], slots),
    }
    full, blank = traffic(slots, **draw), tr.empty(tr.Traffic, (slots,))
    valid = jnp.asarray(rng.random(slots) < 0.67)
    columns = {n: jnp.where(valid, getattr(full, n), getattr(blank, n)) for n in tr.schema(tr.Traffic)}
    return tr.Traffic(**columns)


def hold(aircraft: tr.Traffic, frames: int = tr.FRAMES_PER_STEP, **columns) -> tr.SubSteps:
    """Sub-steps `[K, N]` in which nothing moves, except where a column `[K]` or `[K, N]` says how."""
    values = {name: getattr(aircraft, name) for name in tr.schema(tr.SubSteps) if name != "present"}
    values = {n: jnp.broadcast_to(v, (frames, v.shape[-1])) for n, v in values.items()}
    return tr.SubSteps(
        **(values | {"present": jnp.broadcast_to(aircraft.valid, values["x_nm"].shape)} | columns)
    )
