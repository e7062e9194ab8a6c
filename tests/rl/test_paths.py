"""Shortest paths to the final: lengths known by hand, mirror images, what a short final costs."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl import paths

# No subnormal numbers: compiled code may read them as zero, where a path has no course.
NM, ANGLE = (st.floats(-most, most, width=32, allow_subnormal=False) for most in (30, 3.125))
STRAIGHT_AHEAD = [(10.0, 0.0, 0.0, 0.0, 10.0), (0.0, 2.0, 0.0, np.pi, np.pi), (0.0, -2.0, 0.0, np.pi, np.pi)]


@pytest.mark.parametrize(("forward", "right", "start", "end", "length"), STRAIGHT_AHEAD)
def test_shortest_path_of_a_line_and_of_half_circles(forward, right, start, end, length):
    assert paths.dubins_nm(forward, right, start, end, 1.0) == pytest.approx(length, abs=1e-5)


@given(NM, NM, ANGLE, ANGLE)
@settings(max_examples=60, deadline=None)
def test_shortest_path_is_no_shorter_than_the_straight_line(forward, right, start, end):
    length = float(paths.dubins_nm(forward, right, start, end, 1.2))
    assert length >= np.hypot(forward, right) - 3 * 1.2 * paths.SLACK_RAD - 1e-3
    back = float(paths.dubins_nm(forward, -right, -start, -end, 1.2))  # mirrored
    assert back == pytest.approx(length, abs=1.2 * 3 * paths.SLACK_RAD + 1e-3)


def test_distance_to_go_is_the_way_in_from_the_centreline():
    to_go, priced = paths.distance_to_go_nm(*(jnp.float32(v) for v in (-30.0, 0.0, 0.0, 200.0)))
    assert 30.0 <= to_go <= priced <= 30.0 + paths.STRAIGHT_IN_NM + 1e-3
    other_way, _ = paths.distance_to_go_nm(*(jnp.float32(v) for v in (-30.0, 0.0, np.pi, 200.0)))
    assert other_way > to_go + 3.0


def test_what_a_short_final_costs_is_not_flown():
    to_go, priced = paths.distance_to_go_nm(*(jnp.float32(v) for v in (-9.0, 0.0, 0.0, 180.0)))
    assert to_go == pytest.approx(9.0, abs=0.3)
    expected = to_go + (paths.SHORT_FINAL_NM * (paths.WANTED_STRAIGHT_NM - 9.0) + paths.STRAIGHT_IN_NM)
    assert priced == pytest.approx(float(expected), abs=1e-3)
