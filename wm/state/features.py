"""What the dynamics network sees of each aircraft: geometry and panel, no neighbours.

openScope moves an aircraft by its own state alone; only take-off looks at the runway's queue.
All columns are `[..., N]`, of order one; distances and differences appear at two scales so that
both a fix 40 nm away and one 0.2 nm away are resolved.
"""

import jax
import jax.numpy as jnp

from wm.sector import approach, geometry
from wm.sector import traffic as tr
from wm.sector.airport import Airport, airspace_margin_nm
from wm.sector.columns import stack
from wm.sector.route import current_leg, restrictions
from wm.sector.traffic import FT_PER_NM, Scene, Traffic
from wm.state.spawn import required_ft

CODES = {
    "category": tr.CATEGORIES,
    "phase": tr.PHASES,
    "altitude_mode": tr.ALTITUDE_MODES,
    "heading_mode": tr.HEADING_MODES,
    "speed_mode": tr.SPEED_MODES,
}
FLAGS = ("controllable", "removable", "hit", "autopilot", "expedite", "approach_clearance")
TAKEOFF_TURN_FT = 400.0  # above the runway, where a take-off ends


def _scales(name: str, value, *scales: float) -> dict:
    """The value divided by each scale and clipped to [-1.5, 1.5], so no column dominates."""
    return {f"{name}_{s:g}": jnp.clip(value / s, -1.5, 1.5) for s in scales}


def _angle(name: str, value) -> dict:
    return {f"{name}_sin": jnp.sin(value), f"{name}_cos": jnp.cos(value)}


def _codes(t: Traffic) -> dict:
    """One-hot codes and flags."""
    columns = {}
    for name, names in CODES.items():
        columns |= {f"{name}_{n}": getattr(t, name) == i for i, n in enumerate(names)}
    return columns | {name: getattr(t, name) for name in FLAGS}


def code_names() -> list[str]:
    """Names of the columns that are codes or flags, 0 or 1."""
    return [*(f"{name}_{n}" for name, names in CODES.items() for n in names), *FLAGS]


def _vertical(t: Traffic, asked: dict, airport: Airport) -> dict:
    """Altitudes against assigned, target and restricted ones; the time a descent would take."""
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    columns = {
        **_scales("above_field", t.altitude_ft - field, 15.0, 500.0, 20000.0),
        **_scales("to_assigned", t.assigned_altitude_ft - t.altitude_ft, 100.0, 10000.0),
        **_scales("to_target", t.target_altitude_ft - t.altitude_ft, 100.0, 10000.0),
        **_scales("to_plan", t.flight_plan_altitude_ft - t.altitude_ft, 100.0, 20000.0),
        **_scales("to_top", airport.ceiling_ft - t.altitude_ft, 300.0, 10000.0),
    }
    descent = t.descent_fpm * tr.TYPICAL_RATE
    minutes_per_nm = 60.0 / jnp.maximum(t.ground_speed_kt, 50.0)
    for name in ("maximum", "minimum"):
        wanted, exists = asked[name].value, asked[name].exists
        needed = (t.altitude_ft - wanted) / jnp.maximum(descent, 100.0)
        slack = asked[name].distance_nm * minutes_per_nm - needed
        for column, value in {
            **_scales(f"{name}_above", wanted - t.altitude_ft, 100.0, 10000.0),
            **_scales(f"{name}_to_assigned", wanted - t.assigned_altitude_ft, 100.0, 10000.0),
            **_scales(f"{name}_slack_min", slack, 0.2, 5.0),
        }.items():
            columns[column] = jnp.where(exists, value, 0.0)
        columns[f"{name}_exists"] = exists
    both = asked["maximum"].exists & asked["minimum"].exists
    order = asked["maximum"].leg - asked["minimum"].leg
    return columns | {"maximum_first": both & (order < 0), "maximum_later": both & (order > 0)}


def _rates(t: Traffic, airport: Airport) -> dict:
    """An aircraft's rates, and how many seconds are left until what they bring about."""
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    up, down = jnp.maximum(t.climb_fpm, 60.0) / 60.0, jnp.maximum(t.descent_fpm, 60.0) / 60.0
    faster, slower = jnp.maximum(t.accelerate_kt_s, 0.1), jnp.maximum(t.decelerate_kt_s, 0.1)
    rolls = (t.phase == tr.TAKEOFF) | (t.phase == tr.WAITING)
    change = t.target_altitude_ft - t.altitude_ft
    columns = {
        **_scales("rotation_s", (t.minimum_speed_kt - t.speed_kt) / faster, 2.0, 10.0, 60.0),
        **_scales("takeoff_turn_s", (field + TAKEOFF_TURN_FT - t.altitude_ft) / up, 2.0, 10.0),
    }
    columns = {name: jnp.where(rolls, value, 0.0) for name, value in columns.items()}
    return columns | {
        **_scales("climb", up, 100.0),
        **_scales("descent", down, 100.0),
        **_scales("accelerate", faster, 10.0),
        **_scales("decelerate", slower, 10.0),
        **_scales("to_target_s", change / jnp.where(change > 0.0, up, down), 5.0, 60.0),
        **_scales("stop_s", jnp.where(t.phase == tr.LANDING, t.speed_kt / slower, 0.0), 5.0, 60.0),
    }


def _speed(t: Traffic, asked: dict) -> dict:
    """Speeds against assigned, target and restricted ones; the time a deceleration would take."""
    speed = asked["speed"]
    seconds = speed.distance_nm / jnp.maximum(t.ground_speed_kt, 50.0) * 3600.0
    slack = seconds - (t.speed_kt - speed.value) / jnp.maximum(t.decelerate_kt_s, 0.5)
    columns = {
        **_scales("speed", t.speed_kt, 10.0, 300.0),
        **_scales("to_minimum_speed", t.speed_kt - t.minimum_speed_kt, 10.0, 200.0),
        **_scales("to_assigned_speed", t.assigned_speed_kt - t.speed_kt, 10.0, 150.0),
        **_scales("to_target_speed", t.target_speed_kt - t.speed_kt, 10.0, 150.0),
        **_scales("to_landing_speed", t.landing_speed_kt - t.speed_kt, 10.0, 150.0),
        **_scales("assigned_to_landing_speed", t.assigned_speed_kt - t.landing_speed_kt, 150.0),
    }
    restricted = {
        **_scales("speed_restriction", speed.value - t.speed_kt, 5.0, 150.0),
        **_scales("speed_slack_s", slack, 10.0, 200.0),
    }
    columns |= {k: jnp.where(speed.exists, v, 0.0) for k, v in restricted.items()}
    return columns | {"speed_restricted": speed.exists}


def _route(t: Traffic, airport: Airport) -> dict:
    """The current and the following fix, and how far ahead of the fix the turn would begin."""
    fix, following = current_leg(t, airport), current_leg(t, airport, 1)
    is_fix = fix.exists & (fix.vector_rad < 0)
    has_next = following.exists
    next_is_fix = has_next & (following.vector_rad < 0)
    distance = jnp.where(is_fix, jnp.hypot(fix.dx_nm, fix.dy_nm), 30.0)
    bearing = jnp.where(
        is_fix, geometry.bearing(fix.dx_nm, fix.dy_nm), jnp.maximum(fix.vector_rad, 0.0)
    )
    course = geometry.bearing(
        following.dx_nm - fix.dx_nm, following.dy_nm - fix.dy_nm
    )
    change = jnp.abs(geometry.wrap_pi(course - t.target_heading_rad))
    radius = t.ground_speed_kt / 3600.0 / tr.TURN_RAD_S
    lead = radius * jnp.tan(jnp.minimum(change, 3.0) / 2.0)
    lead = jnp.where(next_is_fix & ~fix.fly_over, jnp.minimum(lead, 5.0), 0.0)
    gate = jnp.maximum(lead, 0.5)  # the game also passes a fix within 0.5 nm
    seconds = (distance - gate) / jnp.maximum(t.ground_speed_kt, 50.0) * 3600.0
    return {
        "fix_exists": fix.exists,
        "fix_is_vector": fix.exists & ~is_fix,
        "fix_is_last": fix.exists & ~has_next,
        "next_is_vector": has_next & ~next_is_fix,
        "fly_over": fix.fly_over & is_fix,
        **_scales("fix_distance", distance, 1.0, 30.0),
        **_scales("fix_gate_s", seconds, 5.0, 30.0, 300.0),
        **_angle("fix_bearing", bearing - t.heading_rad),
        **_scales("course_change", change, 0.3, 3.0),
    }


def _approach(t: Traffic, airport: Airport) -> dict:
    """The assigned runway: offset, angle, glideslope, and when a turn onto it would begin."""
    g = approach.approach_of(t, airport)
    away = jnp.arctan2(g.cross_nm, jnp.maximum(g.along_nm, 0.05))
    angle = g.angle_rad
    sine = jnp.sin(angle)
    to_course = -g.cross_nm / jnp.where(jnp.abs(sine) < 1e-3, 1e-3, sine)
    turn_s = jnp.abs(angle) / tr.TURN_RAD_S
    lead = t.speed_kt * turn_s / 3600.0 * jnp.abs(angle) + 0.5
    return {
        **_scales("cross", g.cross_nm, 0.08, 0.5, 5.0),
        **_scales("along", g.along_nm, 0.3, 5.0, 25.0),
        **_scales("past_gate", g.along_nm - 5.0, 0.2),
        **_scales("away", away, 0.02, 0.2),
        **_scales("track_angle", g.track_angle_rad, 0.08, 1.0),
        **_angle("runway_angle", angle),
        **_scales("to_course", to_course, 2.0, 20.0),
        **_scales("course_lead", to_course - lead, 0.3, 3.0),
        **_scales("above_glideslope", t.altitude_ft - g.glideslope_ft, 100.0, 2000.0),
    }


def _runway_queue(t: Traffic, scene: Scene) -> dict:
    """Whether the automatic tower would let a waiting departure go, and when the last one makes way."""
    runway = jnp.maximum(t.runway, 0)

    def of_runway(value):
        return jnp.take_along_axis(value, runway, axis=-1)

    r = scene.runways
    same = (t.id[..., None, :] == r.last_departure[..., :, None]) & t.valid[..., None, :]  # [..., R, N]

    def of_last(column):
        return of_runway(jnp.sum(jnp.where(same, column[..., None, :], 0.0), -1))

    distance_ft = of_runway(r.last_departure_distance_nm) * FT_PER_NM
    required = required_ft(t, of_runway(r.last_departure_class))
    clear_s = (distance_ft - required) / jnp.maximum(of_last(t.ground_speed_kt) * FT_PER_NM / 3600.0, 1.0)
    waiting = t.phase == tr.WAITING
    first = waiting & (t.queue_position == 0)
    behind = first & (of_runway(r.last_departure) >= 0)
    columns = {
        **_scales("runway_clear", (distance_ft - required) / 1000.0, 1.0, 10.0),
        **_scales("runway_clear_s", clear_s, 2.0, 10.0),
        **_scales("last_to_rotation", of_last(t.minimum_speed_kt - t.speed_kt), 10.0, 100.0),
        **_scales("since_departure", of_runway(r.since_departure_s), 10.0, 60.0),
        "last_on_ground": of_runway(r.last_departure_on_ground),
    }
    return {name: jnp.where(behind, value, 0.0) for name, value in columns.items()} | {
        "first_in_queue": first,
        "runway_never_used": first & ~behind,
    }


def _surroundings(t: Traffic, scene: Scene, airport: Airport) -> dict:
    """Airspace edge now and one step ahead, wind along and across, clocks."""
    margin = airspace_margin_nm(t.x_nm, t.y_nm, t.altitude_ft, airport)
    ahead = t.ground_speed_kt * tr.STEP_S / 3600.0
    later = airspace_margin_nm(
        t.x_nm + ahead * jnp.sin(t.ground_track_rad),
        t.y_nm + ahead * jnp.cos(t.ground_track_rad),
        t.altitude_ft,
        airport,
    )
    wind = scene.wind_speed_kt[..., None]
    relative = scene.wind_from_rad[..., None] - t.heading_rad
    return {
        **_scales("airspace", margin, 0.5, 10.0),
        **_scales("airspace_later", later, 0.5),
        **_scales("since_phase", t.since_phase_s, 10.0, 200.0),
        "headwind": jnp.cos(relative) * wind / 20.0,
        "crosswind": jnp.abs(jnp.sin(relative)) * wind / 20.0,
    }


def dynamics_features(scene: Scene, airport: Airport) -> dict[str, jax.Array]:
    """Named columns `[..., N]` for a scene whose commands of this step are already applied."""
    t = scene.traffic
    asked = restrictions(t, airport)
    return {
        **_codes(t),
        **_vertical(t, asked, airport),
        **_speed(t, asked),
        **_rates(t, airport),
        **_angle("assigned_turn", t.assigned_heading_rad - t.heading_rad),
        **_angle("target_turn", t.target_heading_rad - t.heading_rad),
        **_route(t, airport),
        **_approach(t, airport),
        **_runway_queue(t, scene),
        **_surroundings(t, scene, airport),
    }


def stack_features(columns: dict[str, jax.Array], dtype=jnp.float32) -> jax.Array:
    """Stack named columns to `[..., N, F]`, by name: JAX sorts dictionaries on its way.

    The network's first layer casts to bfloat16, so stacking in it halves the traffic of a step
    and changes nothing; training rows stay float32.
    """
    return stack([columns[n].astype(dtype) for n in sorted(columns)])
