"""The dangerous policy brings aircraft together and clears high approaches, by legal commands only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from rl import scripted
from rl.dangerous import DangerousParams, dangerous, occasion
from wm.sector import commands, observe
from wm.sector import traffic as tr
from wm.sector.commands import ALTITUDE, HEADING, ILS

SLOTS = 6
PLACE = scenes.airport()
LEVELS_FT = np.asarray(PLACE.levels_ft)
POLICY = dangerous(scripted.noop())
observed = jax.jit(lambda traffic: observe.observe(scenes.scene(traffic, PLACE), PLACE))
act = jax.jit(POLICY.act)


def play(obs: dict, seed: int = 0, epsilon: float = 1.0) -> list[int]:
    start, key = jax.random.split(jax.random.key(seed))
    action, _ = act(DangerousParams(inner=(), epsilon=epsilon), POLICY.init(start), obs, key)
    return np.asarray(action).tolist()


def pair(heading_deg, altitude_ft=(10000.0, 10000.0), **columns) -> dict:
    """Two aircraft 5 nm apart on one parallel, far from the runway, the first of them in the west."""
    heading = np.deg2rad(heading_deg)
    place = {"x_nm": [-2.5, 2.5], "y_nm": [30.0, 30.0], "altitude_ft": list(altitude_ft)}
    return observed(scenes.traffic(SLOTS, **place, heading_rad=list(heading), **columns))


def test_level_neighbours_are_turned_towards_each_other():
    """Both fly north; the western one has the other at 90 degrees right, the eastern one left."""
    turns = {tuple(play(pair([0.0, 0.0]), seed))[:4] for seed in range(20)}
    right, left = commands.HEADING_CHANGES_DEG.index(90), commands.HEADING_CHANGES_DEG.index(-90)
    assert turns == {(0, HEADING, 0, right), (1, HEADING, 0, left)}


def test_others_go_to_their_neighbour_s_level():
    obs = pair([0.0, 0.0], altitude_ft=(8000.0, 12000.0))
    for seed in range(10):
        slot, verb, level, *_ = play(obs, seed)
        assert verb == ALTITUDE
        assert abs(LEVELS_FT[level] - (12000.0, 8000.0)[slot]) <= np.diff(LEVELS_FT).max() / 2


def test_a_high_arrival_on_final_is_cleared_and_one_on_the_glideslope_is_not():
    """Runway 27L begins at x = 1; 8 nm out its glideslope is near 4,550 ft."""

    def final(altitude_ft, **columns):
        return observed(scenes.traffic(SLOTS, x_nm=[9.0], y_nm=[0.0], altitude_ft=[altitude_ft], **columns))

    assert play(final(9000.0))[:2] == [0, ILS]
    assert play(final(4500.0))[0] == SLOTS
    assert play(final(9000.0, approach_clearance=True))[0] == SLOTS
    assert play(final(9000.0, category=tr.DEPARTURE))[0] == SLOTS


def test_it_leaves_alone_what_is_far_apart_or_not_its_turn():
    alone = observed(scenes.traffic(SLOTS, x_nm=[-30.0, 30.0], y_nm=[30.0, 30.0]))
    assert play(alone)[0] == SLOTS
    assert not occasion(alone)[0].any()
    assert {play(pair([0.0, 0.0]), seed, epsilon=0.0)[0] for seed in range(5)} == {SLOTS}
    share = np.mean([play(pair([0.0, 0.0]), seed, epsilon=0.3)[0] < SLOTS for seed in range(200)])
    assert share == pytest.approx(0.3, abs=0.12)


@pytest.mark.parametrize("seed", range(20))
def test_every_action_is_legal(seed):
    traffic = scenes.random_traffic(np.random.default_rng(seed), SLOTS)
    obs = observed(traffic)
    action = jnp.asarray(play(obs, seed))
    assert commands.is_legal(action, obs["action_mask"])
