"""Short look-ahead for the expert: where each aircraft will be under each command it could be given.

A coarse autopilot (heading hold, next two fixes, localiser; altitude and speed at the type's rates) flown
from the observation alone, in steps of LOOK_STEP_S. It serves to rank commands; it is not the simulator.
Letters: N aircraft, C candidate commands per aircraft, T look-ahead steps. Candidates are, in this order, no
command, the altitudes, the heading changes, the speeds, ILS, direct. Angles rad, distances nm, heights ft.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.picture import Picture
from wm.sector import approach, commands
from wm.sector.geometry import wrap_pi
from wm.sector.traffic import SPEED_LIMIT_BELOW_FT, SPEED_LIMIT_KT, TURN_RAD_S, TYPICAL_RATE
from wm.sector.wind import ground_vector, true_airspeed_kt

LOOK_STEP_S = 5.0
LOOK_STEPS = 24  # T
LANDING_KT = 140.0
FIX, FOLLOWING, PAST = range(3)  # which fix a route-following aircraft steers to

ALTITUDE_0 = 1
HEADING_0 = ALTITUDE_0 + commands.LEVELS
SPEED_0 = HEADING_0 + len(commands.HEADING_CHANGES_DEG)
ILS_C = SPEED_0 + len(commands.SPEED_LEVELS_KT)
DIRECT_C = ILS_C + 1
CANDIDATES = DIRECT_C + 1  # C
CHANGES_RAD = np.deg2rad(np.asarray(commands.HEADING_CHANGES_DEG, np.float32))


def legal_candidates(mask: dict) -> jax.Array:
    """Legality `[N, C]` of every candidate by an observation's action mask; no command always is legal."""
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


def plans(p: Picture) -> Plan:
    """The autopilot's targets under every candidate."""
    n = p.x.shape[0]
    c = np.arange(CANDIDATES)

    def spread(value):
        return jnp.broadcast_to(value[:, None], (n, CANDIDATES))

    heading, altitude, speed = spread(p.target_heading), spread(p.target_altitude), spread(p.target_speed)
    heading = heading.at[:, HEADING_0:SPEED_0].set(p.heading[:, None] + CHANGES_RAD)
    altitude = altitude.at[:, ALTITUDE_0:HEADING_0].set(jnp.broadcast_to(p.levels, (n, commands.LEVELS)))
    levels_kt = jnp.asarray(commands.SPEED_LEVELS_KT, jnp.float32)
    limited = p.altitude[:, None] < SPEED_LIMIT_BELOW_FT
    speed = speed.at[:, SPEED_0:ILS_C].set(
        jnp.where(limited, jnp.minimum(levels_kt, SPEED_LIMIT_KT), levels_kt)
    )
    turned = (c >= HEADING_0) & (c < SPEED_0)
    climbed = (c >= ALTITUDE_0) & (c < HEADING_0)
    cleared = p.cleared[:, None] & ~turned & ~climbed & (c != DIRECT_C)
    loose = p.vnav[:, None] & ~climbed & (c != ILS_C)
    return Plan(
        altitude=altitude,
        heading=heading,
        speed=speed,
        bottom=jnp.where(loose, jnp.minimum(altitude, p.assigned_altitude[:, None]), altitude),
        lnav=(p.lnav[:, None] & ~turned & (c != ILS_C)) | (c == DIRECT_C),
        localizer=cleared | (c == ILS_C),
    )


def _route_heading(p: Picture, x, y, heading, radius, fix):
    """Course to the current fix and which fix comes next, `[N, C]` each; turns fly by the fix."""

    def at(values, index):
        return jnp.where(index == FIX, values[:, 0, None], values[:, 1, None])

    dx, dy = at(p.fix_xy[..., 0], fix) - x, at(p.fix_xy[..., 1], fix) - y
    vector = at(p.fix_is_vector, fix)
    course = jnp.where(vector, at(p.fix_course, fix), jnp.arctan2(dx, dy))
    leg = p.fix_xy[:, 1] - p.fix_xy[:, 0]
    outbound = jnp.where(p.fix_is_vector[:, 1], p.fix_course[:, 1], jnp.arctan2(leg[:, 0], leg[:, 1]))
    corner = jnp.abs(wrap_pi(outbound[:, None] - course))
    lead = jnp.clip(radius * jnp.tan(jnp.minimum(corner, 2.6) / 2.0), 0.5, 5.0)
    lead = jnp.where(fix == FIX, lead, 0.5)
    passed = ~vector & (jnp.hypot(dx, dy) < lead)
    return jnp.where(fix == PAST, heading, course), jnp.where(passed, jnp.minimum(fix + 1, PAST), fix)


def _localizer_heading(runway, held, heading, cross, along, radius):
    """Heading of an approach-cleared aircraft: as held until the turn onto the localiser, then along it.

    Also whether it is in the window in which it follows localiser and glideslope.
    """
    angle = wrap_pi(heading - runway)
    off = jnp.arctan2(cross, jnp.maximum(along, 0.1))
    reach = radius * angle**2 + 0.5
    ahead = -cross / jnp.where(jnp.abs(angle) < 0.02, 0.02, jnp.sin(angle))
    window = (jnp.abs(off) < math.radians(1.5)) & (along > 0)
    captured = window | ((ahead > 0) & (ahead <= reach))
    limit = jnp.where(window, 0.5, math.radians(10.0))
    return jnp.where(captured, runway - jnp.clip(20.0 * off, -limit, limit), held), window


def fly(p: Picture) -> Track:
    """Fly every candidate of every aircraft for T steps."""
    plan = plans(p)
    course = jax.tree.map(lambda a: a[:, None], p.course)
    shape = plan.altitude.shape
    parts = (p.x, p.y, p.altitude, p.heading, p.speed, p.altitude)
    start = (*tuple(jnp.broadcast_to(value[:, None], shape) for value in parts), jnp.zeros(shape, jnp.int32))

    def step(state, _):
        x, y, altitude, heading, speed, lowest, fix = state
        cross, along = approach.offset(x, y, course)
        airspeed = true_airspeed_kt(speed, altitude)
        radius = airspeed / 3600.0 / TURN_RAD_S
        track, next_fix = _route_heading(p, x, y, heading, radius, fix)
        drift = (p.wind[0] * jnp.cos(track) - p.wind[1] * jnp.sin(track)) / jnp.maximum(airspeed, 60.0)
        intercept, window = _localizer_heading(
            course.heading_rad, plan.heading, heading, cross, along, radius
        )
        target = jnp.where(plan.lnav, track - drift, plan.heading)
        target = jnp.where(plan.localizer, intercept, target)
        turn = TURN_RAD_S * LOOK_STEP_S
        heading = heading + jnp.clip(wrap_pi(target - heading), -turn, turn)
        final = plan.localizer & window
        slope = approach.glideslope_ft(along, course)
        wanted = jnp.where(final, jnp.minimum(plan.altitude, slope), plan.altitude)
        down = p.descent[:, None] * jnp.where(final, 1.0 / TYPICAL_RATE, 1.0)
        altitude = altitude + jnp.clip(wanted - altitude, -down * LOOK_STEP_S, p.climb[:, None] * LOOK_STEP_S)
        descended = lowest - jnp.clip(lowest - plan.bottom, 0.0, down * LOOK_STEP_S)
        lowest = jnp.minimum(altitude, descended)
        slow = jnp.clip(LANDING_KT + (along - 2.2) * 15.0, LANDING_KT, 400.0)
        wanted = jnp.where(final, jnp.minimum(plan.speed, slow), plan.speed)
        slower = p.decelerate[:, None] * LOOK_STEP_S
        speed = speed + jnp.clip(wanted - speed, -slower, 2.0 * slower)
        east, north = ground_vector(heading, airspeed, *p.wind)
        x = x + east * LOOK_STEP_S / 3600.0
        y = y + north * LOOK_STEP_S / 3600.0
        return (x, y, altitude, heading, speed, lowest, next_fix), Track(x, y, altitude, heading, lowest)

    return jax.lax.scan(step, start, None, LOOK_STEPS)[1]
