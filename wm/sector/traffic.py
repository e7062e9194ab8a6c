"""The schema: every field of a snapshot, once, with its unit and where the game holds it.

The real game's snapshot is converted into these structs and the world model predicts them, so
observation, reward and metrics are written once, on them. Dimension letters: E environments,
T time, N aircraft slots, K sub-steps of one decision, R runways, S spawn streams.

`source` is a JavaScript expression over `a` (one openScope aircraft) and `b` (the bridge, see
collect/bridge.js); it also converts the game's units (km, radians, feet, knots) into the unit
in the field's name. Adding a field appends it and raises SCHEMA_VERSION. Recordings name their
columns, so their reader (collect.dataset) fills what an older one lacks with the field's default;
tables have no names and are only for what this very schema made.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

SCHEMA_VERSION = 1

FRAME_S = 0.5  # length of one game frame in lock-step (s)
FRAMES_PER_STEP = 10  # K
STEP_S = FRAME_S * FRAMES_PER_STEP  # one decision (s)
KM_PER_NM = 1.852
FT_PER_NM = 6076.12

# How the game flies: aircraft/AircraftModel.js and its constants.
TURN_RAD_S = 0.0523598776  # 3 degrees a second
TYPICAL_RATE = 0.7  # share of the type's climb and descent rate in normal flight
SPEED_LIMIT_KT, SPEED_LIMIT_BELOW_FT = 250.0, 10000.0

CATEGORIES = ("arrival", "departure", "overflight")
PHASES = (
    "APRON",
    "TAXI",
    "WAITING",
    "TAKEOFF",
    "CLIMB",
    "CRUISE",
    "HOLD",
    "DESCENT",
    "APPROACH",
    "LANDING",
)
ALTITUDE_MODES = ("OFF", "HOLD", "APPROACH", "VNAV")
HEADING_MODES = ("OFF", "HOLD", "LNAV", "VOR_LOC")
SPEED_MODES = ("OFF", "HOLD", "N1", "VNAV")
ARRIVAL, DEPARTURE, OVERFLIGHT = range(3)
APRON, TAXI, WAITING, TAKEOFF, CLIMB, CRUISE, HOLDING, DESCENT, APPROACH, LANDING = range(10)
MODE_OFF, MODE_HOLD = 0, 1
ALTITUDE_APPROACH, ALTITUDE_VNAV = 2, 3
HEADING_LNAV, HEADING_LOCALIZER = 2, 3
SPEED_N1, SPEED_VNAV = 2, 3

# The game's scored events in the order of its own table, with its points.
# Source: openScope 6.29 src/assets/scripts/client/game/GameController.js.
EVENTS = {
    "AIRSPACE_BUST": -200,
    "ARRIVAL": 10,
    "COLLISION": -1000,
    "DEPARTURE": 10,
    "EXTREME_CROSSWIND_OPERATION": -15,
    "EXTREME_TAILWIND_OPERATION": -75,
    "GO_AROUND": -50,
    "HIGH_CROSSWIND_OPERATION": -5,
    "HIGH_TAILWIND_OPERATION": -25,
    "ILLEGAL_APPROACH_CLEARANCE": -10,
    "LOCALIZER_INTERCEPT_ABOVE_GLIDESLOPE": -10,
    "NOT_CLEARED_ON_ROUTE": -25,
    "SEPARATION_LOSS": -200,
    "NO_TAKEOFF_SEPARATION": -200,
}
EVENT_NAMES = tuple(EVENTS)
EVENT_POINTS = np.asarray(list(EVENTS.values()), np.float32)


def _field(source: str, dtype: str = "float32", default: float = 0.0, observed: bool = False):
    """Declare a schema field: its place in the game, its type, and if the observation uses it."""
    metadata = {"source": source, "dtype": dtype, "default": default, "observed": observed}
    return struct.field(metadata=metadata)


@struct.dataclass
class Traffic:
    """Aircraft in slots, `[..., N]` each; entries where `valid` is False are the defaults.

    Headings and tracks are radians clockwise from magnetic north in [0, 2 pi); positions are
    nautical miles east (x) and north (y) of the airport in its magnetic frame. -1 stands for
    "none" in every integer field, in assigned values and in times that have not begun.
    """

    valid: jax.Array = _field("true", "bool", observed=True)
    id: jax.Array = _field("b.number(a)", "int32", -1)
    x_nm: jax.Array = _field("b.position(a)[0] / 1.852", observed=True)
    y_nm: jax.Array = _field("b.position(a)[1] / 1.852", observed=True)
    altitude_ft: jax.Array = _field("a.altitude", observed=True)
    heading_rad: jax.Array = _field("b.wrap(a.heading)", observed=True)
    speed_kt: jax.Array = _field("a.speed", observed=True)  # indicated airspeed
    ground_speed_kt: jax.Array = _field("a.groundSpeed", observed=True)
    ground_track_rad: jax.Array = _field("b.wrap(a.groundTrack)", observed=True)
    category: jax.Array = _field("b.code('CATEGORIES', a.category)", "int32", -1, True)
    phase: jax.Array = _field("b.code('PHASES', a.flightPhase)", "int32", -1, True)
    controllable: jax.Array = _field("a.isControllable", "bool", observed=True)
    removable: jax.Array = _field("a.isRemovable", "bool")  # has left the airspace once
    hit: jax.Array = _field("a.hit", "bool")  # has collided and falls
    autopilot: jax.Array = _field("a.mcp.isEnabled", "bool", observed=True)
    altitude_mode: jax.Array = _field(
        "b.code('ALTITUDE_MODES', a.mcp.altitudeMode)", "int32", -1, True
    )
    heading_mode: jax.Array = _field(
        "b.code('HEADING_MODES', a.mcp.headingMode)", "int32", -1, True
    )
    speed_mode: jax.Array = _field("b.code('SPEED_MODES', a.mcp.speedMode)", "int32", -1, True)
    assigned_altitude_ft: jax.Array = _field("a.mcp.altitude", default=-1.0, observed=True)
    assigned_heading_rad: jax.Array = _field("a.mcp.heading", default=-1.0, observed=True)
    assigned_speed_kt: jax.Array = _field("a.mcp.speed", default=-1.0, observed=True)
    target_altitude_ft: jax.Array = _field("a.target.altitude", observed=True)
    target_heading_rad: jax.Array = _field("b.targetHeading(a)", observed=True)
    target_speed_kt: jax.Array = _field("a.target.speed", observed=True)
    turn: jax.Array = _field("b.turn(a.target.turn)", "int32")  # forced: -1 left, 1 right
    expedite: jax.Array = _field("a.mcp.shouldExpediteAltitudeChange", "bool")
    approach_clearance: jax.Array = _field("a.pilot.hasApproachClearance", "bool", observed=True)
    flight_plan_altitude_ft: jax.Array = _field("a.fms.flightPlanAltitude")
    runway: jax.Array = _field("b.runway(a)", "int32", -1, True)
    route: jax.Array = _field("b.route(a)", "int32", -1)
    leg: jax.Array = _field("b.leg(a)", "int32", -1, True)  # index of the current fix on its route
    stream: jax.Array = _field("b.stream(a)", "int32", -1)
    queue_position: jax.Array = _field("b.queuePosition(a)", "int32", -1, True)
    since_spawn_s: jax.Array = _field("b.sinceSpawn(a)")
    since_phase_s: jax.Array = _field("b.sincePhase(a)", observed=True)
    since_contact_s: jax.Array = _field("b.sinceContact(a)", default=-1.0)  # first controllable
    airborne_s: jax.Array = _field("b.sinceTakeoff(a)", default=-1.0)  # arrivals: since spawn
    climb_fpm: jax.Array = _field("a.model.rate.climb", observed=True)
    descent_fpm: jax.Array = _field("a.model.rate.descent", observed=True)
    accelerate_kt_s: jax.Array = _field("a.model.rate.accelerate / 2")
    decelerate_kt_s: jax.Array = _field("a.model.rate.decelerate / 2", observed=True)
    minimum_speed_kt: jax.Array = _field("a.model.speed.min", observed=True)
    maximum_speed_kt: jax.Array = _field("a.model.speed.max", observed=True)
    landing_speed_kt: jax.Array = _field("a.model.speed.landing")
    cruise_speed_kt: jax.Array = _field("a.model.speed.cruise")
    ceiling_ft: jax.Array = _field("a.model.ceiling", observed=True)
    jet: jax.Array = _field("a.model.engines.type === 'J'", "bool")
    runway_class: jax.Array = _field("b.runwayClass(a)", "int32", 3)  # same-runway separation 1-3
    leg_change_frame: jax.Array = _field("b.legChangeFrame(a)", "int32", -1)  # within the step
    phase_change_frame: jax.Array = _field("b.phaseChangeFrame(a)", "int32", -1)


@struct.dataclass
class SubSteps:
    """Positions on the K frames of one decision, `[..., K, N]`, slots as in `Traffic`."""

    x_nm: jax.Array = _field("p[0] / 1.852")
    y_nm: jax.Array = _field("p[1] / 1.852")
    altitude_ft: jax.Array = _field("a.altitude")
    heading_rad: jax.Array = _field("b.wrap(a.heading)")
    ground_track_rad: jax.Array = _field("b.wrap(a.groundTrack)")
    phase: jax.Array = _field("b.code('PHASES', a.flightPhase)", "int32", -1)
    controllable: jax.Array = _field("a.isControllable", "bool")
    present: jax.Array = _field("true", "bool")


@struct.dataclass
class Runways:
    """What changes on each runway, `[..., R]`; the last departure may have left the game."""

    last_departure: jax.Array = _field("b.lastDeparture(r)", "int32", -1)  # aircraft id
    last_departure_distance_nm: jax.Array = _field("b.lastDepartureDistance(r)", default=-1.0)
    last_departure_class: jax.Array = _field("b.lastDepartureClass(r)", "int32", 3)
    last_departure_on_ground: jax.Array = _field("b.lastDepartureOnGround(r)", "bool")
    since_departure_s: jax.Array = _field("b.sinceDeparture(r)", default=-1.0)


@struct.dataclass
class Scene:
    """Everything that moves at one airport at one instant."""

    traffic: Traffic
    runways: Runways
    since_spawn_s: jax.Array  # [..., S] since each stream's last spawn, -1 before the first
    wind_speed_kt: jax.Array  # [...] at the surface
    wind_from_rad: jax.Array  # [...]
    time_s: jax.Array  # [...] since the episode's first frame; not observed


def in_play(t: Traffic):
    """Whether an aircraft still takes part: present, not handed off, not falling after a collision."""
    return t.valid & ~(t.removable & ~t.controllable) & ~t.hit


def schema(struct_class) -> dict[str, dict]:
    """Return {field name: {"source", "dtype", "default", "observed"}} of a schema struct."""
    return {f.name: dict(f.metadata) for f in dataclasses.fields(struct_class) if f.metadata}


def empty(struct_class, shape: tuple[int, ...], xp=jnp):
    """Return a struct of `shape` arrays holding every field's default (xp: jnp or numpy)."""
    columns = {
        name: xp.full(shape, spec["default"], dtype=spec["dtype"])
        for name, spec in schema(struct_class).items()
    }
    return struct_class(**columns)


def from_table(struct_class, table: np.ndarray):
    """Split `table [..., F]` (float32, the schema's column order) into a struct of arrays `[...]`.

    Raises ValueError where the number of columns is not the schema's: without names nobody could
    tell which are missing.
    """
    fields = schema(struct_class)
    if table.shape[-1] != len(fields):
        raise ValueError(
            f"{struct_class.__name__} has {len(fields)} fields, the table {table.shape[-1]} "
            "columns: it was made with another schema; make it again with this one"
        )
    columns = {
        name: table[..., i].astype(spec["dtype"]) for i, (name, spec) in enumerate(fields.items())
    }
    return struct_class(**columns)


def to_table(value, xp=np) -> np.ndarray:
    """Stack a struct's fields into one float32 table `[..., F]` in schema order."""
    names = schema(type(value))
    return xp.stack([xp.asarray(getattr(value, n)).astype("float32") for n in names], axis=-1)
