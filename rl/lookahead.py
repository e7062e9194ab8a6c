"""Short look-ahead for the expert: where each aircraft will be under each command it could be given.

A coarse autopilot (heading hold, next two fixes, localiser; altitude and speed at the type's rates) flown
from the observation alone, in steps of LOOK_STEP_S. It serves to rank commands; it is not the simulator.
Letters: N aircraft, C candidate commands per aircraft, T look-ahead steps. Candidates are, in this order, no
command, the altitudes, the heading changes, the speeds, ILS, direct. Angles rad, distances nm, heights ft.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.paths import TURN_RAD_S
from wm.sector import commands
from wm.sector.geometry import wrap_pi
from wm.sector.observe import read, read_global
from wm.sector.traffic import FT_PER_NM

LOOK_STEP_S = 5.0
LOOK_STEPS = 24  # T
GRADIENT_FT_NM = FT_PER_NM * np.tan(np.deg2rad(3.0))
TYPICAL_RATE = 0.7  # the game climbs and descends at this share of the type's rate
TRUE_AIRSPEED_PER_FT = 1.6e-5
LANDING_KT = 140.0
ESTABLISHED_NM = 0.1
FIX, FOLLOWING, PAST = range(3)  # which fix a route-following aircraft steers to

ALTITUDE_0 = 1
HEADING_0 = ALTITUDE_0 + commands.LEVELS
SPEED_0 = HEADING_0 + len(commands.HEADING_CHANGES_DEG)
ILS_C = SPEED_0 + len(commands.SPEED_LEVELS_KT)
DIRECT_C = ILS_C + 1
CANDIDATES = DIRECT_C + 1  # C


@struct.dataclass
class View:
    """What the expert reads from one observation, `[N]` each unless said otherwise."""

    x: jax.Array
    y: jax.Array
    altitude: jax.Array
    heading: jax.Array
    speed: jax.Array
    ground_speed: jax.Array
    target_altitude: jax.Array
    target_heading: jax.Array
    target_speed: jax.Array
    assigned_altitude: jax.Array
    intercept: jax.Array  # lowest assigned altitude that an approach clearance accepts
    assigned_speed: jax.Array
    speed_held: jax.Array
    vnav: jax.Array  # altitude follows the route's restrictions, so a descent may begin any time
    lnav: jax.Array
    heading_held: jax.Array
    cleared: jax.Array
    arrival: jax.Array
    flying: jax.Array
    controllable: jax.Array
    established: jax.Array
    since_climb_s: jax.Array  # in phase CLIMB, else 1e4
    cross: jax.Array
    along: jax.Array
    angle: jax.Array  # heading minus runway
    runway_elevation: jax.Array
    fix_xy: jax.Array  # [N, 2, 2] the fix flown to and the one after
    fix_course: jax.Array  # [N, 2] the course of a vector leg, the bearing of a fix
    fix_is_vector: jax.Array  # [N, 2]
    climb: jax.Array  # ft/s
    descent: jax.Array  # ft/s
    decelerate: jax.Array  # kt/s
    margin: jax.Array
    fixes_left: jax.Array
    route_left: jax.Array
    wind: jax.Array  # [2] kt, towards east and north
    levels: jax.Array  # [LEVELS]
    ceiling: jax.Array  # []
    elevation: jax.Array  # []


def _angle(aircraft, name):
    return jnp.arctan2(read(aircraft, f"{name}_sin"), read(aircraft, f"{name}_cos"))


def _fixes(aircraft, x, y, heading) -> dict:
    """Positions and courses of the two fixes ahead; a fix that is missing is a vector leg ahead."""
    xy, course, vector = [], [], []
    for name in ("fix", "following"):
        distance = read(aircraft, f"{name}_distance_nm")
        bearing = heading + _angle(aircraft, f"{name}_bearing")
        xy.append(jnp.stack([x + distance * jnp.sin(bearing), y + distance * jnp.cos(bearing)], -1))
        course.append(bearing)
        vector.append(distance <= 0.0)
    return {
        "fix_xy": jnp.stack(xy, -2),
        "fix_course": jnp.stack(course, -1),
        "fix_is_vector": jnp.stack(vector, -1),
    }


def view(obs: dict) -> View:
    """Read an observation (unbatched) back into physical quantities."""
    a, g = obs["aircraft"], obs["global_state"]

    def flag(name):
        return obs["aircraft_mask"] & (read(a, name) > 0.5)

    x, y, heading = read(a, "x_nm"), read(a, "y_nm"), _angle(a, "heading")
    altitude, along = read(a, "altitude_ft"), read(a, "runway_along_nm")
    cross, angle = read(a, "runway_cross_nm"), _angle(a, "runway_angle")
    cleared, arrival = flag("approach_clearance"), flag("category_arrival")
    slope = altitude - read(a, "above_glideslope_ft")
    grounded = flag("phase_apron") | flag("phase_taxi") | flag("phase_waiting") | flag("phase_takeoff")
    aligned = (jnp.abs(cross) < ESTABLISHED_NM) & (jnp.abs(angle) < np.deg2rad(8.0))
    return View(
        x=x,
        y=y,
        altitude=altitude,
        heading=heading,
        speed=read(a, "speed_kt"),
        ground_speed=read(a, "ground_speed_kt"),
        target_altitude=altitude + read(a, "target_climb_ft"),
        target_heading=heading + _angle(a, "target_turn"),
        target_speed=read(a, "speed_kt") + read(a, "target_acceleration_kt"),
        assigned_altitude=read(a, "assigned_altitude_ft"),
        intercept=read(a, "assigned_altitude_ft") - read(a, "intercept_margin_ft"),
        assigned_speed=read(a, "assigned_speed_kt"),
        speed_held=flag("speed_mode_hold"),
        vnav=flag("altitude_mode_vnav"),
        lnav=flag("heading_mode_lnav"),
        heading_held=flag("heading_mode_hold"),
        cleared=cleared,
        arrival=arrival,
        flying=obs["aircraft_mask"] & ~grounded,
        controllable=flag("controllable"),
        established=arrival & (flag("phase_landing") | (cleared & aligned)),
        since_climb_s=jnp.where(flag("phase_climb"), read(a, "since_phase_s"), 1e4),
        cross=cross,
        along=along,
        angle=angle,
        runway_elevation=slope - GRADIENT_FT_NM * jnp.maximum(along, 0.0),
        climb=read(a, "climb_fpm") * TYPICAL_RATE / 60.0,
        descent=read(a, "descent_fpm") * TYPICAL_RATE / 60.0,
        decelerate=jnp.maximum(read(a, "decelerate_kt_s"), 0.5),
        margin=read(a, "airspace_margin_nm"),
        fixes_left=read(a, "fixes_left"),
        route_left=read(a, "route_left_nm"),
        wind=jnp.stack([read_global(g, "wind_east_kt"), read_global(g, "wind_north_kt")]),
        levels=jnp.stack([read_global(g, f"level_{i}_ft") for i in range(commands.LEVELS)]),
        ceiling=read_global(g, "ceiling_ft"),
        elevation=read_global(g, "elevation_ft"),
        **_fixes(a, x, y, heading),
    )


def legal_candidates(mask: dict) -> jax.Array:
    """Legality `[N, C]` of every candidate; no command always is."""
    verb = mask["verb"]
    noop = jnp.ones_like(verb[:, :1])
    parts = [noop, mask["altitude"], mask["heading"], mask["speed"], verb[:, commands.ILS :]]
    return jnp.concatenate(parts, -1)


@struct.dataclass
class Plan:
    """What the autopilot would aim at under each candidate, `[N, C]`."""

    altitude: jax.Array
    heading: jax.Array
    speed: jax.Array
    bottom: jax.Array  # where a descent that may begin any time would end
    lnav: jax.Array  # bool
    localizer: jax.Array  # bool


@struct.dataclass
class Track:
    """Predicted flight, `[T, N, C]`: T entries at LOOK_STEP_S, 2 LOOK_STEP_S, ..."""

    x: jax.Array
    y: jax.Array
    altitude: jax.Array
    heading: jax.Array
    lowest: jax.Array  # altitude if a descent on the route's restrictions began now


def plans(v: View) -> Plan:
    """The autopilot's targets under every candidate."""
    n = v.x.shape[0]
    c = np.arange(CANDIDATES)

    def spread(value):
        return jnp.broadcast_to(value[:, None], (n, CANDIDATES))

    changes = np.deg2rad(np.asarray(commands.HEADING_CHANGES_DEG, np.float32))
    heading, altitude, speed = spread(v.target_heading), spread(v.target_altitude), spread(v.target_speed)
    heading = heading.at[:, HEADING_0:SPEED_0].set(v.heading[:, None] + changes)
    altitude = altitude.at[:, ALTITUDE_0:HEADING_0].set(jnp.broadcast_to(v.levels, (n, commands.LEVELS)))
    levels_kt = jnp.asarray(commands.SPEED_LEVELS_KT, jnp.float32)
    slow_low = jnp.where(v.altitude[:, None] < 10000.0, jnp.minimum(levels_kt, 250.0), levels_kt)
    speed = speed.at[:, SPEED_0:ILS_C].set(slow_low)
    turned = (c >= HEADING_0) & (c < SPEED_0)
    climbed = (c >= ALTITUDE_0) & (c < HEADING_0)
    cleared = v.cleared[:, None] & ~turned & ~climbed & (c != DIRECT_C)
    loose = v.vnav[:, None] & ~climbed & (c != ILS_C)
    return Plan(
        altitude=altitude,
        heading=heading,
        speed=speed,
        bottom=jnp.where(loose, jnp.minimum(altitude, v.assigned_altitude[:, None]), altitude),
        lnav=(v.lnav[:, None] & ~turned & (c != ILS_C)) | (c == DIRECT_C),
        localizer=cleared | (c == ILS_C),
    )


def _route_heading(v: View, x, y, heading, radius, fix):
    """Course to the current fix and which fix comes next, `[N, C]` each; turns fly by the fix."""

    def at(values, index):
        return jnp.where(index == FIX, values[:, 0, None], values[:, 1, None])

    dx, dy = at(v.fix_xy[..., 0], fix) - x, at(v.fix_xy[..., 1], fix) - y
    vector = at(v.fix_is_vector, fix)
    course = jnp.where(vector, at(v.fix_course, fix), jnp.arctan2(dx, dy))
    leg = v.fix_xy[:, 1] - v.fix_xy[:, 0]
    outbound = jnp.where(v.fix_is_vector[:, 1], v.fix_course[:, 1], jnp.arctan2(leg[:, 0], leg[:, 1]))
    corner = jnp.abs(wrap_pi(outbound[:, None] - course))
    lead = jnp.clip(radius * jnp.tan(jnp.minimum(corner, 2.6) / 2.0), 0.5, 5.0)
    lead = jnp.where(fix == FIX, lead, 0.5)
    passed = ~vector & (jnp.hypot(dx, dy) < lead)
    return jnp.where(fix == PAST, heading, course), jnp.where(passed, jnp.minimum(fix + 1, PAST), fix)


def _localizer_heading(v: View, held, heading, cross, along, ground_speed):
    """Heading of an approach-cleared aircraft: as held until the turn onto the localiser, then along it."""
    runway = (v.heading - v.angle)[:, None]
    angle = wrap_pi(heading - runway)
    off = jnp.arctan2(cross, jnp.maximum(along, 0.1))
    reach = ground_speed / 3600.0 / TURN_RAD_S * angle**2 + 0.5
    ahead = -cross / jnp.where(jnp.abs(angle) < 0.02, 0.02, jnp.sin(angle))
    window = (jnp.abs(off) < np.deg2rad(1.5)) & (along > 0)
    captured = window | ((ahead > 0) & (ahead <= reach))
    limit = jnp.where(window, 0.5, np.deg2rad(10.0))
    return jnp.where(captured, runway - jnp.clip(20.0 * off, -limit, limit), held), window


def fly(v: View) -> Track:
    """Fly every candidate of every aircraft for T steps."""
    plan = plans(v)
    runway = (v.heading - v.angle)[:, None]
    shape = plan.altitude.shape
    parts = (v.x, v.y, v.altitude, v.heading, v.speed, v.altitude)
    start = (*tuple(jnp.broadcast_to(value[:, None], shape) for value in parts), jnp.zeros(shape, jnp.int32))

    def step(state, _):
        x, y, altitude, heading, speed, lowest, fix = state
        dx, dy = x - v.x[:, None], y - v.y[:, None]
        cross = v.cross[:, None] + dx * jnp.cos(runway) - dy * jnp.sin(runway)
        along = v.along[:, None] - dx * jnp.sin(runway) - dy * jnp.cos(runway)
        airspeed = speed * (1.0 + TRUE_AIRSPEED_PER_FT * altitude)
        radius = airspeed / 3600.0 / TURN_RAD_S
        course, next_fix = _route_heading(v, x, y, heading, radius, fix)
        drift = (v.wind[0] * jnp.cos(course) - v.wind[1] * jnp.sin(course)) / jnp.maximum(airspeed, 60.0)
        intercept, window = _localizer_heading(v, plan.heading, heading, cross, along, airspeed)
        target = jnp.where(plan.lnav, course - drift, plan.heading)
        target = jnp.where(plan.localizer, intercept, target)
        turn = TURN_RAD_S * LOOK_STEP_S
        heading = heading + jnp.clip(wrap_pi(target - heading), -turn, turn)
        final = plan.localizer & window
        slope = v.runway_elevation[:, None] + GRADIENT_FT_NM * jnp.maximum(along, 0.0)
        wanted = jnp.where(final, jnp.minimum(plan.altitude, slope), plan.altitude)
        down = v.descent[:, None] * jnp.where(final, 1.0 / TYPICAL_RATE, 1.0)
        altitude = altitude + jnp.clip(wanted - altitude, -down * LOOK_STEP_S, v.climb[:, None] * LOOK_STEP_S)
        descended = lowest - jnp.clip(lowest - plan.bottom, 0.0, down * LOOK_STEP_S)
        lowest = jnp.minimum(altitude, descended)
        slow = jnp.clip(LANDING_KT + (along - 2.2) * 15.0, LANDING_KT, 400.0)
        wanted = jnp.where(final, jnp.minimum(plan.speed, slow), plan.speed)
        slower = v.decelerate[:, None] * LOOK_STEP_S
        speed = speed + jnp.clip(wanted - speed, -slower, 2.0 * slower)
        x = x + (airspeed * jnp.sin(heading) + v.wind[0]) * LOOK_STEP_S / 3600.0
        y = y + (airspeed * jnp.cos(heading) + v.wind[1]) * LOOK_STEP_S / 3600.0
        return (x, y, altitude, heading, speed, lowest, next_fix), Track(x, y, altitude, heading, lowest)

    return jax.lax.scan(step, start, None, LOOK_STEPS)[1]
