"""The observation: what a controller sees, computed alike from the real game and the model.

`aircraft_features` returns named columns in physical units; `SCALES` divides them to order one
and fixes their order, so that scripted policies can `read` a column back in its unit. Elapsed
episode time is not observed.
"""

import jax
import jax.numpy as jnp

from wm.sector import approach, commands, geometry
from wm.sector import traffic as tr
from wm.sector.airport import Airport, airspace_margin_nm
from wm.sector.columns import stack
from wm.sector.route import current_leg, route_left_nm
from wm.sector.traffic import Scene, Traffic

LOOK_AHEAD_S = 120.0  # horizon of the closest-approach features
FAR_NM = 60.0  # distance shown where there is nobody
VERTICAL_WEIGHT_NM_PER_FT = 3.0 / 1000.0  # the separation minimum's own exchange rate


def _one_hot_names(prefix: str, names: tuple[str, ...]) -> dict[str, float]:
    return {f"{prefix}_{n.lower()}": 1.0 for n in names}


SCALES: dict[str, float] = {
    "x_nm": 60.0,
    "y_nm": 60.0,
    "altitude_ft": 10000.0,
    "heading_sin": 1.0,
    "heading_cos": 1.0,
    "speed_kt": 250.0,
    "ground_speed_kt": 250.0,
    "track_sin": 1.0,
    "track_cos": 1.0,
    **_one_hot_names("category", tr.CATEGORIES),
    **_one_hot_names("phase", tr.PHASES),
    "controllable": 1.0,
    "autopilot": 1.0,
    **_one_hot_names("altitude_mode", tr.ALTITUDE_MODES),
    **_one_hot_names("heading_mode", tr.HEADING_MODES),
    **_one_hot_names("speed_mode", tr.SPEED_MODES),
    "assigned_altitude_ft": 10000.0,
    "assigned_turn_sin": 1.0,
    "assigned_turn_cos": 1.0,
    "assigned_speed_kt": 250.0,
    "target_climb_ft": 5000.0,
    "target_turn_sin": 1.0,
    "target_turn_cos": 1.0,
    "target_acceleration_kt": 100.0,
    "approach_clearance": 1.0,
    "runway_cross_nm": 20.0,
    "runway_along_nm": 20.0,
    "runway_angle_sin": 1.0,
    "runway_angle_cos": 1.0,
    "above_glideslope_ft": 2000.0,
    "above_field_ft": 10000.0,
    "intercept_margin_ft": 5000.0,
    "fix_distance_nm": 30.0,
    "fix_bearing_sin": 1.0,
    "fix_bearing_cos": 1.0,
    "fix_altitude_max_ft": 10000.0,
    "fix_has_altitude_max": 1.0,
    "fix_altitude_min_ft": 10000.0,
    "fix_has_altitude_min": 1.0,
    "fix_speed_max_kt": 250.0,
    "fix_has_speed_max": 1.0,
    "following_distance_nm": 30.0,
    "following_bearing_sin": 1.0,
    "following_bearing_cos": 1.0,
    "route_left_nm": 60.0,
    "fixes_left": 10.0,
    "airspace_margin_nm": 20.0,
    "queue_position": 5.0,
    "since_phase_s": 600.0,
    "climb_fpm": 3000.0,
    "descent_fpm": 3000.0,
    "decelerate_kt_s": 3.0,
    "minimum_speed_kt": 250.0,
    "maximum_speed_kt": 500.0,
    "ceiling_ft": 40000.0,
    "nearest_distance_nm": 20.0,
    "nearest_bearing_sin": 1.0,
    "nearest_bearing_cos": 1.0,
    "nearest_above_ft": 2000.0,
    "nearest_closest_nm": 10.0,
    "nearest_closest_s": LOOK_AHEAD_S,
}
FEATURES = tuple(SCALES)
_INDEX = {name: i for i, name in enumerate(FEATURES)}

GLOBALS: dict[str, float] = {
    "wind_east_kt": 25.0,  # towards
    "wind_north_kt": 25.0,
    "elevation_ft": 10000.0,
    "ceiling_ft": 20000.0,
    "minimum_altitude_ft": 10000.0,
    "radius_nm": 60.0,
    "arrivals": 20.0,
    "departures": 20.0,
    "waiting": 10.0,
    **{f"level_{i}_ft": 10000.0 for i in range(commands.LEVELS)},
}
GLOBAL_FEATURES = tuple(GLOBALS)


def read(aircraft, name: str):
    """Column `name` of an observation's `aircraft [..., N, F]`, in the unit of its name."""
    return aircraft[..., _INDEX[name]].astype(jnp.float32) * SCALES[name]


def read_global(global_state, name: str):
    """Entry `name` of an observation's `global_state [..., G]`, in the unit of its name."""
    return global_state[..., GLOBAL_FEATURES.index(name)].astype(jnp.float32) * GLOBALS[name]


def _pairs(traffic: Traffic):
    """Relative position and altitude of every pair, `[..., N, N]` each, and whether both fly."""

    def difference(v):
        return v[..., None, :] - v[..., :, None]

    flying = traffic.valid & (traffic.phase > tr.WAITING)
    both = flying[..., None, :] & flying[..., :, None]
    both = both & ~jnp.eye(traffic.valid.shape[-1], dtype=bool)
    return difference(traffic.x_nm), difference(traffic.y_nm), difference(traffic.altitude_ft), both


def _nearest(traffic: Traffic) -> dict[str, jax.Array]:
    """Features of each aircraft's nearest neighbour, altitude weighed as separation weighs it.

    Only the search looks at pairs; everything else is worked out for the neighbour found.
    """
    dx, dy, above, both = _pairs(traffic)
    squared = dx**2 + dy**2 + (above * VERTICAL_WEIGHT_NM_PER_FT) ** 2
    index = jnp.argmin(jnp.where(both, squared, jnp.inf), -1)
    exists = jnp.any(both, -1)
    speed, track = traffic.ground_speed_kt / 3600.0, traffic.ground_track_rad
    velocity = (speed * jnp.sin(track), speed * jnp.cos(track))
    own = jnp.stack([traffic.x_nm, traffic.y_nm, traffic.altitude_ft, *velocity], axis=-1)
    relative = jnp.take_along_axis(own, index[..., None], -2) - own
    dx, dy, above, rvx, rvy = jnp.moveaxis(relative, -1, 0)
    time = -(dx * rvx + dy * rvy) / jnp.maximum(rvx**2 + rvy**2, 1e-9)
    time = jnp.clip(time, 0.0, LOOK_AHEAD_S)
    closest = jnp.hypot(dx + rvx * time, dy + rvy * time)
    x, y = jnp.where(exists, dx, 0.0), jnp.where(exists, dy, FAR_NM)
    bearing = geometry.bearing(x, y) - traffic.heading_rad
    return {
        "nearest_distance_nm": jnp.minimum(jnp.hypot(x, y), FAR_NM),
        "nearest_bearing_sin": jnp.sin(bearing),
        "nearest_bearing_cos": jnp.cos(bearing),
        "nearest_above_ft": jnp.clip(jnp.where(exists, above, 0.0), -20000.0, 20000.0),
        "nearest_closest_nm": jnp.minimum(jnp.where(exists, closest, FAR_NM), FAR_NM),
        "nearest_closest_s": jnp.where(exists, time, LOOK_AHEAD_S),
    }


def _fix_features(traffic: Traffic, airport: Airport) -> dict[str, jax.Array]:
    columns = {}
    for prefix, ahead in (("fix", 0), ("following", 1)):
        fix = current_leg(traffic, airport, ahead)
        is_fix = fix.exists & (fix.vector_rad < 0)
        course = jnp.where(is_fix, geometry.bearing(fix.dx_nm, fix.dy_nm), fix.vector_rad)
        relative = course - traffic.heading_rad
        distance = jnp.hypot(fix.dx_nm, fix.dy_nm)
        columns[f"{prefix}_distance_nm"] = jnp.where(is_fix, distance, 0.0)
        columns[f"{prefix}_bearing_sin"] = jnp.where(fix.exists, jnp.sin(relative), 0.0)
        columns[f"{prefix}_bearing_cos"] = jnp.where(fix.exists, jnp.cos(relative), 0.0)
    fix = current_leg(traffic, airport)
    for name in ("altitude_max_ft", "altitude_min_ft", "speed_max_kt"):
        value = getattr(fix, name)
        has = fix.exists & (value >= 0)
        columns[f"fix_{name}"] = jnp.where(has, value, 0.0)
        columns[f"fix_has_{name.rsplit('_', 1)[0]}"] = has
    left = airport.route_legs[jnp.maximum(traffic.route, 0)] - traffic.leg
    columns["fixes_left"] = jnp.where(traffic.route >= 0, left, 0)
    columns["route_left_nm"] = route_left_nm(traffic, airport)
    return columns


def _panel_features(traffic: Traffic) -> dict[str, jax.Array]:
    held = traffic.heading_mode == tr.MODE_HOLD
    assigned = traffic.assigned_heading_rad - traffic.heading_rad
    target = traffic.target_heading_rad - traffic.heading_rad
    return {
        "assigned_altitude_ft": jnp.maximum(traffic.assigned_altitude_ft, 0.0),
        "assigned_turn_sin": jnp.where(held, jnp.sin(assigned), 0.0),
        "assigned_turn_cos": jnp.where(held, jnp.cos(assigned), 0.0),
        "assigned_speed_kt": jnp.maximum(traffic.assigned_speed_kt, 0.0),
        "target_climb_ft": jnp.clip(traffic.target_altitude_ft - traffic.altitude_ft, -2e4, 2e4),
        "target_turn_sin": jnp.sin(target),
        "target_turn_cos": jnp.cos(target),
        "target_acceleration_kt": traffic.target_speed_kt - traffic.speed_kt,
    }


def aircraft_features(scene: Scene, airport: Airport) -> dict[str, jax.Array]:
    """Named columns `[..., N]` in physical units; FEATURES lists and orders them."""
    t = scene.traffic
    way = approach.approach_of(t, airport)
    named = {
        name: getattr(t, name)
        for name in FEATURES
        if name in tr.schema(Traffic) and not name.startswith("assigned")
    }
    for prefix, names in (
        ("category", tr.CATEGORIES),
        ("phase", tr.PHASES),
        ("altitude_mode", tr.ALTITUDE_MODES),
        ("heading_mode", tr.HEADING_MODES),
        ("speed_mode", tr.SPEED_MODES),
    ):
        named |= {f"{prefix}_{n.lower()}": getattr(t, prefix) == i for i, n in enumerate(names)}
    margin = airspace_margin_nm(t.x_nm, t.y_nm, t.altitude_ft, airport)
    return named | {
        "heading_sin": jnp.sin(t.heading_rad),
        "heading_cos": jnp.cos(t.heading_rad),
        "track_sin": jnp.sin(t.ground_track_rad),
        "track_cos": jnp.cos(t.ground_track_rad),
        "runway_cross_nm": way.cross_nm,
        "runway_along_nm": way.along_nm,
        "runway_angle_sin": jnp.sin(way.angle_rad),
        "runway_angle_cos": jnp.cos(way.angle_rad),
        "above_glideslope_ft": jnp.clip(t.altitude_ft - way.glideslope_ft, -2e4, 2e4),
        "above_field_ft": t.altitude_ft - airport.elevation_ft,
        "intercept_margin_ft": jnp.clip(t.assigned_altitude_ft - way.intercept_ft, -1e4, 2e4),
        "airspace_margin_nm": jnp.clip(margin, -FAR_NM, FAR_NM),
        "since_phase_s": jnp.minimum(t.since_phase_s, 3600.0),
        **_panel_features(t),
        **_fix_features(t, airport),
        **_nearest(t),
    }


def _global_state(scene: Scene, airport: Airport):
    t = scene.traffic

    def count(where):
        return jnp.sum(t.valid & where, -1).astype(jnp.float32)

    named = {
        "wind_east_kt": -scene.wind_speed_kt * jnp.sin(scene.wind_from_rad),
        "wind_north_kt": -scene.wind_speed_kt * jnp.cos(scene.wind_from_rad),
        "elevation_ft": airport.elevation_ft,
        "ceiling_ft": airport.ceiling_ft,
        "minimum_altitude_ft": airport.minimum_altitude_ft,
        "radius_nm": airport.radius_nm,
        "arrivals": count(t.category == tr.ARRIVAL),
        "departures": count((t.category == tr.DEPARTURE) & (t.phase > tr.WAITING)),
        "waiting": count(t.phase == tr.WAITING),
        **{f"level_{i}_ft": airport.levels_ft[i] for i in range(commands.LEVELS)},
    }
    columns = [jnp.asarray(named[n], jnp.float32) / GLOBALS[n] for n in GLOBAL_FEATURES]
    return jnp.stack(jnp.broadcast_arrays(*columns), -1)


def observe(scene: Scene, airport: Airport) -> dict:
    """Return the observation of one scene with N slots.

    Keys: aircraft [N, F] float32, aircraft_mask [N] bool, global_state [G] float32,
    action_mask {aircraft [N+1], verb [N, 5], altitude [N, 9], heading [N, 7], speed [N, 4]}.
    """
    columns, valid = aircraft_features(scene, airport), scene.traffic.valid
    # Masked here, because XLA computes what follows a stack once for every column.
    masked = [jnp.where(valid, columns[n].astype(jnp.float32) / SCALES[n], 0.0) for n in FEATURES]
    return {
        "aircraft": stack(masked),
        "aircraft_mask": valid,
        "global_state": _global_state(scene, airport),
        "action_mask": commands.legal_mask(scene.traffic, airport),
    }


def conflict_matrix(scene: Scene):
    """Symmetric `[..., N, N]`: 1 within 3 nm and 1000 ft, 0.5 within 4 nm and 1000 ft, else 0."""
    dx, dy, above, both = _pairs(scene.traffic)
    lateral = jnp.hypot(dx, dy)
    level = both & (jnp.abs(above) < 1000.0)
    return jnp.where(level & (lateral < 3.0), 1.0, jnp.where(level & (lateral < 4.0), 0.5, 0.0))
