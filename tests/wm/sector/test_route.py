"""Routes: the next fix, the restrictions ahead, looked up and worked out by hand."""

import jax
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector.route import restrictions

PLACE = scenes.airport()


@pytest.mark.parametrize("place", [PLACE, scenes.larger_airport()])
def test_restriction_table_is_the_first_restricted_leg_from_each_leg_on(place):
    legs = {
        "maximum": np.asarray(place.leg_of_maximum),
        "minimum": np.asarray(place.leg_of_minimum),
        "speed": np.asarray(place.leg_of_speed),
    }
    tables = {
        "maximum": np.asarray(place.route_altitude_ft)[..., 1],
        "minimum": np.asarray(place.route_altitude_ft)[..., 0],
        "speed": np.asarray(place.route_speed_kt)[..., 1],
    }
    seen = set()
    for name, table in tables.items():
        for route, used in enumerate(np.asarray(place.route_legs)):
            for leg in range(table.shape[1]):
                later = [k for k in range(leg, used) if table[route, k] >= 0]
                assert legs[name][route, leg] == (later[0] if later else -1), (name, route, leg)
                seen.add(bool(later))
    assert seen == {True, False}


def test_restrictions_give_the_value_and_distance_of_that_leg():
    t = scenes.traffic(3, x_nm=[35.0, 25.0, 12.0], y_nm=[0.0, 3.0, 4.0], leg=[0, 1, 2])
    asked = jax.tree.map(np.asarray, restrictions(t, PLACE))
    # Fixes at x = 30 (at most 12,000 ft), 20 (6,000 to 9,000 ft, 230 kt) and 10 (nothing).
    np.testing.assert_array_equal(asked["maximum"].exists, [True, True, False])
    np.testing.assert_allclose(asked["maximum"].value[:2], [12000, 9000])
    np.testing.assert_allclose(asked["maximum"].distance_nm[:2], [5, np.hypot(5, 3)], rtol=1e-6)
    np.testing.assert_allclose(asked["minimum"].distance_nm[0], 15, rtol=1e-6)
    np.testing.assert_allclose(asked["speed"].value[:2], [230, 230])
