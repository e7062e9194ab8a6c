"""From recorded episodes to training rows: features of a step's start, labels of what it did.

The guides an aircraft followed are not recorded as such; they are read off the recorded targets: the first
guide, in an order of preference, whose value on the step's last frame is the recorded target. An aircraft
that ended the step before with another guide followed that one up to some frame: the frame with which the
kinematics comes nearest to what was recorded. Letters: T time, N aircraft (recorded slots), E events,
K frames.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import airport as ap
from wm.sector import approach, commands, geometry, wind
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.route import current_leg, restrictions
from wm.sector.traffic import EVENT_NAMES, FRAME_S, FRAMES_PER_STEP, Scene, Traffic, in_play
from wm.state import features
from wm.state import kinematics as kn
from wm.state import network as net

HEADING_TOLERANCE_RAD = 0.004
OSCILLATION_RAD = 0.1  # an aircraft that does not turn, though its target is so far away
ALTITUDE_TOLERANCE_FT = 25.0
SPEED_TOLERANCE_KT = 0.6
HEADING_ORDER = (
    "vector", "fix", "assigned", "landing", "track", "localizer", "intercept", "keep", "straight",
)  # fmt: skip
ALTITUDE_ORDER = ("glideslope", "assigned", "maximum", "minimum", "ceiling", "keep", "level")
SPEED_ORDER = ("landing", "assigned", "restriction", "highest", "keep", "lowest")
# On the take-off run nothing changes, and guides that need no earlier target explain it as well: with them an
# aircraft that once had a wrong target finds the right one on the next frame.
TAKE_OFF_GUIDES = {"heading": "straight", "altitude": "level", "speed": "lowest"}
# How much nearer to the recorded state a later frame of change must come: what rounding explains does not.
NEARER = {"heading": 0.003, "altitude": 3.0, "speed": 0.2}  # rad, ft, kt


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


def _prefer_take_off_guide(axis: str, matches: dict, t: Traffic) -> dict:
    """The matches without "keep" on the take-off run, where the guide of TAKE_OFF_GUIDES matches too."""
    doubtful = (t.phase == tr.TAKEOFF) & matches[TAKE_OFF_GUIDES[axis]]
    return matches | {"keep": matches["keep"] & ~doubtful}


def _before_last_move(before: Traffic, after: Traffic) -> Traffic:
    """The traffic when the last frame's targets were computed, with what was assigned at the step's start.

    Speed and altitude are those after the frame, which changes no guide's value noticeably.
    """
    back = after.ground_speed_kt * FRAME_S / 3600.0
    return after.replace(
        x_nm=after.x_nm - back * jnp.sin(after.ground_track_rad),
        y_nm=after.y_nm - back * jnp.cos(after.ground_track_rad),
        assigned_altitude_ft=before.assigned_altitude_ft,
        assigned_heading_rad=before.assigned_heading_rad,
        assigned_speed_kt=before.assigned_speed_kt,
    )


def _heading_guide(before: Traffic, after: Traffic, scene: Scene, airport: Airport):
    """The guide `[N]` that explains the recorded target heading after the step."""
    t = _before_last_move(before, after)
    air = wind.air_of(scene, airport)
    east, north = wind.wind_at(t.altitude_ft, air)
    tas = wind.true_airspeed_kt(t.speed_kt, t.altitude_ft)
    around = kn.surroundings(t, airport)
    matches = {}
    for i, name in enumerate(kn.HEADING_GUIDES):
        target, is_track = kn.target_track(t, jnp.full_like(t.leg, i), before.target_heading_rad, around, air)
        heading = jnp.where(is_track, wind.crab_heading(target, tas, east, north), target)
        off = jnp.abs(geometry.wrap_pi(heading - after.target_heading_rad))
        matches[name] = off < HEADING_TOLERANCE_RAD
    fix = current_leg(t, airport)
    matches["fix"] &= fix.exists & (fix.vector_rad < 0) & (t.heading_mode == tr.HEADING_LNAV)
    matches["vector"] &= fix.exists & (fix.vector_rad >= 0) & (t.heading_mode == tr.HEADING_LNAV)
    matches["assigned"] &= t.heading_mode == tr.MODE_HOLD
    arrival = (t.category == tr.ARRIVAL) & (t.runway >= 0)
    landing = arrival & (t.phase == tr.LANDING)
    matches["landing"] &= landing
    for name in ("track", "localizer", "intercept"):
        matches[name] &= arrival & (t.heading_mode == tr.HEADING_LOCALIZER) & ~landing
    matches = _prefer_take_off_guide("heading", matches, t)
    guide = _first_match(HEADING_ORDER, kn.HEADING_GUIDES, matches)
    # At the edge of the localizer the game may turn to and fro on every frame, which is to fly straight on.
    still = jnp.abs(geometry.wrap_pi(after.heading_rad - before.heading_rad)) < HEADING_TOLERANCE_RAD
    far = jnp.abs(geometry.wrap_pi(after.target_heading_rad - after.heading_rad)) > OSCILLATION_RAD
    oscillates = still & far & ~kn.on_ground(after, airport)
    return jnp.where(oscillates, kn.HEADING_GUIDES.index("straight"), guide)


def _altitude_guide(before: Traffic, after: Traffic, airport: Airport):
    """(guide, free value), `[N]` each, that explain the recorded target altitude after the step."""
    t = _before_last_move(before, after)
    asked, around = restrictions(t, airport), kn.surroundings(t, airport)
    matches = {}
    for i, name in enumerate(kn.ALTITUDE_GUIDES):
        guide = jnp.full_like(t.leg, i)
        target = kn.target_altitude(t, guide, before.altitude_ft, before.target_altitude_ft, around)
        matches[name] = jnp.abs(target - after.target_altitude_ft) < ALTITUDE_TOLERANCE_FT
    matches["maximum"] &= asked["maximum"].exists
    matches["minimum"] &= asked["minimum"].exists
    on_course = approach.on_course(t.x_nm, t.y_nm, t.ground_track_rad, around.course)
    cleared = t.altitude_mode == tr.ALTITUDE_APPROACH
    matches["glideslope"] &= cleared & on_course | (t.phase == tr.LANDING)
    matches = _prefer_take_off_guide("altitude", matches, t)
    guide = _first_match(ALTITUDE_ORDER, kn.ALTITUDE_GUIDES, matches)
    free = guide < 0
    guide = jnp.where(free, kn.ALTITUDE_GUIDES.index("free"), guide)
    value = (after.target_altitude_ft - before.altitude_ft) / net.FREE_ALTITUDE_FT
    return guide, jnp.where(free, jnp.clip(value, -5.0, 5.0), jnp.nan)


def _speed_guide(before: Traffic, after: Traffic, airport: Airport):
    """(guide, free value), `[N]` each, that explain the recorded target speed after the step."""
    t = _before_last_move(before, after)
    asked, around = restrictions(t, airport), kn.surroundings(t, airport)
    grounded = kn.on_ground(t, airport)
    matches = {}
    for i, name in enumerate(kn.SPEED_GUIDES):
        guide = jnp.full_like(t.leg, i)
        target = kn.target_speed(t, guide, before.speed_kt, before.target_speed_kt, around, grounded)
        matches[name] = jnp.abs(target - after.target_speed_kt) < SPEED_TOLERANCE_KT
    matches["restriction"] &= asked["speed"].exists
    matches["landing"] &= t.phase == tr.LANDING
    matches = _prefer_take_off_guide("speed", matches, t)
    guide = _first_match(SPEED_ORDER, kn.SPEED_GUIDES, matches)
    free = guide < 0
    guide = jnp.where(free, kn.SPEED_GUIDES.index("free"), guide)
    value = (after.target_speed_kt - after.landing_speed_kt) / net.FREE_SPEED_KT
    return guide, jnp.where(free, jnp.clip(value, -5.0, 8.0), jnp.nan)


def _change_frames(start: Scene, after: Traffic, guidance: kn.Guidance, airport: Airport) -> dict:
    """The frame `[T, N]` on which each axis's second guide took over, given both in `guidance`.

    start: scenes `[T]`, with the commands applied. Tries every frame on all axes at once.
    """

    def miss(frame):
        tried = {}
        for axis in net.GUIDES:
            one = getattr(guidance, axis)
            tried[axis] = one.replace(frame=jnp.where(one.first == one.then, 0, frame))
        flown = jax.vmap(lambda s, g: kn.advance(s, g, airport)[0].traffic)(start, guidance.replace(**tried))
        return {
            "heading": jnp.abs(geometry.wrap_pi(flown.heading_rad - after.heading_rad)),
            "altitude": jnp.abs(flown.altitude_ft - after.altitude_ft),
            "speed": jnp.abs(flown.speed_kt - after.speed_kt),
        }

    found = jax.lax.map(miss, jnp.arange(FRAMES_PER_STEP))
    frames = {}
    for axis, off in found.items():
        good = off < jnp.min(off, 0) + NEARER[axis]
        frames[axis] = jnp.argmax(good, 0).astype(jnp.int32)
    return frames


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


def _guides(start: Scene, end: Scene, leg_frame, phase_frame, airport: Airport):
    """(Guidance, free values) `[T, N]` that explain an episode; `start` has the commands applied."""

    def of_step(before: Traffic, end: Scene):
        heading = _heading_guide(before, end.traffic, end, airport)
        altitude, free_altitude = _altitude_guide(before, end.traffic, airport)
        speed, free_speed = _speed_guide(before, end.traffic, airport)
        return {"heading": heading, "altitude": altitude, "speed": speed}, (free_altitude, free_speed)

    before, after = start.traffic, end.traffic
    then, free = jax.vmap(of_step)(before, end)
    known = {axis: jnp.maximum(guide, 0) for axis, guide in then.items()}
    same = jnp.concatenate([jnp.zeros_like(before.valid[:1]), after.id[:-1] == after.id[1:]])

    def axis(name):
        earlier = jnp.concatenate([then[name][:1], then[name][:-1]])
        first = jnp.where(same & (earlier >= 0), earlier, known[name])
        return kn.Axis(first, known[name], jnp.zeros_like(first))

    guidance = kn.Guidance(
        heading=axis("heading"),
        altitude=axis("altitude"),
        free_altitude_ft=before.altitude_ft + net.FREE_ALTITUDE_FT * jnp.nan_to_num(free[0]),
        speed=axis("speed"),
        free_speed_kt=before.landing_speed_kt + net.FREE_SPEED_KT * jnp.nan_to_num(free[1]),
        leg_frame=leg_frame,
        phase=after.phase,
        phase_frame=phase_frame,
    )
    frames = _change_frames(start, after, guidance, airport)
    found = {name: getattr(guidance, name).replace(frame=frames[name]) for name in frames}
    # A target that nothing explains says nothing about what steers.
    found = {name: axis.replace(then=then[name]) for name, axis in found.items()}
    return guidance.replace(**found), free


@jax.jit
def _episode_rows(scene: Scene, action, events, airport: Airport):
    """Rows of one episode, `[T, N, ...]`, with a mask of the usable ones."""
    start = jax.tree.map(lambda x: x[:-1], scene)
    end = jax.tree.map(lambda x: x[1:], scene)
    before = jax.vmap(lambda t, a: commands.apply(t, a, airport))(start.traffic, action)
    start, after = start.replace(traffic=before), end.traffic
    columns = jax.vmap(lambda s: features.dynamics_features(s, airport))(start)
    same = after.valid & (after.id == before.id)
    leg = (after.leg > before.leg) & (after.leg_change_frame >= 0)
    phase = (after.phase != before.phase) & (after.phase_change_frame >= 0)
    flying = same & (after.phase > tr.WAITING)
    leg_frame = jnp.where(leg, after.leg_change_frame, net.NEVER)
    phase_frame = jnp.where(phase, after.phase_change_frame, net.NEVER)
    guidance, free = _guides(start, end, leg_frame, phase_frame, airport)
    categorical = {}
    for name in net.GUIDES:
        axis = getattr(guidance, name)
        known = flying & (axis.then >= 0)
        categorical[name] = jnp.where(known, axis.then, -1)
        categorical[f"{name}_first"] = jnp.where(known & (axis.frame > 0), axis.first, -1)
        categorical[f"{name}_frame"] = jnp.where(known, axis.frame, -1)
    categorical |= {
        "leg_frame": jnp.where(same, leg_frame, -1),
        "phase": jnp.where(same & phase, after.phase, -1),
        "phase_frame": jnp.where(same, phase_frame, -1),
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
    scalars = {
        name: jnp.where(flying, value, jnp.nan)
        for name, value in zip(("free_altitude", "free_speed"), free, strict=True)
    }
    rows = Rows(features.stack_features(columns), categorical, binary, scalars)
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
