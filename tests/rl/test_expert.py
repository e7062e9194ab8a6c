"""The expert's reactions on scenes built by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rl import expert, sequence
from rl.conflicts import severity
from rl.lookahead import fly
from rl.picture import picture
from tests.rl.acting import PLACE, SLOTS, one, play, verb_of
from wm.sector import traffic as tr
from wm.sector.commands import ALTITUDE, DIRECT, HEADING, ILS

LEVELS_FT = np.asarray(PLACE.levels_ft)
WEST_DEG = 270.0


def test_expert_descends_an_arrival_that_is_high():
    action, _ = play(
        "expert",
        one(
            x_nm=22.0,
            y_nm=9.0,
            altitude_ft=12000.0,
            speed_kt=180.0,
            speed_mode=tr.MODE_HOLD,
            assigned_speed_kt=180.0,
        ),
    )
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] < 9000.0


INTERCEPT = {
    "x_nm": 13.0,
    "y_nm": -1.5,  # left of a westerly runway's centreline, met from there on a north-westerly heading
    "altitude_ft": 3600.0,
    "assigned_altitude_ft": 3600.0,
    "heading_rad": np.deg2rad(WEST_DEG + 30.0),
    "heading_mode": tr.MODE_HOLD,
    "speed_kt": 180.0,
    "speed_mode": tr.MODE_HOLD,
    "assigned_speed_kt": 180.0,
}


def test_expert_clears_the_approach_in_the_window():
    action, _ = play("expert", one(**INTERCEPT))
    assert np.asarray(action)[:2].tolist() == [0, ILS]


@pytest.mark.parametrize(
    "change",
    [
        {"altitude_ft": 9000.0, "assigned_altitude_ft": 9000.0},  # would meet the glideslope from above
        {"heading_rad": np.deg2rad(WEST_DEG - 30.0)},  # flies away from the localiser
        {"x_nm": 5.0},  # too close to settle before the final approach fix
    ],
)
def test_expert_does_not_clear_an_approach_that_would_fail(change):
    assert verb_of(play("expert", one(**(INTERCEPT | change)))[0]) != ILS


@pytest.mark.parametrize(("other_nm", "verb"), [(14.5, HEADING), (20.0, ILS)])
def test_expert_clears_no_approach_beside_one_under_way(other_nm, verb):
    pair = INTERCEPT | {
        "x_nm": [13.0, other_nm],
        "y_nm": [-1.5, 0.0],
        "altitude_ft": [3600.0, 2600.0],
        "assigned_altitude_ft": [3600.0, 2600.0],
        "heading_rad": np.deg2rad([WEST_DEG + 30.0, WEST_DEG]),
        "heading_mode": [tr.MODE_HOLD, tr.HEADING_LOCALIZER],
        "approach_clearance": [False, True],
        "phase": tr.DESCENT,
    }
    assert verb_of(play("expert", one(**pair))[0]) == verb


@pytest.mark.parametrize(("others", "turns"), [(0, True), (1, False)])
def test_expert_lets_an_arrival_that_has_to_wait_fly_on(others, turns):
    downwind = INTERCEPT | {
        "x_nm": [14.0, 18.0][: 1 + others],
        "y_nm": [-6.0, 3.0][: 1 + others],
        "altitude_ft": [4600.0, 3600.0][: 1 + others],
        "assigned_altitude_ft": [4600.0, 3600.0][: 1 + others],
        "heading_rad": np.deg2rad([90.0, 240.0])[: 1 + others],
    }
    params = expert.ExpertParams()
    price, _, _ = expert.prices(params, sequence.remember(SLOTS), one(**downwind))
    heading = price[0, expert.HEADING_0 : expert.SPEED_0].min()
    assert (price[0, 0] - heading > params.command) == turns


def test_expert_raises_an_arrival_to_where_an_approach_can_be_cleared():
    low = {"altitude_ft": LEVELS_FT[0], "assigned_altitude_ft": LEVELS_FT[0]}
    obs = one(**(INTERCEPT | low))
    assert not obs["action_mask"]["verb"][0, ILS]
    action, _ = play("expert", obs)
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] >= INTERCEPT["altitude_ft"]


def test_expert_leaves_an_established_approach_alone():
    on_final = {
        "x_nm": 8.0,
        "y_nm": 0.0,
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": tr.HEADING_LOCALIZER,
        "altitude_mode": tr.ALTITUDE_APPROACH,
        "approach_clearance": True,
        "phase": tr.APPROACH,
    }
    assert verb_of(play("expert", one(**(INTERCEPT | on_final)))[0]) == -1


def test_expert_climbs_a_departure_that_was_held_down():
    action, _ = play(
        "expert",
        one(
            x_nm=-15.0,
            altitude_ft=7000.0,
            assigned_altitude_ft=7000.0,
            route=1,
            category=tr.DEPARTURE,
            phase=tr.CLIMB,
            airborne_s=300.0,
        ),
    )
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] > 7000.0


def test_expert_sends_a_departure_back_to_its_route():
    action, _ = play(
        "expert",
        one(
            x_nm=-15.0,
            altitude_ft=19000.0,
            assigned_altitude_ft=19000.0,
            route=1,
            leg=1,
            heading_mode=tr.MODE_HOLD,
            category=tr.DEPARTURE,
            phase=tr.CLIMB,
        ),
    )
    assert verb_of(action) == DIRECT


def test_expert_separates_a_head_on_pair():
    level = {"altitude_ft": [10000.0] * 2, "assigned_altitude_ft": [10000.0] * 2, "speed_kt": [250.0] * 2}
    pair = level | {
        "x_nm": [-5.0, 5.0],
        "y_nm": [20.0, 20.0],
        "heading_rad": [np.deg2rad(90.0), np.deg2rad(270.0)],
        "heading_mode": tr.MODE_HOLD,
        "category": tr.OVERFLIGHT,
        "phase": tr.CRUISE,
        "route": -1,
        "since_phase_s": 900.0,
    }
    obs = one(**pair)
    params = expert.ExpertParams()
    price, _, _ = expert.prices(params, sequence.remember(SLOTS), obs)
    assert price[0, 0] > 30.0  # doing nothing is expensive
    action, _ = play("expert", obs)
    assert verb_of(action) in (ALTITUDE, HEADING)
    apart = one(**(pair | {"y_nm": [20.0, 35.0]}))
    assert expert.prices(params, sequence.remember(SLOTS), apart)[0][0, 0] < 10.0


def test_two_arrivals_to_one_final_may_be_closer_than_others():
    trail = INTERCEPT | {
        "x_nm": [9.0, 12.7],
        "y_nm": [0.0, 0.0],
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": [tr.HEADING_LOCALIZER, tr.MODE_HOLD],
        "approach_clearance": [True, False],
        "phase": tr.DESCENT,
    }

    def worst(**change):
        obs = one(**(trail | change))
        seen = picture(obs)
        return float(severity(seen, fly(seen), jnp.arange(SLOTS))[1, 0])

    assert worst() < worst(approach_clearance=False, heading_mode=tr.MODE_HOLD)
    assert worst(x_nm=[9.0, 11.8]) > 0.9  # but not closer than the separation minimum


def test_expert_spaces_the_later_of_two_arrivals():
    both = one(x_nm=[24.0, 25.0], y_nm=[9.0, -9.0], altitude_ft=[5000.0, 7000.0], heading_rad=[4.71, 4.71])
    seen = picture(both)
    arrival, memory = expert.arrivals(expert.ExpertParams(), seen, sequence.remember(SLOTS))
    first, second = np.asarray(arrival.place.due_s)[:2]
    assert first < second < sequence.FAR_S
    assert arrival.excess[0] <= 0.0 < arrival.excess[1]
    again, _ = expert.arrivals(expert.ExpertParams(), seen, memory)
    np.testing.assert_array_equal(again.place.due_s, arrival.place.due_s)  # the place in the sequence is kept


def test_an_approach_cleared_far_out_does_not_go_before_the_first():
    pair = INTERCEPT | {
        "x_nm": [15.0, 19.0],
        "y_nm": [5.0, 0.0],
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": [tr.MODE_HOLD, tr.HEADING_LOCALIZER],
        "approach_clearance": [False, True],
        "phase": tr.DESCENT,
    }
    params, memory = expert.ExpertParams(), sequence.remember(SLOTS)
    arrival, _ = expert.arrivals(params, picture(one(**pair)), memory)
    assert arrival.to_go[0] < arrival.to_go[1]
    assert arrival.place.wait_nm[0] <= 0.0 < arrival.place.wait_nm[1]
    close = one(**(pair | {"x_nm": [15.0, 12.0]}))
    arrival, _ = expert.arrivals(params, picture(close), memory)
    assert arrival.place.wait_nm[1] <= 0.0
    assert arrival.place.due_s[1] < 0.0 < arrival.place.due_s[0]


def test_arrivals_are_not_sent_out_through_the_ceiling():
    obs = one(x_nm=24.0, y_nm=9.0, altitude_ft=9000.0)
    price, _, _ = expert.prices(expert.ExpertParams(), sequence.remember(SLOTS), obs)
    top = expert.ALTITUDE_0 + int(np.argmax(LEVELS_FT))
    assert LEVELS_FT.max() == PLACE.ceiling_ft
    assert price[0, top] > price[0, 0] + 20.0


def test_expert_forgets_the_aircraft_that_left_a_slot():
    _, memory = play("expert", one(x_nm=24.0, y_nm=9.0))
    _, moved = play("expert", one(x_nm=-40.0, y_nm=9.0), carry=memory)
    assert memory.due_s[0] < sequence.FAR_S
    assert moved.due_s[0] > memory.due_s[0] + 60.0  # another aircraft, farther away


def test_inward_direction_is_found_from_two_margins():
    seen = picture(one(x_nm=45.0, y_nm=30.0, heading_rad=0.0))
    at = jnp.full(SLOTS, 45.0), jnp.full(SLOTS, 29.7)
    memory = sequence.remember(SLOTS).replace(x=at[0], y=at[1], margin=jnp.full(SLOTS, 5.0))
    inward = expert._inward(seen, memory)  # flying along the eastern edge: the margin stays
    np.testing.assert_allclose(np.asarray(inward)[0], [-1.0, 0.0], atol=0.02)
