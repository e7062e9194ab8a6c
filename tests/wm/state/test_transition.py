"""What a step does with the network's outputs: fates, queues, clocks, collisions, the panel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm.recordings import NEVER, SLOTS, decision, move, outputs_of, rated
from wm.sector import traffic as tr
from wm.state import kinematics as kn
from wm.state import network as net
from wm.state import transition
from wm.state.spawn import free_slots

PLACE = scenes.airport()
EVENT = {name: i for i, name in enumerate(tr.EVENT_NAMES)}


def test_scalar_heads_become_feet_and_knots():
    t = rated(2, altitude_ft=[5000.0, 6000.0])
    outputs = outputs_of(4, 2)
    guide = transition.decide(outputs, t).guidance
    value = {n: float(outputs[n][0, 0]) for n in net.SCALAR}
    np.testing.assert_allclose(
        guide.free_altitude_ft, [5000 + 2000 * value["free_altitude"], 6000 + 2000 * value["free_altitude"]]
    )
    np.testing.assert_allclose(guide.free_speed_kt, 135 + 50 * value["free_speed"], rtol=1e-6)


def run(columns, scene_changes=None, **changes):
    t = rated(SLOTS, **columns)
    scene = scenes.scene(t, PLACE, **(scene_changes or {}))
    return jax.tree.map(np.asarray, (scene, *move(scene, decision(t, **changes), PLACE)))


def apart(n):
    """Columns that keep n aircraft away from each other."""
    return {"x_nm": 10.0 * np.arange(n) - 20.0, "y_nm": np.full(n, 10.0)}


def test_fates_remove_and_score_and_contact_makes_controllable():
    fates = [net.STAY, net.CONTACT, net.LANDED, net.HANDED_OFF, net.OFF_ROUTE, net.LOST]
    columns = apart(6) | {"controllable": [True, False, True, True, True, True]}
    columns["since_contact_s"] = [35.0, -1.0, 35.0, 35.0, 35.0, 35.0]
    # The network may also say that such an event happened: an event of a fate comes from the fate alone.
    claimed = np.zeros((SLOTS, len(tr.EVENT_NAMES)), bool)
    claimed[0, EVENT["DEPARTURE"]] = claimed[0, EVENT["GO_AROUND"]] = True
    _, after, _, events, removed = run(columns, fate=np.asarray(fates), events=claimed)
    np.testing.assert_array_equal(removed, [False, False, True, True, True, True])
    scored = [{tr.EVENT_NAMES[k] for k in np.flatnonzero(row)} for row in events]
    assert scored == [{"GO_AROUND"}, set(), {"ARRIVAL"}, {"DEPARTURE"}, {"NOT_CLEARED_ON_ROUTE"}, set()]
    np.testing.assert_array_equal(after.traffic.controllable, [True, True] + [False] * 4)
    np.testing.assert_allclose(after.traffic.since_contact_s[:3], [40.0, 0.0, 40.0])
    freed = free_slots(jax.tree.map(jnp.asarray, after.traffic), removed)
    np.testing.assert_array_equal(freed.valid, ~removed)
    np.testing.assert_array_equal(np.asarray(freed.id) >= 0, ~removed)


@pytest.mark.parametrize(
    ("off_deg", "knots", "expected"),
    [
        (0.0, 30.0, set()),
        (90.0, 12.0, {"HIGH_CROSSWIND_OPERATION"}),
        (90.0, 25.0, {"EXTREME_CROSSWIND_OPERATION"}),
        (180.0, 6.0, {"HIGH_TAILWIND_OPERATION"}),
        (180.0, 4.0, set()),
        (135.0, 25.0, {"HIGH_CROSSWIND_OPERATION", "EXTREME_TAILWIND_OPERATION"}),
    ],
)
def test_a_landing_is_charged_for_the_wind_that_blows_and_for_no_other(off_deg, knots, expected):
    heading = np.full(6, np.deg2rad(80.0))
    wind = {"wind_from_rad": np.float32(heading[0] + np.deg2rad(off_deg)), "wind_speed_kt": np.float32(knots)}
    columns = apart(6) | {"heading_rad": heading, "target_heading_rad": heading}
    claimed = np.zeros((SLOTS, len(tr.EVENT_NAMES)), bool)
    claimed[:2, [EVENT["EXTREME_TAILWIND_OPERATION"], EVENT["HIGH_CROSSWIND_OPERATION"]]] = True
    *_, events, _ = run(columns, wind, fate=np.asarray([net.LANDED] + 5 * [net.STAY]), events=claimed)
    scored = [{tr.EVENT_NAMES[k] for k in np.flatnonzero(row)} for row in events[:2]]
    assert scored == [{"ARRIVAL"} | expected, set()]


def test_a_bust_scores_and_empty_slots_do_nothing():
    claimed = np.ones((SLOTS, len(tr.EVENT_NAMES)), bool)
    before, after, _, events, removed = run(apart(1), fate=net.BUST, events=claimed)
    assert events[0, EVENT["AIRSPACE_BUST"]]
    assert not events[0, EVENT["ARRIVAL"]]
    assert not events[1:].any()
    np.testing.assert_array_equal(removed, before.traffic.valid)
    assert not after.traffic.valid[1:].any()


def waiting(n):
    return {
        "x_nm": 1.0 + 0.2 * np.arange(n), "y_nm": np.full(n, 0.0), "altitude_ft": 2000.0, "speed_kt": 0.0,
        "ground_speed_kt": 0.0, "category": tr.DEPARTURE, "phase": tr.WAITING, "airborne_s": -1.0,
        "altitude_mode": tr.MODE_OFF, "assigned_altitude_ft": -1.0, "assigned_speed_kt": -1.0,
        "route": scenes.SID_ROUTE,
    }  # fmt: skip


def test_two_departures_move_their_queues_up_and_become_the_last_of_their_runways():
    left, north = scenes.RUNWAY_27L, scenes.RUNWAY_36
    columns = waiting(5) | {
        "runway": [left, left, north, north, left],
        "queue_position": [1, 0, 0, 1, 2],
        "runway_class": [3, 2, 1, 3, 3],
    }
    runways = tr.empty(tr.Runways, (3,)).replace(
        last_departure=jnp.asarray([7, 8, -1]),
        since_departure_s=jnp.asarray([100.0, 50.0, -1.0]),
        last_departure_distance_nm=jnp.asarray([9.0, 4.0, -1.0]),
    )
    frames = np.asarray([NEVER, 4, 9, NEVER, NEVER, NEVER])
    phases = np.where(frames < NEVER, tr.TAKEOFF, tr.WAITING)
    _, after, _, _, _ = run(columns, {"runways": runways}, phase=phases, phase_frame=frames)
    t, r = after.traffic, after.runways
    np.testing.assert_array_equal(t.queue_position[:5], [0, -1, -1, 0, 1])
    np.testing.assert_array_equal(r.last_departure, [101, 8, 102])
    np.testing.assert_array_equal(r.last_departure_class[[0, 2]], [2, 1])
    # Frames 4 and 9 of ten: 3 s and 0.5 s before the end of the step.
    np.testing.assert_allclose(r.since_departure_s, [3.0, 55.0, 0.5])
    np.testing.assert_array_equal(r.last_departure_on_ground, [True, False, True])
    np.testing.assert_allclose(r.last_departure_distance_nm[1], 4.0)  # it is not in any slot: as it was
    np.testing.assert_allclose(
        r.last_departure_distance_nm[0], np.hypot(t.x_nm[1] - 1.0, t.y_nm[1]), atol=1e-6
    )


def test_the_last_departure_is_followed_on_its_way():
    runways = tr.empty(tr.Runways, (3,)).replace(
        last_departure=jnp.asarray([-1, -1, 100]), since_departure_s=jnp.asarray([-1.0, -1.0, 60.0])
    )
    columns = {"x_nm": [-3.0], "y_nm": [4.0], "category": tr.DEPARTURE, "phase": tr.CLIMB}
    _, after, _, _, _ = run(columns, {"runways": runways})
    t = after.traffic
    expected = np.hypot(t.x_nm[0] - 0.0, t.y_nm[0] + 1.0)  # runway 36 begins at (0, -1)
    np.testing.assert_allclose(after.runways.last_departure_distance_nm[2], expected, rtol=1e-6)
    np.testing.assert_allclose(after.runways.since_departure_s, [-1.0, -1.0, 65.0])
    assert not after.runways.last_departure_on_ground[2]


def test_clocks_advance_by_a_step_or_restart_on_the_frame_of_a_change():
    columns = apart(4) | {
        "since_spawn_s": 100.0,
        "since_phase_s": 50.0,
        "airborne_s": [-1.0, 200.0, -1.0, 200.0],
        "phase": [tr.WAITING, tr.DESCENT, tr.WAITING, tr.DESCENT],
        "runway": scenes.RUNWAY_27L,
    }
    frames = np.asarray([6, 2, NEVER, NEVER, NEVER, NEVER])
    phases = np.asarray([tr.TAKEOFF, tr.APPROACH, tr.WAITING, tr.DESCENT, -1, -1])
    legs = np.asarray([NEVER, NEVER, NEVER, 8, NEVER, NEVER])
    scene, after, _, _, _ = run(
        columns, {"time_s": jnp.float32(300.0), "since_spawn_s": jnp.asarray([20.0, -1.0])},
        phase=phases, phase_frame=frames, leg_frame=legs,
    )  # fmt: skip
    t = after.traffic
    np.testing.assert_allclose(t.since_spawn_s[:4], 105.0)
    np.testing.assert_allclose(t.since_phase_s[:4], [2.0, 4.0, 55.0, 55.0])
    np.testing.assert_allclose(t.airborne_s[:4], [2.0, 205.0, -1.0, 205.0])
    np.testing.assert_array_equal(t.phase_change_frame[:4], [6, 2, -1, -1])
    np.testing.assert_array_equal(t.leg_change_frame[:4], [-1, -1, -1, 8])
    assert after.time_s == 305.0
    np.testing.assert_allclose(after.since_spawn_s, [25.0, -1.0])
    assert scene.time_s == 300.0


@pytest.mark.parametrize(
    ("change", "collides"),
    [
        ({}, True),
        ({"altitude_ft": [10000.0, 10159.0]}, True),
        ({"altitude_ft": [10000.0, 10161.0]}, False),
        ({"y_nm": [10.0, 10.026]}, True),  # 0.05 km is 0.027 nm
        ({"y_nm": [10.0, 10.028]}, False),
        ({"controllable": [True, False]}, False),
        ({"phase": [tr.DESCENT, tr.WAITING]}, False),
        ({"valid": [True, False]}, False),
    ],
)
def test_collisions_are_within_fifty_metres_and_160_ft_inside_the_airspace(change, collides):
    columns = {"x_nm": [20.0, 20.0], "y_nm": [10.0, 10.0], "altitude_ft": [10000.0, 10000.0]} | change
    columns["target_altitude_ft"] = columns["altitude_ft"]
    for ids, scored in (([3, 7], 0), ([7, 3], 1)):  # once a pair, with the lower id, as in the game
        _, _, _, events, removed = run(columns | {"id": ids})
        collisions = [collides and scored == i for i in range(2)]
        np.testing.assert_array_equal(events[:2, EVENT["COLLISION"]], collisions)
        np.testing.assert_array_equal(removed[:2], [collides] * 2)
        assert not removed[2:].any()


def test_a_collision_between_two_decisions_is_seen():
    # Head on at about 0.08 nm a frame: 0.2 nm apart now, far past each other 5 s later.
    columns = {
        "x_nm": [20.0, 20.2], "y_nm": 10.0, "heading_rad": np.deg2rad([90.0, 270.0]),
        "ground_track_rad": np.deg2rad([90.0, 270.0]),
    }  # fmt: skip
    _, after, sub, events, _ = run(columns)
    assert abs(after.traffic.x_nm[0] - after.traffic.x_nm[1]) > 0.5
    closest = np.min(np.abs(sub.x_nm[:, 0] - sub.x_nm[:, 1]))
    np.testing.assert_array_equal(events[:2, EVENT["COLLISION"]], [closest < 0.027, False])


@pytest.mark.parametrize(("altitude", "expected"), [(2500.0, 4000.0), (5600.0, 5000.0)])
def test_a_missed_approach_writes_altitude_and_heading(altitude, expected):
    columns = {
        "x_nm": [5.0], "y_nm": [0.0], "altitude_ft": altitude, "altitude_mode": tr.ALTITUDE_APPROACH,
        "heading_mode": tr.HEADING_LOCALIZER, "heading_rad": 4.5, "assigned_altitude_ft": 3700.0,
        "assigned_heading_rad": 1.0, "approach_clearance": True,
    }  # fmt: skip
    _, after, _, _, _ = run(
        columns, altitude_mode=tr.MODE_HOLD, heading_mode=tr.MODE_HOLD, approach_clearance=False
    )
    t = after.traffic
    # 2,000 ft above the field, up to the next 1,000, or the present altitude down to one.
    np.testing.assert_allclose(t.assigned_altitude_ft[0], expected)
    np.testing.assert_allclose(t.assigned_heading_rad[0], t.heading_rad[0])
    assert not t.approach_clearance[0]


def test_the_panel_of_a_takeoff_holds_the_routes_altitude_and_cruise_speed():
    columns = waiting(2) | {"assigned_altitude_ft": [-1.0, 5000.0], "assigned_speed_kt": [-1.0, 220.0]}
    columns["runway"] = [scenes.RUNWAY_27L, scenes.RUNWAY_36]
    _, after, _, _, _ = run(
        columns, altitude_mode=tr.ALTITUDE_VNAV, phase=tr.TAKEOFF, phase_frame=0,
        speed=kn.SPEED_GUIDES.index("highest"),
    )  # fmt: skip
    np.testing.assert_allclose(after.traffic.assigned_altitude_ft[:2], [7000.0, 5000.0])
    np.testing.assert_allclose(after.traffic.assigned_speed_kt[:2], [440.0, 220.0])
    assert np.all(after.traffic.speed_kt[:2] > 0)
