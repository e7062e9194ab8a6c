"""Labels: recordings flown by known guides give those guides back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm import recordings as rc
from wm.sector import commands
from wm.sector import traffic as tr
from wm.state import features, labels
from wm.state import kinematics as kn
from wm.state import network as net

PLACE = rc.airport()
STEPS = 24
SCENE = rc.on_route(np.random.default_rng(3), PLACE)


@pytest.fixture(scope="module")
def flown():
    """Aircraft 0 to 5 on their routes; commands to 1 (altitude), 2 (heading) and 3 (speed)."""
    actions = rc.idle(STEPS)
    actions[4] = (1, commands.ALTITUDE, 2, 0, 0)
    actions[5] = (2, commands.HEADING, 0, 5, 0)
    actions[6] = (3, commands.SPEED, 0, 0, 0)
    return rc.fly(SCENE, PLACE, actions)


@pytest.fixture(scope="module")
def rows(flown):
    rows = labels.rows_of(flown, PLACE)
    assert rows.features.shape[0] == STEPS * rc.SLOTS  # everybody is in play all the time
    return jax.tree.map(lambda x: x.reshape(STEPS, rc.SLOTS, *x.shape[1:]), rows)


@pytest.fixture(scope="module")
def truth(flown):
    return rc.decisions(flown, PLACE)


def test_the_recording_contains_what_the_tests_are_about(truth):
    _, decided = truth
    guide = decided.guidance
    assert {kn.HEADING_GUIDES[i] for i in np.unique(guide.heading.then)} == {"fix", "assigned"}
    assert {kn.ALTITUDE_GUIDES[i] for i in np.unique(guide.altitude.then)} == {"maximum", "assigned"}
    assert {kn.SPEED_GUIDES[i] for i in np.unique(guide.speed.then)} == {"restriction", "assigned", "keep"}
    assert np.sum(guide.leg_frame < net.NEVER) > 5


def test_heading_guides_and_leg_frames_are_read_back(rows, truth):
    _, decided = truth
    np.testing.assert_array_equal(rows.labels["heading"], decided.guidance.heading.then)
    np.testing.assert_array_equal(rows.labels["leg_frame"], decided.guidance.leg_frame)


@pytest.mark.parametrize("axis", ["altitude", "speed"])
def test_altitude_and_speed_guides_are_read_back(axis, rows, truth):
    _, decided = truth
    # Where the leg changes, the label may see a restriction that the rules did not know of yet.
    same_leg = decided.guidance.leg_frame == net.NEVER
    read, flown = rows.labels[axis], getattr(decided.guidance, axis).then
    np.testing.assert_array_equal(read[same_leg], flown[same_leg])
    assert same_leg.mean() > 0.8
    np.testing.assert_array_equal(rows.labels[f"{axis}_frame"][same_leg], 0)
    np.testing.assert_array_equal(rows.labels[f"{axis}_first"][same_leg], -1)


@pytest.mark.parametrize("frame", [1, 6, 9])
@pytest.mark.parametrize(("axis", "wanted"), [("altitude", "assigned"), ("speed", "assigned")])
def test_the_frame_on_which_a_guide_took_over_is_read_back(axis, wanted, frame):
    then = net.GUIDES[axis].index(wanted)

    def decide(_, scene, place):
        step = scene.time_s / tr.STEP_S
        t = scene.traffic
        changes = {axis: jnp.where(step >= 3, then, 0), f"{axis}_frame": jnp.where(step == 3, frame, 0)}
        return rc.decision(t, heading=kn.HEADING_GUIDES.index("fix"), **changes)

    start = SCENE.replace(traffic=SCENE.traffic.replace(altitude_mode=jnp.full(rc.SLOTS, tr.MODE_HOLD)))
    rows = labels.rows_of(rc.fly(start, PLACE, rc.idle(6), decide), PLACE)
    read = {name: rows.labels[name].reshape(6, -1) for name in (axis, f"{axis}_first", f"{axis}_frame")}
    np.testing.assert_array_equal(read[f"{axis}_frame"][3], frame)
    np.testing.assert_array_equal(read[f"{axis}_first"][3], net.GUIDES[axis].index("keep"))
    np.testing.assert_array_equal(read[axis][3:], then)
    np.testing.assert_array_equal(read[f"{axis}_frame"][[0, 1, 2, 4, 5]], 0)


def test_modes_and_phases_are_those_after_the_step(rows, flown):
    after = jax.tree.map(lambda x: x[1:], flown.scene.traffic)
    for name in ("altitude_mode", "heading_mode", "speed_mode"):
        np.testing.assert_array_equal(rows.labels[name], getattr(after, name))
    assert np.all(rows.labels["phase"] == -1)  # no phase changed: nothing to learn about which
    assert np.all(rows.labels["phase_frame"] == net.NEVER)
    assert np.all(rows.labels["fate"] == net.STAY)
    np.testing.assert_array_equal(rows.binary["autopilot"], after.autopilot)


def test_scalars_are_unknown_where_a_named_guide_explains_the_step(rows):
    named = rows.labels["altitude"] != kn.ALTITUDE_GUIDES.index("free")
    np.testing.assert_array_equal(np.isnan(rows.scalars["free_altitude"]), named)


def test_features_are_those_of_the_addressed_slot_after_its_command(rows, flown, truth):
    seen, _ = truth
    names = sorted(_names())
    held = rows.features[..., names.index("heading_mode_HOLD")] > 0
    np.testing.assert_array_equal(held, seen.heading_mode == tr.MODE_HOLD)
    # Slot 2 has the heading from the step of its command on, not only from the next recorded state.
    np.testing.assert_array_equal(held[:, 2], np.arange(STEPS) >= 5)
    assert not held[:, [0, 3, 4, 5]].any()
    assert flown.scene.traffic.heading_mode[5, 2] == tr.HEADING_LNAV


def _names():
    scene = jax.tree.map(np.asarray, SCENE)
    shapes = jax.eval_shape(lambda s: features.dynamics_features(s, PLACE), scene)
    return list(shapes)


def edited(recording, step, **edits):
    """A recording whose traffic from `step` on has columns set per slot, and events in the step before."""
    traffic = jax.tree.map(np.copy, recording.scene.traffic)
    events = recording.events.copy()
    for slot, name in edits.pop("events", {}).items():
        events[step - 1, slot, tr.EVENT_NAMES.index(name)] = True
    for name, slots in edits.items():
        for slot, value in slots.items():
            getattr(traffic, name)[step:, slot] = value
    scene = recording.scene.replace(traffic=traffic)
    return dataclasses.replace(recording, scene=scene, events=events)


def test_fates_follow_from_events_and_from_who_is_left(flown):
    changed = edited(
        flown, 6, valid={0: False, 1: False}, controllable={2: False, 3: False, 4: False},
        removable={2: True, 3: True, 4: True},
        events={0: "ARRIVAL", 2: "DEPARTURE", 3: "NOT_CLEARED_ON_ROUTE", 4: "AIRSPACE_BUST"},
    )  # fmt: skip
    changed.scene.traffic.controllable[:6, 5] = False  # slot 5 makes contact in the same step
    rows = labels.rows_of(changed, PLACE)
    fate = np.asarray(rows.labels["fate"])
    before, at, after = np.split(fate, [5 * rc.SLOTS, 6 * rc.SLOTS])
    assert np.all(before == net.STAY)
    expected = [net.LANDED, net.LOST, net.HANDED_OFF, net.OFF_ROUTE, net.BUST,
                net.CONTACT]  # fmt: skip
    np.testing.assert_array_equal(at, expected)
    # Whoever has landed, vanished or been handed off gives no further rows: slot 5 is left.
    assert len(after) == STEPS - 6
    assert np.all(after == net.STAY)
    gone = {name: np.asarray(v)[5 * rc.SLOTS : 5 * rc.SLOTS + 2] for name, v in rows.labels.items()}
    for name in ("heading", "altitude", "speed", "leg_frame", "phase_frame", "heading_mode"):
        assert np.all(gone[name] == -1), name


def test_a_slot_that_another_aircraft_takes_is_not_the_same_aircraft(flown):
    rows = labels.rows_of(edited(flown, 6, id={3: 999}), PLACE)
    assert rows.labels["fate"].reshape(STEPS, -1)[5, 3] == net.LOST
    assert rows.labels["heading"].reshape(STEPS, -1)[5, 3] == -1


def test_phase_changes_are_labelled_with_their_frame(flown):
    changed = edited(flown, 6, phase={2: tr.APPROACH})
    changed.scene.traffic.phase_change_frame[6, 2] = 7
    rows = labels.rows_of(changed, PLACE)
    phase, frame = (rows.labels[n].reshape(STEPS, -1) for n in ("phase", "phase_frame"))
    assert (phase[5, 2], frame[5, 2]) == (tr.APPROACH, 7)
    assert np.sum(phase >= 0) == 1
    assert np.sum(frame < net.NEVER) == 1


def test_route_ids_become_those_of_all_recordings_together(flown):
    east, south, west = flown.routes
    other = rc.zigzag(0.0, 0.0, 0.0, "NORTH")
    table = np.asarray([2, 3, 0, -1])  # the second recording lists west, north and east in their place
    second = dataclasses.replace(flown, routes=[west, other, east])
    back = {0: 2, 1: 0, 2: 0}  # east is its route 2; whoever flew south or west flies west there
    route = np.vectorize(lambda r: back.get(int(r), -1))(flown.scene.traffic.route)
    route[:, 5] = -1
    scene = second.scene.replace(traffic=second.scene.traffic.replace(route=route))
    place, (first, second) = labels.airport_of([flown, dataclasses.replace(second, scene=scene)])
    np.testing.assert_array_equal(first.scene.traffic.route, flown.scene.traffic.route)
    np.testing.assert_array_equal(second.scene.traffic.route, table[route])
    for i, wanted in enumerate((east, south, west, other)):
        xy = [(w["x_nm"], w["y_nm"]) for w in wanted["waypoints"]]
        np.testing.assert_allclose(place.route_xy_nm[i], xy, rtol=1e-6)
    assert place.route_xy_nm.shape[0] == 4


def test_initial_altitudes_are_those_of_takeoffs_nobody_commanded(flown):
    traffic = jax.tree.map(np.copy, flown.scene.traffic)
    for slot, altitude, route in ((0, 4000.0, 0), (1, 9000.0, 1), (5, 5000.0, 2)):
        traffic.phase[8:, slot] = tr.TAKEOFF
        traffic.phase_change_frame[8, slot] = 3
        traffic.assigned_altitude_ft[8:, slot] = altitude
        traffic.route[:, slot] = route
    recording = dataclasses.replace(flown, scene=flown.scene.replace(traffic=traffic))
    place, _ = labels.airport_of([recording])
    # Aircraft 1 was commanded an altitude at step 4, so its altitude is not the route's: the airport's stays.
    initial = scenes.static()["initial_altitude_ft"]
    np.testing.assert_allclose(place.route_initial_ft, [4000.0, initial, 5000.0])


def test_concatenation_keeps_rows_in_order(flown):
    rows = labels.rows_of(flown, PLACE)
    both = labels.concatenate([rows, rows])
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.concatenate([x, x]), y), rows, both)
