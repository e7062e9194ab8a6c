"""Losses of separation as they went on: duration, severity and closest approach, worked out by hand."""

import jax
import numpy as np
import pytest

import tests.wm.scenes as scenes
from rl import evaluate, losses
from wm.sector import traffic as tr

PLACE = scenes.airport()
EAST = np.deg2rad(90.0)
LOOK = jax.jit(jax.vmap(evaluate.tracks_of, (0, None)))
NM_PER_STEP = 250.0 / 3600.0 * tr.STEP_S


def losses_of(*states):
    """Of the traffic at successive decisions, `[T + 1]` of `[N]`."""
    traffic = jax.tree.map(lambda *rows: np.stack(rows), *states)
    return losses.losses_of(jax.tree.map(np.asarray, LOOK(traffic, PLACE)), PLACE)


def meeting(step, **changes):
    """Two that fly at each other along y = 20 at 250 kt from 6 nm apart, with 400 ft between them."""
    x = [20.0 - NM_PER_STEP * step, 14.0 + NM_PER_STEP * step]
    headings = {"heading_rad": [scenes.WEST, EAST], "ground_track_rad": [scenes.WEST, EAST]}
    columns = {"x_nm": x, "y_nm": [20.0, 20.0], "altitude_ft": [10000.0, 10400.0], **headings}
    return scenes.traffic(4, **(columns | changes))


def test_two_that_meet_head_on():
    found = losses_of(*(meeting(step) for step in range(30)))
    # 6 nm shrink by 500 / 7200 nm a frame: less than 3 nm on frames 44 to 129, least on frame 86.
    assert found["loss_duration_s"] == [86 * 0.5]
    assert found["closest_nm"] == pytest.approx(abs(6 - 86 * 500 / 7200), abs=2e-4)
    # At that moment they keep 0.4 of the vertical minimum.
    assert found["loss_severity"] == [pytest.approx(0.6, abs=1e-3)]


def test_the_larger_share_of_the_minima_counts():
    x = {"x_nm": [20.0, 18.8], "altitude_ft": [10000.0, 10100.0]}
    found = losses_of(*(meeting(0, **x, heading_rad=EAST, ground_track_rad=EAST) for _ in range(3)))
    assert found["loss_severity"] == [pytest.approx(1 - 1.2 / 3, abs=1e-3)]
    assert found["loss_duration_s"] == [10.0]  # on the 20 frames of two decisions


def test_who_is_a_thousand_feet_apart_loses_nothing():
    found = losses_of(*(meeting(step, altitude_ft=[10000.0, 11000.0]) for step in range(30)))
    assert found == {"loss_duration_s": [], "loss_severity": [], "closest_nm": None}


@pytest.mark.parametrize(("between", "durations"), [(4, [13.5]), (5, [6.5, 7.0])])
def test_a_loss_ends_after_30_seconds_apart(between, durations):
    """Two side by side are 400 ft apart, then 2,000 ft at some decisions, then 400 ft again.

    A change takes a decision, so they violate 3 frames longer and 4 sooner. They are apart for 26 or 32 s.
    """
    gaps = [400.0] * 2 + [2000.0] * (between + 1) + [400.0] * 2
    states = [
        meeting(0, x_nm=[20.0, 21.0], altitude_ft=[10000.0, 10000.0 + gap], heading_rad=EAST,
                ground_track_rad=EAST)
        for gap in gaps
    ]  # fmt: skip
    assert losses_of(*states)["loss_duration_s"] == durations


def test_parallel_approaches_have_a_minimum_of_their_own():
    """Established on 27L and 27R, which are 1 nm apart and ask for 1.5 nm."""
    pair = {"x_nm": 11.0, "altitude_ft": 5000.0, "runway": [scenes.RUNWAY_27L, scenes.RUNWAY_27R]}
    found = losses_of(*[scenes.traffic(2, y_nm=[0.0, 1.0], **pair)] * 2)
    assert found["loss_severity"] == [pytest.approx(1 - 1.0 / 1.5, abs=1e-3)]
    assert found["closest_nm"] is None  # what is meant to fly side by side is no close approach
    beside = losses_of(*[scenes.traffic(2, y_nm=[0.0, 1.6], **pair)] * 2)  # not on 27R's course
    assert beside["loss_severity"] == [pytest.approx(1 - 1.6 / 3.0, abs=1e-3)]
    assert beside["closest_nm"] == pytest.approx(1.6, abs=1e-3)


def test_exemptions_of_the_game_s_rule_hold():
    low = [meeting(step, altitude_ft=[2900.0, 2900.0]) for step in range(30)]
    young = [meeting(step, airborne_s=[5.0 * step, 600.0]) for step in range(17)]
    for states in (low, young):
        assert losses_of(*states) == {"loss_duration_s": [], "loss_severity": [], "closest_nm": None}


def test_pairs_are_told_apart_by_aircraft_not_by_slot():
    """One flies beside another, which goes; ten decisions later somebody else is in its slot."""
    beside = {"x_nm": [20.0, 21.0], "heading_rad": EAST, "ground_track_rad": EAST}
    states = [meeting(0, **beside, id=[100, 101])] * 3
    states += [meeting(0, x_nm=20.0, id=100, valid=[True, False])] * 2
    states += [meeting(0, **beside, id=[100, 102])] * 3
    found = losses_of(*states)
    # On the second pair's first frame and the 20 of its two decisions; the first pair has only the latter.
    assert sorted(found["loss_duration_s"]) == [10.0, 10.5]


def test_many_pairs_are_judged_like_few(monkeypatch):
    states = [meeting(step) for step in range(30)]
    whole = losses_of(*states)
    monkeypatch.setattr(losses, "AT_ONCE", 8)
    assert losses_of(*states) == whole
