"""From recorded episodes to training rows: features of a step's start, labels of what it did.

The guides an aircraft followed are not recorded as such; they are read off the recorded targets:
the first guide, in an order of preference, whose value on the step's last frame is the recorded
target. Letters: T time, N aircraft (recorded slots), E events.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import airport as ap
from wm.sector import commands, geometry, wind
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.route import current_leg, restrictions
from wm.sector.traffic import EVENT_NAMES, FRAME_S, Scene, Traffic, in_play
from wm.state import features
from wm.state import kinematics as kn
from wm.state import network as net

HEADING_TOLERANCE_RAD = 0.004
ALTITUDE_TOLERANCE_FT = 25.0
SPEED_TOLERANCE_KT = 0.6
HEADING_ORDER = ("vector", "fix", "assigned", "runway", "threshold", "localizer", "keep")
ALTITUDE_ORDER = ("assigned", "maximum", "minimum", "field", "ceiling", "glideslope", "keep", "level")
SPEED_ORDER = ("assigned", "restriction", "highest", "keep", "lowest", "stop")


@struct.dataclass
class Rows:
    """Training rows of one or more episodes; leading axis is the row."""

    features: jax.Array  # [n, F] float32
    labels: dict  # categorical heads [n] int32, -1 where the step says nothing
    binary: dict  # [n] bool, events [n, E] bool
    scalars: dict  # [n] float32, NaN where the step says nothing


def _first_match(order, names, matches: dict):
    """Index into `names` of the first guide of `order` that matches, -1 where none does."""
    index = jnp.full(matches[order[0]].shape, -1, jnp.int32)
    for name in reversed(order):
        index = jnp.where(matches[name], names.index(name), index)
    return index


def _before_last_move(t: Traffic) -> Traffic:
    """Positions as they were when the last frame's targets were computed."""
    back = t.ground_speed_kt * FRAME_S / 3600.0
    return t.replace(
        x_nm=t.x_nm - back * jnp.sin(t.ground_track_rad),
        y_nm=t.y_nm - back * jnp.cos(t.ground_track_rad),
    )


def _heading_labels(before: Traffic, after: Traffic, scene: Scene, airport: Airport):
    """(guide, gain) that explain the recorded target heading after the step."""
    t = _before_last_move(after)
    air = wind.air_of(scene, airport)
    east, north = wind.wind_at(t.altitude_ft, air)
    tas = wind.true_airspeed_kt(t.speed_kt, t.altitude_ft)
    around = kn.surroundings(t, airport)
    zero = jnp.zeros_like(t.leg)
    matches = {}
    for i, name in enumerate(kn.HEADING_GUIDES):
        guide = kn.Guidance(zero + i, 0.0 * t.x_nm, zero, zero, zero, zero, zero, zero, zero)
        target, is_track = kn.target_track(t, guide, before.target_heading_rad, around, air)
        heading = jnp.where(is_track, wind.crab_heading(target, tas, east, north), target)
        off = jnp.abs(geometry.wrap_pi(heading - after.target_heading_rad))
        matches[name] = off < HEADING_TOLERANCE_RAD
    fix = current_leg(t, airport)
    matches["fix"] &= fix.exists & (fix.vector_rad < 0) & (t.heading_mode == tr.HEADING_LNAV)
    matches["vector"] &= fix.exists & (fix.vector_rad >= 0)
    matches["assigned"] &= t.heading_mode != tr.HEADING_LNAV
    arrival = (t.category == tr.ARRIVAL) & (t.runway >= 0)
    for name in ("threshold", "runway"):
        matches[name] &= arrival & (t.phase == tr.LANDING)
    course = around.course.heading_rad
    to_runway = geometry.bearing(around.course.x_nm - t.x_nm, around.course.y_nm - t.y_nm)
    off_course = geometry.wrap_pi(course - to_runway)
    crab = wind.crab_heading(course, tas, east, north) - course
    lean = geometry.wrap_pi(course - (after.target_heading_rad - crab))
    gain = lean / jnp.where(jnp.abs(off_course) < 1e-4, 1e-4, off_course)
    tracking = arrival & (t.heading_mode == tr.HEADING_LOCALIZER) & (t.phase != tr.LANDING)
    matches["localizer"] = tracking
    guide = _first_match(HEADING_ORDER, kn.HEADING_GUIDES, matches)
    informative = (guide == kn.HEADING_GUIDES.index("localizer")) & (jnp.abs(off_course) > 2e-3)
    gain = jnp.where(informative, jnp.clip(gain, 0.0, 3 * net.GAIN_SCALE), jnp.nan)
    return guide, gain / net.GAIN_SCALE


def _altitude_labels(before: Traffic, after: Traffic, airport: Airport):
    """(guide, free value) that explain the recorded target altitude after the step."""
    t = _before_last_move(after)
    asked, around = restrictions(t, airport), kn.surroundings(t, airport)
    zero = jnp.zeros_like(t.leg)
    matches = {}
    for i, name in enumerate(kn.ALTITUDE_GUIDES):
        guide = kn.Guidance(zero, 0.0 * t.x_nm, zero + i, before.altitude_ft, zero, zero, zero,
                            zero, zero)
        target = kn.target_altitude(t, guide, before.target_altitude_ft, around)
        matches[name] = jnp.abs(target - after.target_altitude_ft) < ALTITUDE_TOLERANCE_FT
    matches["maximum"] &= asked["maximum"].exists
    matches["minimum"] &= asked["minimum"].exists
    matches["glideslope"] &= (t.category == tr.ARRIVAL) & t.approach_clearance | (
        t.phase == tr.LANDING
    )
    guide = _first_match(ALTITUDE_ORDER, kn.ALTITUDE_GUIDES, matches)
    free = guide < 0
    guide = jnp.where(free, kn.ALTITUDE_GUIDES.index("free"), guide)
    value = (after.target_altitude_ft - before.altitude_ft) / net.FREE_ALTITUDE_FT
    return guide, jnp.where(free, jnp.clip(value, -5.0, 5.0), jnp.nan)


def _speed_labels(before: Traffic, after: Traffic, airport: Airport):
    """(guide, free value) that explain the recorded target speed after the step."""
    asked, around = restrictions(after, airport), kn.surroundings(after, airport)
    grounded = kn.on_ground(after, airport)
    zero = jnp.zeros_like(after.leg)
    matches = {}
    for i, name in enumerate(kn.SPEED_GUIDES):
        guide = kn.Guidance(zero, 0.0 * after.x_nm, zero, zero, zero + i, before.speed_kt, zero,
                            zero, zero)
        target = kn.target_speed(after, guide, before.target_speed_kt, around, grounded)
        matches[name] = jnp.abs(target - after.target_speed_kt) < SPEED_TOLERANCE_KT
    matches["restriction"] &= asked["speed"].exists
    guide = _first_match(SPEED_ORDER, kn.SPEED_GUIDES, matches)
    free = guide < 0
    guide = jnp.where(free, kn.SPEED_GUIDES.index("free"), guide)
    value = (after.target_speed_kt - after.landing_speed_kt) / net.FREE_SPEED_KT
    return guide, jnp.where(free, jnp.clip(value, -5.0, 8.0), jnp.nan)


def _fate(before: Traffic, after: Traffic, events):
    """Index into net.FATES of what became of each aircraft."""

    def happened(name):
        return events[..., EVENT_NAMES.index(name)]

    stays = after.valid & (after.id == before.id)
    left = stays & before.controllable & ~after.controllable
    fate = jnp.where(stays & ~before.controllable & after.controllable, net.CONTACT, 0)
    fate = jnp.where(left, net.HANDED_OFF, fate)
    fate = jnp.where(left & happened("NOT_CLEARED_ON_ROUTE"), net.OFF_ROUTE, fate)
    fate = jnp.where(left & happened("AIRSPACE_BUST"), net.BUST, fate)
    gone = jnp.where(happened("ARRIVAL"), net.LANDED, net.LOST)
    return jnp.where(stays, fate, gone)


@partial(jax.jit, static_argnames=())
def _episode_rows(scene: Scene, action, events, airport: Airport):
    """Rows of one episode, `[T, N, ...]`, with a mask of the usable ones."""
    start = jax.tree.map(lambda x: x[:-1], scene)
    after = jax.tree.map(lambda x: x[1:], scene.traffic)
    before = jax.vmap(lambda t, a: commands.apply(t, a, airport))(start.traffic, action)
    start = start.replace(traffic=before)
    columns = jax.vmap(lambda s: features.dynamics_features(s, airport))(start)
    end = jax.tree.map(lambda x: x[1:], scene)

    def labels(before, after, end):
        heading, gain = _heading_labels(before, after, end, airport)
        altitude, free_altitude = _altitude_labels(before, after, airport)
        speed, free_speed = _speed_labels(before, after, airport)
        return (heading, altitude, speed), (gain, free_altitude, free_speed)

    guides, scalars = jax.vmap(labels)(before, after, end)
    same = after.valid & (after.id == before.id)
    leg = (after.leg > before.leg) & (after.leg_change_frame >= 0)
    phase = (after.phase != before.phase) & (after.phase_change_frame >= 0)
    flying = same & (after.phase > tr.WAITING) & (before.phase > tr.WAITING)
    never = net.NEVER
    categorical = {
        "heading": jnp.where(flying, guides[0], -1),
        "altitude": jnp.where(flying, guides[1], -1),
        "speed": jnp.where(flying, guides[2], -1),
        "leg_frame": jnp.where(same, jnp.where(leg, after.leg_change_frame, never), -1),
        "phase": jnp.where(same & phase, after.phase, -1),
        "phase_frame": jnp.where(same, jnp.where(phase, after.phase_change_frame, never), -1),
        "altitude_mode": jnp.where(same, after.altitude_mode, -1),
        "heading_mode": jnp.where(same, after.heading_mode, -1),
        "speed_mode": jnp.where(same, after.speed_mode, -1),
        "fate": _fate(before, after, events),
    }
    binary = {
        "autopilot": after.autopilot | ~same,
        "approach_clearance": jnp.where(same, after.approach_clearance, before.approach_clearance),
        "events": events,
    }
    names = ("localizer_gain", "free_altitude", "free_speed")
    scalar = {n: jnp.where(flying, v, jnp.nan) for n, v in zip(names, scalars, strict=True)}
    rows = Rows(features.stack_features(columns), categorical, binary, scalar)
    return rows, in_play(before)


def rows_of(recording: Recording, airport: Airport) -> Rows:
    """Training rows of one episode (numpy, usable rows only); `airport` holds its route ids."""
    rows, usable = _episode_rows(recording.scene, recording.action, recording.events, airport)
    keep = np.asarray(usable)
    return jax.tree.map(lambda x: np.asarray(x)[keep], rows)


def concatenate(parts: list[Rows]) -> Rows:
    """Stack the rows of several episodes."""
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def airport_of(recordings: list[Recording]) -> tuple[Airport, list[Recording]]:
    """One airport's tables and its recordings with route ids made the same in all of them."""
    routes: list[dict] = []
    index: dict[str, int] = {}
    renumbered = []
    for recording in recordings:
        ids = []
        for route in recording.routes:
            key = repr((route["route"], route["waypoints"]))
            if key not in index:
                index[key] = len(routes)
                routes.append(route)
            ids.append(index[key])
        t = recording.scene.traffic
        table = np.asarray([*ids, -1], np.int32)
        scene = recording.scene.replace(traffic=t.replace(route=table[t.route]))
        # All recordings share this list, which the loop completes.
        renumbered.append(dataclasses.replace(recording, scene=scene, routes=routes))
    initial = _initial_altitudes(renumbered, len(routes))
    routes = [
        r | ({"initial_altitude_ft": float(v)} if v > 0 else {})
        for r, v in zip(routes, initial, strict=True)
    ]
    return ap.from_static(recordings[0].static, routes), renumbered


def _initial_altitudes(recordings: list[Recording], routes: int) -> np.ndarray:
    """Altitude `[Q]` (ft) departures of each route were assigned at take-off; 0 where unseen."""
    found = np.zeros(routes)
    for recording in recordings:
        t = recording.scene.traffic
        took_off = (t.phase == tr.TAKEOFF) & (t.phase_change_frame >= 0) & t.valid
        commanded = recording.action[:, 0]
        for step, slot in zip(*np.nonzero(np.asarray(took_off)), strict=True):
            if step > 0 and slot not in commanded[:step]:
                found[t.route[step, slot]] = t.assigned_altitude_ft[step, slot]
    return found
