"""Observation: shapes, scales, symmetries, and single features worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector import observe as ob
from wm.sector import traffic as tr
from wm.sector.airport import airspace_margin_nm

PLACE = scenes.airport()
SLOTS = 12
observe = jax.jit(ob.observe)


def random_scene(seed: int, slots: int = SLOTS) -> tr.Scene:
    rng = np.random.default_rng(seed)
    return scenes.scene(
        scenes.random_traffic(rng, slots),
        PLACE,
        wind_speed_kt=jnp.float32(rng.uniform(0, 25)),
        wind_from_rad=jnp.float32(rng.uniform(0, 2 * np.pi)),
        time_s=jnp.float32(rng.uniform(0, 9000)),
    )


def few(**columns) -> tr.Traffic:
    """The aircraft that the lists give, among as many slots as everywhere here: observing compiles once."""
    return scenes.traffic(SLOTS, **columns)


def features(aircraft: tr.Traffic) -> dict[str, np.ndarray]:
    """Every feature of the aircraft in its unit, read back from an observation, one entry per aircraft."""
    seen = np.asarray(observe(scenes.scene(aircraft, PLACE), PLACE)["aircraft"])[np.asarray(aircraft.valid)]
    return {name: np.asarray(ob.read(jnp.asarray(seen), name)) for name in ob.FEATURES}


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_shapes_and_types():
    seen = observe(random_scene(0), PLACE)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype.name), seen)
    assert shapes == {
        "aircraft": ((SLOTS, len(ob.FEATURES)), "float32"),
        "aircraft_mask": ((SLOTS,), "bool"),
        "global_state": ((len(ob.GLOBAL_FEATURES),), "float32"),
        "action_mask": {
            "aircraft": ((SLOTS + 1,), "bool"),
            "verb": ((SLOTS, 5), "bool"),
            "altitude": ((SLOTS, 9), "bool"),
            "heading": ((SLOTS, 7), "bool"),
            "speed": ((SLOTS, 4), "bool"),
        },
    }


def test_every_scale_belongs_to_a_column():
    columns = jax.eval_shape(ob.aircraft_features, random_scene(0), PLACE)
    assert set(columns) >= set(ob.FEATURES)
    assert len(set(ob.FEATURES)) == len(ob.FEATURES)


def test_an_empty_sky_is_zeros_and_the_noop():
    seen = observe(scenes.scene(tr.empty(tr.Traffic, (SLOTS,)), PLACE), PLACE)
    assert not np.asarray(seen["aircraft"]).any()
    assert not np.asarray(seen["aircraft_mask"]).any()
    assert np.flatnonzero(seen["action_mask"]["aircraft"]).tolist() == [SLOTS]
    assert np.isfinite(seen["global_state"]).all()


def test_values_are_finite_and_of_order_one():
    columns = []
    for seed in range(30):
        seen = observe(random_scene(seed), PLACE)
        assert all(np.isfinite(leaf).all() for leaf in leaves(seen))
        columns.append(np.asarray(seen["aircraft"])[np.asarray(seen["aircraft_mask"])])
        assert np.abs(seen["global_state"]).max() < 5
    columns = np.concatenate(columns)
    assert np.abs(columns).max() <= 10.0
    for name, size in zip(ob.FEATURES, np.sqrt(np.mean(columns**2, 0)), strict=True):
        assert 0.03 < size < 8 or name == "autopilot", (name, size)


@pytest.mark.parametrize("seed", range(3))
def test_padding_is_zero_and_cannot_be_addressed(seed):
    scene = random_scene(seed)
    seen, empty = observe(scene, PLACE), ~np.asarray(scene.traffic.valid)
    assert empty.any()
    assert not np.asarray(seen["aircraft"])[empty].any()
    for name in ("verb", "altitude", "heading", "speed"):
        assert not np.asarray(seen["action_mask"][name])[empty].any(), name


def test_what_lies_in_an_empty_slot_is_not_seen():
    scene = random_scene(1)
    valid = scene.traffic.valid
    junk = scenes.random_traffic(np.random.default_rng(99), SLOTS)
    dirty = jax.tree.map(lambda a, b: jnp.where(valid, a, b), scene.traffic, junk).replace(valid=valid)
    for clean, soiled in zip(
        leaves(observe(scene, PLACE)), leaves(observe(scene.replace(traffic=dirty), PLACE)), strict=True
    ):
        np.testing.assert_array_equal(clean, soiled)


@pytest.mark.parametrize("seed", range(4))
def test_slots_have_no_meaning(seed):
    scene = random_scene(seed)
    order = np.random.default_rng(seed + 50).permutation(SLOTS)
    shuffled = scene.replace(traffic=jax.tree.map(lambda x: x[order], scene.traffic))
    first, second = observe(scene, PLACE), observe(shuffled, PLACE)
    masks, others = first["action_mask"], second["action_mask"]
    np.testing.assert_allclose(first["aircraft"][order], second["aircraft"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first["aircraft_mask"][order], second["aircraft_mask"])
    np.testing.assert_array_equal(first["global_state"], second["global_state"])
    np.testing.assert_array_equal(masks["aircraft"][np.append(order, SLOTS)], others["aircraft"])
    for name in ("verb", "altitude", "heading", "speed"):
        np.testing.assert_array_equal(masks[name][order], others[name], err_msg=name)
    matrix, other = ob.conflict_matrix(scene), ob.conflict_matrix(shuffled)
    np.testing.assert_array_equal(matrix[order][:, order], other)


def test_read_gives_a_column_back_in_its_unit():
    scene = random_scene(2)
    seen, valid = observe(scene, PLACE), np.asarray(scene.traffic.valid)
    plain = [n for n in ob.FEATURES if n in tr.schema(tr.Traffic)]
    assert {"x_nm", "altitude_ft", "climb_fpm", "queue_position"} <= set(plain)
    for name in plain:
        expected = np.asarray(getattr(scene.traffic, name), np.float32)[valid]
        if name.startswith("assigned"):
            expected = np.maximum(expected, 0.0)
        if name == "since_phase_s":
            expected = np.minimum(expected, 3600.0)
        np.testing.assert_allclose(ob.read(seen["aircraft"], name)[valid], expected, rtol=1e-6, err_msg=name)
    for name in ("elevation_ft", "ceiling_ft", "minimum_altitude_ft", "radius_nm"):
        assert ob.read_global(seen["global_state"], name) == pytest.approx(float(getattr(PLACE, name)))
    levels = [ob.read_global(seen["global_state"], f"level_{i}_ft") for i in range(9)]
    np.testing.assert_allclose(levels, PLACE.levels_ft, rtol=1e-6)


def test_every_field_that_says_so_is_observed():
    """A change of an observed field changes the observation; one of an unobserved field does not."""
    values = {"bool": False, "int32": 1, "float32": 0.7}
    base = {"valid": True, "runway": 0, "route": 0, "queue_position": 3, "category": 0, "phase": 7}
    aircraft = few(x_nm=[5.0, 25.0], heading_mode=[tr.HEADING_LNAV, tr.MODE_HOLD], **base)
    before = observe(scenes.scene(aircraft, PLACE), PLACE)
    exempt = {"valid", "route"}  # a route is seen by its fixes, not by its number
    for name, spec in tr.schema(tr.Traffic).items():
        old = getattr(aircraft, name)
        new = ~old if spec["dtype"] == "bool" else old + jnp.asarray(values[spec["dtype"]], old.dtype)
        after = observe(scenes.scene(aircraft.replace(**{name: new}), PLACE), PLACE)
        same = all(map(np.array_equal, leaves(before), leaves(after)))
        if name not in exempt:
            assert same != spec["observed"], name


def test_elapsed_time_and_stream_clocks_cannot_be_seen():
    scene = random_scene(3)
    later = scene.replace(time_s=scene.time_s + 1234.5, since_spawn_s=scene.since_spawn_s + 77.0)
    for now, then in zip(leaves(observe(scene, PLACE)), leaves(observe(later, PLACE)), strict=True):
        np.testing.assert_array_equal(now, then)


def test_leading_dimensions_are_batches():
    several = [random_scene(seed) for seed in range(4)]
    batch = jax.tree.map(lambda *xs: jnp.stack(xs), *several)
    square = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batch)
    mapped = jax.jit(jax.vmap(ob.observe, (0, None)))(batch, PLACE)
    led = observe(square, PLACE)
    for i, scene in enumerate(several):
        for alone, one, other in zip(*map(leaves, (observe(scene, PLACE), mapped, led)), strict=True):
            np.testing.assert_allclose(alone, one[i], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(alone, other[i // 2, i % 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ob.conflict_matrix(batch)[1], ob.conflict_matrix(several[1]))


def test_codes_are_one_hot():
    aircraft = few(category=[0, 1], phase=[tr.APPROACH, tr.TAXI], speed_mode=tr.SPEED_N1)
    seen = features(aircraft)
    np.testing.assert_array_equal(seen["category_arrival"], [1, 0])
    np.testing.assert_array_equal(seen["phase_approach"], [1, 0])
    np.testing.assert_array_equal(seen["phase_taxi"], [0, 1])
    for prefix, names in (("category", tr.CATEGORIES), ("phase", tr.PHASES), ("speed_mode", tr.SPEED_MODES)):
        total = sum(seen[f"{prefix}_{n.lower()}"] for n in names)
        np.testing.assert_array_equal(total, [1, 1], err_msg=prefix)


def test_runway_and_panel_features_by_hand():
    aircraft = few(
        x_nm=[11.0],
        y_nm=2.0,
        altitude_ft=6000.0,
        heading_rad=np.deg2rad(240.0),
        heading_mode=tr.MODE_HOLD,
        assigned_heading_rad=np.deg2rad(270.0),
        target_heading_rad=np.deg2rad(270.0),
        assigned_altitude_ft=4000.0,
        target_altitude_ft=4000.0,
        target_speed_kt=210.0,
    )
    seen = {name: value[0] for name, value in features(aircraft).items()}
    assert seen["runway_along_nm"] == pytest.approx(10.0, abs=1e-3)
    assert seen["runway_cross_nm"] == pytest.approx(2.0, abs=1e-3)
    assert seen["runway_angle_sin"] == pytest.approx(
        -0.5, abs=1e-4
    )  # 30 degrees left of the runway's heading
    glideslope_ft = 2000.0 + np.tan(np.deg2rad(3.0)) * 10 * 1852 / 0.3048
    assert seen["above_glideslope_ft"] == pytest.approx(6000.0 - glideslope_ft, abs=1.0)
    assert seen["above_field_ft"] == pytest.approx(4000.0)
    assert seen["intercept_margin_ft"] == pytest.approx(400.0)
    assert seen["assigned_turn_sin"] == pytest.approx(0.5, abs=1e-4)
    assert seen["target_turn_cos"] == pytest.approx(np.cos(np.pi / 6), abs=1e-4)
    assert seen["target_climb_ft"] == pytest.approx(-2000.0)
    assert seen["target_acceleration_kt"] == pytest.approx(-40.0)


def test_an_assigned_heading_is_seen_only_while_it_is_held():
    aircraft = few(assigned_heading_rad=1.0, heading_mode=[tr.HEADING_LNAV, tr.MODE_HOLD])
    seen = features(aircraft)
    assert seen["assigned_turn_sin"][0] == seen["assigned_turn_cos"][0] == 0.0
    assert seen["assigned_turn_sin"][1] != 0.0


def test_route_features_by_hand():
    aircraft = few(
        x_nm=[40.0, 20.0, 10.0, 0.0],
        y_nm=[0.0, 3.0, 4.0, 0.0],
        heading_rad=np.deg2rad(270.0),
        route=[scenes.ARRIVAL_ROUTE] * 3 + [scenes.VECTOR_ROUTE],
        leg=[0, 1, 3, 0],
    )
    seen = features(aircraft)
    np.testing.assert_allclose(seen["fix_distance_nm"], [10, 3, 0, 0], atol=1e-3)
    np.testing.assert_allclose(seen["fix_bearing_sin"], [0, -1, 0, 1], atol=1e-5)  # left of west is south
    np.testing.assert_allclose(seen["fix_bearing_cos"], [1, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(seen["following_distance_nm"], [20, np.hypot(10, 3), 0, 20], atol=1e-3)
    np.testing.assert_allclose(seen["route_left_nm"], [30, 13, 0, 0], atol=1e-3)
    np.testing.assert_array_equal(seen["fixes_left"], [3, 2, 0, 2])
    np.testing.assert_allclose(seen["fix_altitude_max_ft"], [12000, 9000, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(seen["fix_has_altitude_max"], [1, 1, 0, 0])
    np.testing.assert_allclose(seen["fix_altitude_min_ft"], [0, 6000, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(seen["fix_has_altitude_min"], [0, 1, 0, 0])
    np.testing.assert_allclose(seen["fix_speed_max_kt"], [0, 230, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(seen["fix_has_speed_max"], [0, 1, 0, 0])


def test_the_nearest_neighbour_by_hand():
    """Two aircraft head-on at 240 kt 10 nm apart and 1 nm abeam, one far below, one on the ground."""
    aircraft = few(
        x_nm=[0.0, 10.0, 0.0, 1.0],
        y_nm=[0.0, 1.0, 0.5, 0.0],
        altitude_ft=[10000.0, 10500.0, 2500.0, 2000.0],
        heading_rad=np.deg2rad([90.0, 270.0, 90.0, 270.0]),
        ground_track_rad=np.deg2rad([90.0, 270.0, 90.0, 270.0]),
        ground_speed_kt=[240.0, 240.0, 240.0, 0.0],
        phase=[tr.DESCENT, tr.DESCENT, tr.DESCENT, tr.WAITING],
    )
    seen = features(aircraft)
    assert seen["nearest_distance_nm"][0] == pytest.approx(np.hypot(10, 1), abs=1e-4)
    assert seen["nearest_above_ft"][0] == pytest.approx(500.0, abs=0.1)
    assert seen["nearest_closest_nm"][0] == pytest.approx(1.0, abs=1e-3)
    assert seen["nearest_closest_s"][0] == pytest.approx(10 / 480 * 3600, abs=0.01)
    assert seen["nearest_bearing_sin"][0] == pytest.approx(
        -1 / np.hypot(10, 1), abs=1e-4
    )  # north: to the left
    assert seen["nearest_above_ft"][1] == pytest.approx(-500.0, abs=0.1)
    assert seen["nearest_distance_nm"][3] == ob.FAR_NM  # on the ground: nobody near


def test_closest_approach_looks_two_minutes_ahead():
    courses = np.deg2rad([90.0, 270.0])
    moving = {"heading_rad": courses, "ground_track_rad": courses, "ground_speed_kt": 300.0}
    meeting = features(few(x_nm=[0.0, 40.0], **moving))
    np.testing.assert_allclose(meeting["nearest_closest_s"], 120.0)
    np.testing.assert_allclose(meeting["nearest_closest_nm"], 40 - 600 * 120 / 3600, rtol=1e-5)
    parting = features(few(x_nm=[40.0, 0.0], **moving))
    np.testing.assert_allclose(parting["nearest_closest_s"], 0.0)
    np.testing.assert_allclose(parting["nearest_closest_nm"], 40.0)


def test_airspace_margins_by_hand():
    aircraft = few(
        x_nm=[40.0, 0.0, 53.0, 40.0],
        y_nm=[0.0, 0.0, 54.0, 0.0],
        altitude_ft=[9000.0, 0.0, 9000.0, 19001.0],
    )
    margins = features(aircraft)["airspace_margin_nm"]
    np.testing.assert_allclose(margins, [10, 50, -5, -10], atol=1e-3)  # the last one is above the ceiling


def test_a_point_in_one_of_several_volumes_is_inside():
    place = scenes.larger_airport()
    margins = jax.jit(airspace_margin_nm)(
        jnp.asarray([0.0, 0.0, 0.0]), jnp.zeros(3), jnp.asarray([500.0, 1500.0, 15001.0]), place
    )
    assert (np.asarray(margins) > 0).tolist() == [True, True, False]


def test_wind_is_given_by_where_it_blows_to():
    wind = {"wind_speed_kt": jnp.float32(20.0), "wind_from_rad": jnp.float32(np.deg2rad(270.0))}
    seen = observe(scenes.scene(few(id=[1, 2]), PLACE, **wind), PLACE)["global_state"]
    assert ob.read_global(seen, "wind_east_kt") == pytest.approx(20.0, abs=1e-3)
    assert ob.read_global(seen, "wind_north_kt") == pytest.approx(0.0, abs=1e-3)


def test_counts_of_traffic():
    aircraft = few(
        category=[0, 0, 1, 1, 1],
        phase=[tr.DESCENT, tr.CRUISE, tr.WAITING, tr.TAKEOFF, tr.CLIMB],
    )
    seen = observe(scenes.scene(aircraft, PLACE), PLACE)["global_state"]
    counts = [float(ob.read_global(seen, name)) for name in ("arrivals", "departures", "waiting")]
    assert counts == [2, 2, 1]


def test_conflict_matrix_by_hand():
    aircraft = few(
        x_nm=[0.0, 2.9, 6.8, 0.0, 0.0],
        altitude_ft=[10000.0, 10999.0, 10500.0, 11000.0, 10000.0],
        phase=[tr.DESCENT, tr.DESCENT, tr.DESCENT, tr.DESCENT, tr.WAITING],
    )
    matrix = np.asarray(ob.conflict_matrix(scenes.scene(aircraft, PLACE)))
    expected = np.zeros((SLOTS, SLOTS))
    expected[0, 1] = expected[1, 3] = 1.0
    expected[1, 2] = 0.5
    np.testing.assert_array_equal(matrix, expected + expected.T)
