"""What the expert reads back from an observation is what the observation was made from."""

import numpy as np
import pytest

import tests.wm.scenes as scenes
from rl.picture import picture
from tests.rl.acting import PLACE, SLOTS, observed
from wm.sector import approach
from wm.sector import traffic as tr

FLYING = {
    "x_nm": [22.0, -8.0, 4.0],
    "y_nm": [9.0, 3.0, -6.0],
    "altitude_ft": [9000.0, 4000.0, 3000.0],
    "heading_rad": [4.0, 0.3, 6.1],
    "ground_track_rad": [4.1, 0.2, 6.2],
    "runway": [scenes.RUNWAY_27L, scenes.RUNWAY_27R, scenes.RUNWAY_36],
    "category": [tr.ARRIVAL, tr.ARRIVAL, tr.DEPARTURE],
    "assigned_altitude_ft": [8000.0, 4000.0, 5000.0],
}

# Tolerances.
COURSE = {"x_nm": 1e-4, "y_nm": 1e-4, "sin": 1e-5, "cos": 1e-5, "elevation_ft": 0.1}
PLACES = {"cross_nm": 1e-4, "along_nm": 1e-4, "angle_rad": 1e-5, "track_angle_rad": 1e-5}
PLACES |= {"glideslope_ft": 0.1, "intercept_ft": 0.1}


@pytest.fixture(scope="module")
def both():
    traffic = scenes.traffic(SLOTS, **FLYING)
    return traffic, picture(observed(traffic))


def test_the_course_is_that_of_the_runway(both):
    traffic, seen = both
    course = approach.course(traffic, PLACE)
    for name, tolerance in COURSE.items():
        expected = getattr(course, name)[:3]
        np.testing.assert_allclose(getattr(seen.course, name)[:3], expected, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(seen.course.glide_ft_per_nm[:3], course.glide_ft_per_nm[:3], rtol=1e-6)
    assert seen.course.flown[:3].tolist() == [True, True, False]


def test_the_place_on_the_approach_is_the_aircrafts(both):
    traffic, seen = both
    place = approach.approach_of(traffic, PLACE)
    for name, tolerance in PLACES.items():
        expected = getattr(place, name)[:3]
        np.testing.assert_allclose(getattr(seen.approach, name)[:3], expected, atol=tolerance, err_msg=name)
    cross, along = approach.offset(seen.x, seen.y, seen.course)
    np.testing.assert_allclose(cross[:3], place.cross_nm[:3], atol=1e-4)
    np.testing.assert_allclose(along[:3], place.along_nm[:3], atol=1e-4)
