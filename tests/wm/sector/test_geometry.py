"""Geometry against independent float64 re-derivations of the game's sphere, runway offsets and polygons."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from wm.sector import approach, geometry

GAME_POSITION_RADIUS_NM = 6371.0 / 1.852  # relativePosition measures on this sphere,
GAME_FLIGHT_RADIUS_NM = 3440.0  # setCoordinatesByBearingAndDistance flies on this one
true_bearing_to = jax.jit(geometry.true_bearing_to)
wrap_2pi, wrap_pi = jax.jit(geometry.wrap_2pi), jax.jit(geometry.wrap_pi)
polygon_distance = jax.jit(geometry.signed_distance_to_polygon)


@jax.jit
def plane_step(track, distance, scale, magnetic_north):
    """Displacement of a flight of `distance` along a magnetic track."""
    east, north = distance * jnp.sin(track), distance * jnp.cos(track)
    return geometry.plane_displacement(east, north, scale, magnetic_north)


angles = st.floats(-10.0, 10.0, width=32, allow_subnormal=False)


def haversine_nm(latitude_1, longitude_1, latitude_2, longitude_2):
    half = (
        np.sin((latitude_2 - latitude_1) / 2) ** 2
        + np.cos(latitude_1) * np.cos(latitude_2) * np.sin((longitude_2 - longitude_1) / 2) ** 2
    )
    return GAME_POSITION_RADIUS_NM * 2 * np.arctan2(np.sqrt(half), np.sqrt(1 - half))


def game_position(latitude, longitude, reference, magnetic_north):
    """The game's plane position: haversines along the reference's parallel and meridian, then rotated."""
    x = haversine_nm(reference, 0.0, reference, longitude) * np.where(longitude < 0, -1, 1)
    y = haversine_nm(reference, 0.0, latitude, 0.0) * np.where(latitude < reference, -1, 1)
    turned = np.arctan2(y, x) + magnetic_north
    return np.hypot(x, y) * np.cos(turned), np.hypot(x, y) * np.sin(turned)


def game_flight(latitude, longitude, magnetic_track, distance_nm, magnetic_north):
    """Where the game puts an aircraft after flying a distance along a magnetic track."""
    true, arc = magnetic_track + magnetic_north, distance_nm / GAME_FLIGHT_RADIUS_NM
    end = np.arcsin(np.sin(latitude) * np.cos(arc) + np.cos(latitude) * np.sin(arc) * np.cos(true))
    east = np.sin(true) * np.sin(arc) * np.cos(latitude)
    return end, longitude + np.arctan2(east, np.cos(arc) - np.sin(latitude) * np.sin(end))


@settings(deadline=None)  # the first example compiles
@given(angles)
def test_wrapped_angles_are_the_same_direction_in_their_range(angle):
    full, half = float(wrap_2pi(angle)), float(wrap_pi(angle))
    assert 0.0 <= full <= np.float32(2 * np.pi)
    assert -np.float32(np.pi) <= half <= np.float32(np.pi)
    for wrapped in (full, half):
        assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=3e-6)
        assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=3e-6)


COMPASS = [(0, 1, 0), (1, 0, 90), (0, -1, 180), (-1, 0, 270), (1, 1, 45)]


@pytest.mark.parametrize(("dx", "dy", "degrees"), COMPASS)
def test_bearings_are_clockwise_from_north(dx, dy, degrees):
    assert np.rad2deg(geometry.bearing(dx, dy)) == pytest.approx(degrees, abs=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    track=st.floats(0.0, 6.28),
    distance=st.floats(0.5, 120.0),
    latitude=st.floats(-0.9, 0.9),
    magnetic_north=st.floats(-0.6, 0.6),
)
def test_the_bearing_to_a_place_is_that_of_the_great_circle(track, distance, latitude, magnetic_north):
    begin = game_flight(latitude, 0.0, track, 20.0, magnetic_north)
    end = game_flight(*begin, track + 1.0, distance, magnetic_north)
    x, y = game_position(*begin, latitude, magnetic_north)
    to_x, to_y = game_position(*end, latitude, magnetic_north)
    found = true_bearing_to(x, y, to_x - x, to_y - y, latitude, magnetic_north)
    # game_position keeps the east scale of the airport's parallel, as the game does: both sides know it.
    assert abs(float(wrap_pi(found - track - 1.0))) < 2e-4


@pytest.mark.parametrize("magnetic_north_deg", [-18.0, 0.0, 12.0])
@pytest.mark.parametrize("latitude_deg", [-34.0, 1.0, 36.0, 52.0])
def test_flights_of_sixty_miles_end_where_the_game_puts_them(latitude_deg, magnetic_north_deg):
    reference, magnetic_north = np.deg2rad(latitude_deg), np.deg2rad(magnetic_north_deg)
    track = np.linspace(0.0, 2 * np.pi, 12, endpoint=False)
    step, steps = 0.1, 600
    latitude, longitude = np.full_like(track, reference), np.zeros_like(track)
    for _ in range(steps):
        latitude, longitude = game_flight(latitude, longitude, track, step, magnetic_north)

    def fly(xy, _):
        scale = geometry.east_scale(*xy, reference, magnetic_north)
        dx, dy = plane_step(jnp.asarray(track, jnp.float32), step, scale, magnetic_north)
        return (xy[0] + dx, xy[1] + dy), None

    start = jnp.zeros(track.shape, jnp.float32)
    (x, y), _ = jax.lax.scan(fly, (start, start), length=steps)
    expected_x, expected_y = game_position(latitude, longitude, reference, magnetic_north)
    error = np.hypot(np.asarray(x, np.float64) - expected_x, np.asarray(y, np.float64) - expected_y)
    assert np.max(np.hypot(expected_x, expected_y)) > 59.0
    assert error.max() < 0.02


@pytest.mark.parametrize("latitude_deg", [-34.0, 36.0, 52.0])
def test_the_east_scale_is_needed_sixty_miles_north(latitude_deg):
    reference = np.deg2rad(latitude_deg)
    start = game_flight(reference, 0.0, 0.0, 60.0, 0.0)
    end = game_flight(*start, np.pi / 2, 20.0, 0.0)
    flown = game_position(*end, reference, 0.0)[0] - game_position(*start, reference, 0.0)[0]
    scale = float(geometry.east_scale(0.0, 60.0, reference, 0.0))
    assert abs(20.0 * scale - flown) < 0.01
    assert abs(20.0 - flown) > 0.15


def offset_from(x_nm, y_nm, runway_x_nm, runway_y_nm, heading_rad):
    """(cross, along) of positions from a runway that lies anywhere."""
    way = approach.Course(
        runway_x_nm, runway_y_nm, heading_rad, jnp.sin(heading_rad), jnp.cos(heading_rad), 0.0, 0.0, True
    )
    return approach.offset(x_nm, y_nm, way)


def test_runway_offsets_are_the_games():
    rng = np.random.default_rng(1)
    aircraft, runway = rng.uniform(-60, 60, (2, 500, 2))
    heading = rng.uniform(0.01, 2 * np.pi, 500)
    cross, along = offset_from(*aircraft.T, *runway.T, heading)
    to_runway = runway - aircraft
    length, toward = np.hypot(*to_runway.T), np.arctan2(*to_runway.T)
    np.testing.assert_allclose(cross, length * np.sin(heading - toward), atol=1e-4)
    np.testing.assert_allclose(along, length * np.cos(heading - toward), atol=1e-4)


def test_runway_offsets_by_hand():
    cross, along = offset_from(11.0, 2.0, 1.0, 0.0, np.deg2rad(270.0))
    assert along == pytest.approx(10.0, abs=1e-5)  # ten miles east of a westerly runway: before the threshold
    assert cross == pytest.approx(2.0, abs=1e-5)  # north of it: to the right when flying west


SHAPES = {
    "triangle": [(0, 0), (10, 0), (3, 8)],
    "square": [(-5, -5), (5, -5), (5, 5), (-5, 5)],
    "clockwise": [(-5, 5), (5, 5), (5, -5), (-5, -5)],
    "notched": [(0, 0), (12, 0), (12, 12), (6, 3), (0, 12)],
    "repeated vertex": [(0, 0), (10, 0), (10, 0), (10, 10), (0, 10)],
}


def sampled_distance(points, vertices, per_edge=500):
    """Distance to the nearest of many points on the boundary; at most half a sample too far."""
    ends = np.roll(vertices, -1, axis=0)
    fraction = np.linspace(0, 1, per_edge)[:, None, None]
    boundary = (vertices + fraction * (ends - vertices)).reshape(-1, 2)
    return np.min(np.hypot(*(points[:, None] - boundary[None]).transpose(2, 0, 1)), axis=1)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", SHAPES)
def test_polygons_against_matplotlib_and_sampling(name, padding):
    vertices = np.asarray(SHAPES[name], np.float64)
    padded = np.concatenate([vertices, np.full((padding, 2), 77.0)])
    points = np.random.default_rng(2).uniform(-15, 20, (120, 2))
    points = np.concatenate([points, vertices + 1e-3, [(2.0, 0.001), (2.0, -0.001)]])
    signed = polygon_distance(
        *jnp.asarray(points, jnp.float32).T, jnp.asarray(padded, jnp.float32), len(vertices)
    )
    distance = sampled_distance(points, vertices)
    np.testing.assert_allclose(np.abs(signed), distance, atol=0.02)
    clear = distance > 1e-4
    inside = Path(vertices).contains_points(points)
    np.testing.assert_array_equal(np.asarray(signed > 0)[clear], inside[clear])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_polygon_without_area_contains_nothing(count):
    polygon = jnp.asarray([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0)])
    x, y = jnp.asarray([1.0, 3.0]), jnp.asarray([0.5, 1.0])
    signed = polygon_distance(x, y, polygon, count)
    assert np.all(np.asarray(signed) <= 0)
    assert np.all(np.isneginf(signed)) == (count == 0)
