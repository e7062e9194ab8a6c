"""What a step does with the network's outputs: panel, kinematics, clocks, queues, collisions, events.

Nothing here is learned: kinematics integrates ten frames under the guides that the network picked, and the
rest is bookkeeping that follows. Letters: N aircraft, E kinds of events, R runways.
"""

import jax
import jax.numpy as jnp
from flax import struct

from wm.sector import geometry
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import EVENT_NAMES, FRAME_S, STEP_S, Scene, Traffic
from wm.state import kinematics as kn
from wm.state.network import (
    CONTACT,
    FATE_EVENTS,
    FREE_ALTITUDE_FT,
    FREE_SPEED_KT,
    LANDED,
    LOST,
    NEVER,
    STAY,
    draw,
)

COLLISION_NM, COLLISION_FT = 0.05 / tr.KM_PER_NM, 160.0
CROSSWINDS_KT = {"EXTREME_CROSSWIND_OPERATION": (20.0, jnp.inf), "HIGH_CROSSWIND_OPERATION": (10.0, 20.0)}
TAILWINDS_KT = {"EXTREME_TAILWIND_OPERATION": (10.0, jnp.inf), "HIGH_TAILWIND_OPERATION": (5.0, 10.0)}


@struct.dataclass
class Decision:
    """One sampled set of head outputs, `[N]` each (events `[N, E]` bool)."""

    guidance: kn.Guidance
    altitude_mode: jax.Array
    heading_mode: jax.Array
    speed_mode: jax.Array
    autopilot: jax.Array
    approach_clearance: jax.Array
    fate: jax.Array
    events: jax.Array


def decide(outputs: dict[str, jax.Array], t: Traffic, key=None) -> Decision:
    """Turn head outputs `[N, .]` into a decision; sampled with `key`, else the most likely."""
    return decision_of(draw(outputs, key), t)


def decision_of(drawn: dict[str, jax.Array], t: Traffic) -> Decision:
    """The decision that drawn heads `[N, .]` stand for."""

    def axis(name):
        return kn.Axis(drawn[f"{name}_first"], drawn[name], drawn[f"{name}_frame"])

    guidance = kn.Guidance(
        heading=axis("heading"),
        altitude=axis("altitude"),
        free_altitude_ft=t.altitude_ft + FREE_ALTITUDE_FT * drawn["free_altitude"][..., 0],
        speed=axis("speed"),
        free_speed_kt=t.landing_speed_kt + FREE_SPEED_KT * drawn["free_speed"][..., 0],
        leg_frame=drawn["leg_frame"],
        phase=drawn["phase"],
        phase_frame=drawn["phase_frame"],
    )
    return Decision(
        guidance=guidance,
        altitude_mode=drawn["altitude_mode"],
        heading_mode=drawn["heading_mode"],
        speed_mode=drawn["speed_mode"],
        autopilot=drawn["autopilot"][..., 0],
        approach_clearance=drawn["approach_clearance"][..., 0],
        fate=drawn["fate"],
        events=drawn["events"],
    )


@struct.dataclass
class Changes:
    """What happened in a step besides movement, `[N]` each (events `[N, E]` bool)."""

    leg_frame: jax.Array  # int32 frame on which the route advanced; K for never
    phase: jax.Array  # int32 after the step
    phase_frame: jax.Array  # int32 frame on which it began; K for never
    fate: jax.Array  # int32 index into FATES
    events: jax.Array  # those that fate, collisions and the wind do not tell


def missed_approach_ft(altitude_ft, field_ft):
    """Altitude (ft) that the game assigns in a missed approach, from the present one and the runway's."""
    lowest = jnp.ceil((field_ft + 2000.0) / 1000.0)
    return jnp.maximum(lowest, jnp.floor(altitude_ft / 1000.0)) * 1000.0


def _write_panel(before: Traffic, t: Traffic, d: Decision, airport: Airport) -> Traffic:
    """Modes the network chose, and the values the game writes with a mode that it changes itself."""
    to_hold = (d.heading_mode == tr.MODE_HOLD) & (before.heading_mode != tr.MODE_HOLD)
    missed = (before.altitude_mode == tr.ALTITUDE_APPROACH) & (d.altitude_mode == tr.MODE_HOLD)
    takeoff = (before.altitude_mode == tr.MODE_OFF) & (d.altitude_mode != tr.MODE_OFF)
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    route = jnp.maximum(t.route, 0)
    altitude = jnp.where(missed, missed_approach_ft(t.altitude_ft, field), t.assigned_altitude_ft)
    unassigned = t.assigned_altitude_ft < 0
    altitude = jnp.where(takeoff & unassigned, airport.route_initial_ft[route], altitude)
    speed = jnp.where(
        takeoff & (t.assigned_speed_kt < 0), t.cruise_speed_kt, t.assigned_speed_kt
    )
    return t.replace(
        altitude_mode=d.altitude_mode,
        heading_mode=d.heading_mode,
        speed_mode=d.speed_mode,
        autopilot=d.autopilot,
        approach_clearance=d.approach_clearance,
        assigned_altitude_ft=altitude,
        assigned_heading_rad=jnp.where(to_hold, t.heading_rad, t.assigned_heading_rad),
        assigned_speed_kt=speed,
    )


def _clocks(before: Traffic, t: Traffic, changes: Changes) -> Traffic:
    """Advance every clock by one step; a change within the step restarts its clock there."""
    phase_frame = changes.phase_frame
    since_change, changed = (NEVER - phase_frame) * FRAME_S, phase_frame < NEVER
    took_off = changed & (changes.phase == tr.TAKEOFF)
    contact = changes.fate == CONTACT
    return t.replace(
        since_spawn_s=before.since_spawn_s + STEP_S,
        since_phase_s=jnp.where(changed, since_change, before.since_phase_s + STEP_S),
        airborne_s=jnp.where(
            took_off,
            since_change,
            jnp.where(before.airborne_s >= 0, before.airborne_s + STEP_S, before.airborne_s),
        ),
        since_contact_s=jnp.where(
            before.since_contact_s >= 0,
            before.since_contact_s + STEP_S,
            jnp.where(contact, 0.0, before.since_contact_s),
        ),
        phase_change_frame=jnp.where(changed, phase_frame, -1),
        leg_change_frame=jnp.where(changes.leg_frame < NEVER, changes.leg_frame, -1),
        controllable=(before.controllable | contact) & (changes.fate <= CONTACT),
    )


def _runways(before: Scene, t: Traffic, airport: Airport):
    """Queues and last departures after the step; returns (queue positions, Runways)."""
    old, r = before.traffic, before.runways
    count = r.last_departure.shape[-1]
    left = old.valid & (old.phase == tr.WAITING) & (t.phase != tr.WAITING)
    on_runway = jax.nn.one_hot(old.runway, count, dtype=bool)  # [N, R]
    went = on_runway & left[:, None]
    any_went = jnp.any(went, 0)
    slot = jnp.argmax(went, 0)
    departed = jnp.sum(went, 0, dtype=jnp.int32)
    ahead = jnp.sum(jnp.where(on_runway, departed, 0), -1, dtype=jnp.int32)
    queued = old.queue_position >= 0
    queue = jnp.where(queued & ~left, old.queue_position - ahead, -1)

    last = jnp.where(any_went, old.id[slot], r.last_departure)
    same = (t.id[:, None] == last) & t.valid[:, None]  # [N, R]
    present, at = jnp.any(same, 0), jnp.argmax(same, 0)
    dx = t.x_nm[at] - airport.runway_xy_nm[:, 0]
    dy = t.y_nm[at] - airport.runway_xy_nm[:, 1]
    since = jnp.where(r.since_departure_s >= 0, r.since_departure_s + STEP_S, -1.0)
    return queue, tr.Runways(
        last_departure=last,
        last_departure_distance_nm=jnp.where(
            present, jnp.hypot(dx, dy), r.last_departure_distance_nm
        ),
        last_departure_class=jnp.where(any_went, old.runway_class[slot], r.last_departure_class),
        last_departure_on_ground=present & kn.on_ground(t, airport)[at],
        since_departure_s=jnp.where(any_went, t.airborne_s[slot], since),
    )


def collisions(sub: tr.SubSteps, ids):
    """Aircraft `[N]` that came within 0.05 km and 160 ft of another inside the airspace: (hit, scored).

    The game scores a collision once, with the aircraft that it has known longer: that of the lower id.
    """

    def difference(v):
        return v[:, None, :] - v[:, :, None]

    inside = sub.present & sub.controllable & (sub.phase > tr.WAITING)
    squared = difference(sub.x_nm) ** 2 + difference(sub.y_nm) ** 2
    close = (squared < COLLISION_NM**2) & (jnp.abs(difference(sub.altitude_ft)) < COLLISION_FT)
    others = ~jnp.eye(inside.shape[-1], dtype=bool)
    close = close & inside[:, None, :] & inside[:, :, None] & others
    pair = jnp.any(close, 0)
    return jnp.any(pair, -1), jnp.any(pair & (ids[:, None] < ids[None, :]), -1)


def wind_events(t: Traffic, landed, scene: Scene) -> dict:
    """What landings `[N]` cost for the wind, {event: bool [N]}; the game weighs it by the heading alone."""
    angle = jnp.abs(geometry.wrap_pi(scene.wind_from_rad - t.heading_rad))
    across, tail = jnp.sin(angle) * scene.wind_speed_kt, -jnp.cos(angle) * scene.wind_speed_kt
    found = {n: landed & (across >= low) & (across < high) for n, (low, high) in CROSSWINDS_KT.items()}
    return found | {n: landed & (tail >= low) & (tail < high) for n, (low, high) in TAILWINDS_KT.items()}


def transition(scene: Scene, decision: Decision, airport: Airport):
    """Advance one scene `[N]` by one decision of the network.

    Returns (scene after, before removals; sub-steps; events `[N, E]` bool; removed `[N]` bool).
    The caller frees the removed slots once the reward has been computed on them.
    """
    guidance = decision.guidance
    moved, sub = kn.advance(scene, guidance, airport)
    panel = _write_panel(scene.traffic, moved.traffic, decision, airport)
    changes = Changes(
        guidance.leg_frame, guidance.phase, guidance.phase_frame, decision.fate, decision.events
    )
    return conclude(scene, moved.replace(traffic=panel), sub, changes, airport)


def conclude(scene: Scene, moved: Scene, sub: tr.SubSteps, changes: Changes, airport: Airport):
    """Clocks, queues, collisions and events of a step that moved a scene; returns as `transition` does."""
    before = scene.traffic
    changes = changes.replace(fate=jnp.where(before.valid, changes.fate, STAY))
    t = _clocks(before, moved.traffic, changes)
    queue, runways = _runways(scene, t, airport)
    since_spawn_s = scene.since_spawn_s + jnp.where(scene.since_spawn_s >= 0, STEP_S, 0.0)
    flies = before.valid & ~kn.on_ground(t, airport)
    hit, scored = (of & flies for of in collisions(sub, before.id))
    fate = jnp.where(hit, LOST, changes.fate)
    drawn = changes.events & before.valid[:, None]
    events = {name: drawn[:, i] for i, name in enumerate(EVENT_NAMES)}
    events |= {name: fate == code for code, name in FATE_EVENTS.items()} | {"COLLISION": scored}
    events |= wind_events(t, fate == LANDED, scene)
    events = jnp.stack([events[name] for name in EVENT_NAMES], axis=-1)
    after = moved.replace(
        traffic=t.replace(queue_position=queue),
        runways=runways,
        since_spawn_s=since_spawn_s,
        time_s=scene.time_s + STEP_S,
    )
    return after, sub, events, before.valid & (fate > CONTACT)
