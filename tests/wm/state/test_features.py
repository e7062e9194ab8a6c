"""What the dynamics network sees: finite, of each aircraft alone, and right by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm.recordings import SLOTS, rated
from wm.sector import traffic as tr
from wm.state import features as ft

PLACE = scenes.airport()
NORTH = np.deg2rad(0.0)


@jax.jit
def _columns(scene, place):
    return ft.dynamics_features(scene, place)


def columns(aircraft, **changes):
    scene = scenes.scene(aircraft, PLACE, **changes)
    return jax.tree.map(np.asarray, _columns(*jax.tree.map(np.asarray, (scene, PLACE))))


@pytest.mark.parametrize("seed", range(5))
def test_columns_are_finite_and_of_order_one_whatever_the_traffic(seed):
    t = scenes.random_traffic(np.random.default_rng(seed), SLOTS)
    wind = {"wind_speed_kt": jnp.float32(25.0), "wind_from_rad": jnp.float32(seed)}
    for name, column in columns(t, **wind).items():
        assert column.shape == (SLOTS,), name
        values = column.astype(np.float32)
        assert np.all(np.isfinite(values)), name
        assert np.all(np.abs(values) <= 1.5), name


def test_an_aircraft_is_seen_without_its_neighbours():
    rng = np.random.default_rng(7)
    first, second = (scenes.random_traffic(rng, SLOTS) for _ in range(2))
    mixed = jax.tree.map(lambda a, b: jnp.where(jnp.arange(SLOTS) == 2, a, b), first, second)
    alone, among = columns(first), columns(mixed)
    changed = 0
    for name in alone:
        np.testing.assert_array_equal(alone[name][2], among[name][2], err_msg=name)
        changed += not np.array_equal(alone[name], among[name])
    assert changed > 50  # the neighbours did change


def test_stacking_orders_by_name():
    named = {"b": jnp.ones(3), "a": jnp.zeros(3, bool), "c": jnp.full(3, 2.0)}
    for order in ("abc", "cab", "bca"):
        stacked = ft.stack_features({n: named[n] for n in order})
        assert stacked.dtype == jnp.float32
        np.testing.assert_array_equal(stacked, [[0, 1, 2]] * 3)


def test_the_next_fix_and_the_turn_towards_the_one_after():
    # Westbound 5 nm before the fix at (30, 0); the next one is straight on. Then heading north 1 nm
    # beside the last but one fix, after which the route goes west: a turn of 90 degrees.
    seen = columns(
        rated(
            SLOTS, x_nm=[35.0, 20.0], y_nm=[0.0, -2.0], leg=[0, 1], ground_speed_kt=300.0,
            heading_rad=[scenes.WEST, NORTH], target_heading_rad=[scenes.WEST, NORTH],
        )
    )  # fmt: skip
    np.testing.assert_allclose(seen["fix_distance_30"][:2], [5 / 30, 2 / 30], rtol=1e-6)
    np.testing.assert_allclose(seen["fix_distance_1"][:2], [1.5, 1.5])
    np.testing.assert_allclose(seen["fix_bearing_cos"][:2], [1, 1], atol=1e-6)
    np.testing.assert_allclose(seen["course_change_3"][:2], [0, np.pi / 2 / 3], atol=1e-6)
    # Straight on the gate is 0.5 nm; before a turn it is its radius times tan(45 degrees).
    radius = 300 / 3600 / np.deg2rad(3.0)
    seconds = [(5 - 0.5) / 300 * 3600, (2 - radius) / 300 * 3600]
    np.testing.assert_allclose(seen["fix_gate_s_300"][:2], np.asarray(seconds) / 300, rtol=1e-5)
    np.testing.assert_allclose(seen["fix_gate_s_5"][:2], [1.5, seconds[1] / 5], rtol=1e-4)
    assert not seen["fix_is_last"][:2].any()


def test_kinds_of_legs():
    arrival, vectored = scenes.ARRIVAL_ROUTE, scenes.VECTOR_ROUTE
    seen = columns(rated(SLOTS, route=[arrival, arrival, vectored, -1, vectored], leg=[2, 3, 0, -1, 1]))
    np.testing.assert_array_equal(seen["fix_exists"][:5], [True, False, True, False, True])
    np.testing.assert_array_equal(seen["fix_is_last"][:5], [True, False, False, False, True])
    np.testing.assert_array_equal(seen["fix_is_vector"][:5], [False, False, True, False, False])


def test_restrictions_say_how_much_time_is_left_to_meet_them():
    # 3,000 ft above a maximum 5 nm ahead: 1 min to go, 3,000 / (0.7 * 2,400) min needed.
    # 20 kt above a speed maximum 15 nm ahead: 180 s to go, 20 / 1.5 s needed.
    seen = columns(
        rated(SLOTS, x_nm=[35.0], y_nm=0.0, leg=0, altitude_ft=15000.0, ground_speed_kt=300.0, speed_kt=250.0)
    )
    slack = 1.0 - 3000 / (0.7 * 2400)
    np.testing.assert_allclose(seen["maximum_slack_min_5"][0], slack / 5, rtol=1e-5)
    np.testing.assert_allclose(seen["maximum_slack_min_0.2"][0], -1.5)
    np.testing.assert_allclose(seen["maximum_above_10000"][0], -0.3, rtol=1e-6)
    np.testing.assert_allclose(seen["speed_slack_s_200"][0], (180 - 20 / 1.5) / 200, rtol=1e-5)
    np.testing.assert_allclose(seen["speed_restriction_150"][0], -20 / 150, rtol=1e-5)
    assert seen["maximum_first"][0]  # leg 0 has a maximum, the first minimum is on leg 1
    assert not seen["maximum_later"][0]


def test_the_tower_lets_the_first_of_a_queue_go_at_its_distance():
    runways = tr.empty(tr.Runways, (3,)).replace(
        last_departure=jnp.asarray([7, -1, 8]),
        last_departure_class=jnp.asarray([3, 3, 1]),
        last_departure_distance_nm=jnp.asarray([1.3, -1.0, 0.9]),
        last_departure_on_ground=jnp.asarray([True, False, False]),
    )
    t = rated(
        SLOTS, phase=tr.WAITING, altitude_ft=2000.0, category=tr.DEPARTURE, runway_class=[3, 3, 3, 2],
        runway=[0, 0, 1, 2], queue_position=[0, 1, 0, 0],
    )  # fmt: skip
    seen = columns(t, runways=runways)
    np.testing.assert_array_equal(seen["first_in_queue"][:4], [True, False, True, True])
    np.testing.assert_array_equal(seen["runway_never_used"][:4], [False, False, True, False])
    np.testing.assert_array_equal(seen["last_on_ground"][:4], [True, False, False, False])
    # 6,000 ft behind class 3 and 4,500 ft for a class 2 behind a lighter one, both and 2,000 ft more.
    clear = [(1.3 * 6076.12 - 8000) / 1000, 0, 0, (0.9 * 6076.12 - 6500) / 1000]
    np.testing.assert_allclose(seen["runway_clear_1"][:4], np.clip(clear, -1.5, 1.5), atol=1e-4)


def test_a_waiting_departure_sees_how_fast_the_last_one_makes_way():
    runways = tr.empty(tr.Runways, (3,)).replace(
        last_departure=jnp.asarray([1, -1, -1]),
        last_departure_distance_nm=jnp.asarray([1.0, -1.0, -1.0]),
        last_departure_on_ground=jnp.asarray([True, False, False]),
        since_departure_s=jnp.asarray([24.0, -1.0, -1.0]),
    )
    t = rated(
        SLOTS, id=[0, 1], phase=[tr.WAITING, tr.TAKEOFF], category=tr.DEPARTURE, runway_class=3,
        runway=0, queue_position=[0, -1], ground_speed_kt=[0.0, 100.0], speed_kt=[0.0, 80.0],
        minimum_speed_kt=130.0,
    )  # fmt: skip
    seen = columns(t, runways=runways)
    seconds = (6076.12 - 8000) / (100 * 6076.12 / 3600)
    np.testing.assert_allclose(seen["runway_clear_s_10"][:2], [seconds / 10, 0], rtol=1e-5)
    np.testing.assert_allclose(seen["last_to_rotation_100"][:2], [0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(seen["since_departure_60"][:2], [0.4, 0], rtol=1e-6)


def test_wind_is_along_and_across_the_heading():
    t = rated(SLOTS, heading_rad=np.deg2rad([270.0, 90.0, 0.0]))
    seen = columns(t, wind_speed_kt=jnp.float32(10.0), wind_from_rad=jnp.float32(scenes.WEST))
    np.testing.assert_allclose(seen["headwind"][:3], [0.5, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(seen["crosswind"][:3], [0, 0, 0.5], atol=1e-6)
