"""Airport tables: types, altitude levels, and that stacking airports changes nothing they mean."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector import airport as ap
from wm.sector import commands
from wm.sector import observe as ob
from wm.sector.airport import Airport
from wm.sector.route import next_fix

observe, select = jax.jit(ob.observe), jax.jit(ap.select)
legal_mask = jax.jit(commands.legal_mask)
COUNTS = ("runway_count", "airspace_vertices", "route_legs", "stream_count", "stream_category")
FLAGS = ("route_fly_over", "route_on_sid")


def runway(elevation_ft: float, glideslope_deg: float = 3.0) -> dict:
    return scenes.static()["runways"][0] | {
        "elevation_ft": elevation_ft,
        "glideslope_rad": np.deg2rad(glideslope_deg),
    }


@pytest.mark.parametrize("place", [scenes.airport(), scenes.larger_airport()])
def test_whole_numbers_of_the_page_become_real_numbers(place):
    for name, value in vars(place).items():
        kind = "i" if name in COUNTS or name.startswith("leg_of_") else "b" if name in FLAGS else "f"
        assert np.asarray(value).dtype.kind == kind, name
        assert np.asarray(value).dtype.itemsize <= 4, name


def test_tables_hold_what_the_page_says():
    place = scenes.airport()
    assert place.elevation_ft == 2000.0
    assert place.runway_count == 3
    np.testing.assert_allclose(place.runway_xy_nm, [(1, 0), (1, 1), (0, -1)])
    np.testing.assert_array_equal(place.route_legs, [3, 3, 2])
    np.testing.assert_allclose(place.route_xy_nm[scenes.ARRIVAL_ROUTE], [(30, 0), (20, 0), (10, 0)])
    np.testing.assert_allclose(place.route_altitude_ft[scenes.ARRIVAL_ROUTE, 1], (6000, 9000))
    np.testing.assert_allclose(place.route_speed_kt[scenes.ARRIVAL_ROUTE, 1], (-1, 230))
    np.testing.assert_allclose(place.route_vector_rad[scenes.VECTOR_ROUTE, :2], [2 * np.pi, -1], rtol=1e-6)
    np.testing.assert_array_equal(place.route_on_sid[scenes.SID_ROUTE], [True, True, False])
    np.testing.assert_array_equal(place.stream_category, [0, 1])
    np.testing.assert_allclose(place.stream_interval_s, [360.0, 300.0])
    np.testing.assert_allclose(place.stream_minimum_s, [5.5 / 280 * 3600, 0.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("elevation_ft", "glideslope_deg", "expected_ft"),
    [(2000, 3.0, 3600), (0, 3.0, 1600), (2078, 3.4, 3900), (5431, 3.0, 7100)],
)
def test_intercept_is_the_glideslope_five_miles_out_rounded_up(elevation_ft, glideslope_deg, expected_ft):
    rise_ft = np.tan(np.deg2rad(glideslope_deg)) * 5 * 1852 / 0.3048
    assert expected_ft - 100 < elevation_ft + rise_ft <= expected_ft  # the expected value itself, by hand
    assert ap.intercept_altitude_ft(runway(elevation_ft, glideslope_deg)) == expected_ft


FIELDS_FT = (-10, 0, 499, 2000, 5431, 8361)
CEILINGS_FT = (10000, 12999, 15000, 19000, 23500)


@pytest.mark.parametrize(("elevation_ft", "ceiling_ft"), list(itertools.product(FIELDS_FT, CEILINGS_FT)))
def test_levels_reach_from_the_lowest_to_the_ceiling(elevation_ft, ceiling_ft):
    lowest = int(np.ceil((elevation_ft + 1000) / 100) * 100)
    tables = scenes.static(
        elevation_ft=elevation_ft,
        min_altitude_ft=lowest,
        ceiling_ft=ceiling_ft,
        runways=[runway(elevation_ft)],
    )
    levels = ap.altitude_levels(tables)
    assert levels.shape == (ap.LEVELS,)
    assert np.all(np.diff(levels) >= 0)
    assert levels[0] == lowest
    assert levels[-1] == ceiling_ft
    assert ap.intercept_altitude_ft(runway(elevation_ft)) in levels
    assert np.all(levels % 100 == 0) or ceiling_ft % 100


def test_levels_of_the_main_airport():
    expected = [3000, 3600, 5000, 6000, 7000, 10000, 13000, 16000, 19000]
    np.testing.assert_array_equal(scenes.airport().levels_ft, expected)


def test_an_ils_can_be_met_at_one_level_of_each_runway():
    for place in (scenes.airport(), scenes.larger_airport()):
        assert np.all(np.max(place.levels_ft) >= place.runway_intercept_ft)


def assert_same_tree(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), first, second)


@pytest.mark.parametrize("seed", range(4))
def test_padding_changes_no_feature(seed):
    """A stacked airport must give the observation that it gives alone, whatever it is stacked with."""
    rng = np.random.default_rng(seed)
    small, large = scenes.airport(), scenes.larger_airport()
    stacked = ap.stack([small, large])
    aircraft = scenes.random_traffic(rng, 12)
    wind = {"wind_speed_kt": jnp.float32(14.0), "wind_from_rad": jnp.float32(2.0)}
    for i, place in enumerate((small, large)):
        alone = observe(scenes.scene(aircraft, place, **wind), place)
        chosen = select(stacked, i)
        among = observe(scenes.scene(aircraft, chosen, **wind), chosen)
        assert_same_tree(alone, among)


def test_stacking_keeps_types_and_values():
    small, large = scenes.airport(), scenes.larger_airport()
    for order in ([small, large], [large, small]):
        stacked = ap.stack(order)
        for i, place in enumerate(order):
            chosen = select(stacked, i)
            assert isinstance(chosen, Airport)
            for name in vars(place):
                original, padded = np.asarray(getattr(place, name)), np.asarray(getattr(chosen, name))
                assert padded.dtype == original.dtype, name
                inner = padded[tuple(slice(0, n) for n in original.shape)]
                np.testing.assert_array_equal(inner, original, err_msg=name)


def test_trimming_leaves_the_airspace_of_those_that_are_left():
    small, large = scenes.airport(), scenes.larger_airport()
    stacked = ap.stack([small, large])
    names = [name for name in vars(small) if name.startswith("airspace_")]
    assert any(getattr(small, n).shape != getattr(large, n).shape for n in names)
    for kept in ([0], [1], [0, 1]):
        trimmed = ap.trimmed(jax.tree.map(lambda x, kept=kept: x[jnp.asarray(kept)], stacked))
        expected = ap.stack([(small, large)[i] for i in kept])
        for name in vars(small):
            found, own = getattr(trimmed, name), getattr(expected if name in names else stacked, name)
            np.testing.assert_array_equal(found, own if name in names else own[np.asarray(kept)], name)
    x, y, altitude = np.random.default_rng(0).uniform([-60, -60, 0], [60, 60, 20_000], (500, 3)).T
    alone = select(ap.trimmed(jax.tree.map(lambda leaf: leaf[:1], stacked)), 0)
    margins = [ap.airspace_margin_nm(x, y, altitude, place) for place in (alone, select(stacked, 0))]
    np.testing.assert_array_equal(*margins)


def test_select_works_on_a_traced_index():
    stacked = ap.stack([scenes.airport(), scenes.larger_airport()])
    elevations = jax.vmap(lambda i: select(stacked, i).elevation_ft)(jnp.asarray([1, 0, 1]))
    np.testing.assert_array_equal(elevations, [130.5, 2000.0, 130.5])


def test_padding_adds_no_legal_action():
    small, large = scenes.airport(), scenes.larger_airport()
    chosen = select(ap.stack([small, large]), 0)
    past_the_end = scenes.traffic(4, leg=[2, 3, 7, 8], route=[0, 0, 0, 2])
    assert_same_tree(legal_mask(past_the_end, small), legal_mask(past_the_end, chosen))
    np.testing.assert_array_equal(next_fix(past_the_end, chosen), [2, -1, -1, -1])
