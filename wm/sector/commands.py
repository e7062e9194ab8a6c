"""Actions: what each integer means, which the game would refuse, and what a command sets.

An action is `int32[5]`: aircraft slot (N = no-op), verb, altitude level, heading change, speed
level. The refusals are the game's own (aircraft/Pilot/Pilot.js, AircraftModel.validateNext*,
AircraftCommander.runCommands): a legal action is accepted by the real game, an illegal one is
refused or silently ignored. `apply` writes what the game's autopilot panel holds afterwards.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import traffic as tr
from wm.sector.airport import LEVELS, Airport
from wm.sector.approach import intercept_ft
from wm.sector.route import next_fix
from wm.sector.traffic import Traffic

ALTITUDE, HEADING, SPEED, ILS, DIRECT = range(5)
VERBS = ("altitude", "heading", "speed", "ils", "direct")
HEADING_CHANGES_DEG = (-90, -45, -20, 0, 20, 45, 90)
SPEED_LEVELS_KT = (180, 220, 260, 300)
SOFT_CEILING_FT = 1.0  # the game adds this to the ceiling, so that the aircraft leaves through it


@struct.dataclass
class Command:
    """One decoded command; `verb` is -1 for a no-op. Scalars, batch dimensions lead."""

    slot: jax.Array
    verb: jax.Array
    altitude_ft: jax.Array
    heading_deg: jax.Array  # whole degrees, 1..360, as typed into the game
    speed_kt: jax.Array


def space_sizes(slots: int) -> tuple[int, ...]:
    """Number of choices of each entry of an action for `slots` aircraft."""
    return (slots + 1, len(VERBS), LEVELS, len(HEADING_CHANGES_DEG), len(SPEED_LEVELS_KT))


def decode(action, traffic: Traffic, airport: Airport) -> Command:
    """Decode `action [..., 5]` against the traffic it addresses (`[..., N]`)."""
    slots = traffic.valid.shape[-1]
    slot = jnp.minimum(action[..., 0], slots - 1)
    heading = jnp.take_along_axis(traffic.heading_rad, slot[..., None], -1)[..., 0]
    change = jnp.asarray(HEADING_CHANGES_DEG, jnp.float32)[action[..., 3]]
    degrees = jnp.mod(jnp.round(jnp.rad2deg(heading) + change), 360.0)
    return Command(
        slot=slot,
        verb=jnp.where(action[..., 0] >= slots, -1, action[..., 1]),
        altitude_ft=airport.levels_ft[action[..., 2]],
        heading_deg=jnp.where(degrees == 0.0, 360.0, degrees),
        speed_kt=jnp.asarray(SPEED_LEVELS_KT, jnp.float32)[action[..., 4]],
    )


def legal_mask(traffic: Traffic, airport: Airport) -> dict[str, jax.Array]:
    """Masks of what the game accepts: aircraft [N+1], verb [N,5], altitude, heading, speed [N,.].

    The aircraft's entry is true where at least one verb is; the no-op (index N) always is.
    """
    reachable = traffic.valid & traffic.controllable
    levels = airport.levels_ft
    altitude = (levels <= traffic.ceiling_ft[..., None]) & (levels >= airport.minimum_altitude_ft)
    speeds = jnp.asarray(SPEED_LEVELS_KT, jnp.float32)
    speed = (speeds >= traffic.minimum_speed_kt[..., None]) & (
        speeds <= traffic.maximum_speed_kt[..., None]
    )
    ils = (
        (traffic.category == tr.ARRIVAL)
        & (traffic.runway >= 0)
        & (traffic.assigned_altitude_ft >= intercept_ft(traffic, airport))
    )
    direct = next_fix(traffic, airport) >= 0
    always = jnp.ones_like(reachable)
    verb = jnp.stack([jnp.any(altitude, -1), always, jnp.any(speed, -1), ils, direct], -1)
    verb = verb & reachable[..., None]
    noop = jnp.ones((*reachable.shape[:-1], 1), bool)
    return {
        "aircraft": jnp.concatenate([jnp.any(verb, -1), noop], -1),
        "verb": verb,
        "altitude": altitude & verb[..., ALTITUDE, None],
        "heading": jnp.broadcast_to(
            verb[..., HEADING, None], (*verb.shape[:-1], len(HEADING_CHANGES_DEG))
        ),
        "speed": speed & verb[..., SPEED, None],
    }


def is_legal(action, mask: dict[str, jax.Array]):
    """Return whether `action [5]` is legal under one environment's mask."""
    slots = mask["verb"].shape[-2]
    slot, verb = jnp.minimum(action[0], slots - 1), action[1]
    value = jnp.stack(
        [
            mask["altitude"][slot, action[2]],
            mask["heading"][slot, action[3]],
            mask["speed"][slot, action[4]],
            True,
            True,
        ]
    )[verb]
    return (action[0] >= slots) | (mask["verb"][slot, verb] & value)


def _cancel_approach(traffic: Traffic, airport: Airport, hit) -> Traffic:
    """What an altitude or heading command does to a cleared approach, where `hit [N]`."""
    cancelled = hit & traffic.approach_clearance
    descend = jnp.minimum(
        jnp.floor(traffic.altitude_ft / 100.0) * 100.0, traffic.assigned_altitude_ft
    )
    held = jnp.maximum(descend, airport.minimum_altitude_ft)
    return traffic.replace(
        assigned_altitude_ft=jnp.where(cancelled, held, traffic.assigned_altitude_ft),
        altitude_mode=jnp.where(cancelled, tr.MODE_HOLD, traffic.altitude_mode),
        assigned_heading_rad=jnp.where(
            cancelled, traffic.heading_rad, traffic.assigned_heading_rad
        ),
        heading_mode=jnp.where(cancelled, tr.MODE_HOLD, traffic.heading_mode),
        speed_mode=jnp.where(cancelled, tr.MODE_HOLD, traffic.speed_mode),
        approach_clearance=traffic.approach_clearance & ~cancelled,
    )


def apply(traffic: Traffic, action, airport: Airport) -> Traffic:
    """Return the traffic `[N]` after one action `[5]`; an illegal action changes nothing."""
    command = decode(action, traffic, airport)
    # Only the addressed aircraft needs a mask here; the observation already holds that of all aircraft.
    one = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, command.slot, 1), traffic)
    legal = (command.verb >= 0) & is_legal(action.at[0].set(0), legal_mask(one, airport))
    addressed = (jnp.arange(traffic.valid.shape[-1]) == command.slot) & legal
    verb = [addressed & (command.verb == v) for v in range(len(VERBS))]
    traffic = _cancel_approach(traffic, airport, verb[ALTITUDE] | verb[HEADING])
    top = jnp.where(command.altitude_ft >= airport.ceiling_ft, SOFT_CEILING_FT, 0.0)
    fix = next_fix(traffic, airport)

    def put(name, value, where):
        return jnp.where(where, value, getattr(traffic, name))

    heading_mode = jnp.where(verb[HEADING], tr.MODE_HOLD, traffic.heading_mode)
    heading_mode = jnp.where(verb[ILS], tr.HEADING_LOCALIZER, heading_mode)
    altitude_mode = jnp.where(verb[ALTITUDE], tr.MODE_HOLD, traffic.altitude_mode)
    return traffic.replace(
        assigned_altitude_ft=put("assigned_altitude_ft", command.altitude_ft + top, verb[ALTITUDE]),
        altitude_mode=jnp.where(verb[ILS], tr.ALTITUDE_APPROACH, altitude_mode),
        expedite=traffic.expedite & ~verb[ALTITUDE],
        assigned_heading_rad=put(
            "assigned_heading_rad",
            jnp.deg2rad(jnp.mod(command.heading_deg, 360.0)),
            verb[HEADING],
        ),
        heading_mode=jnp.where(verb[DIRECT], tr.HEADING_LNAV, heading_mode),
        turn=put("turn", 0, verb[HEADING] | verb[DIRECT]),
        assigned_speed_kt=put("assigned_speed_kt", command.speed_kt, verb[SPEED]),
        speed_mode=put("speed_mode", tr.MODE_HOLD, verb[SPEED]),
        approach_clearance=traffic.approach_clearance | verb[ILS],
        leg=put("leg", fix, verb[DIRECT]),
    )
