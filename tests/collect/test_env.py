"""The real game through gymnasium: the interface's own checks, legality, slots, points."""

import warnings

import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from collect import GameError
from collect.env import OpenScopeEnv
from collect.pictures import View
from collect.slots import FREE, aircraft_ids
from rl.scripted import noop_action, random_action
from wm.sector import commands
from wm.sector import traffic as tr

pytestmark = pytest.mark.openscope


@pytest.fixture
def env(browser):
    """KLAS for ten minutes."""
    env = OpenScopeEnv(airport="klas", episode_s=600.0, browser=browser)
    yield env
    env.close()


@pytest.mark.slow
def test_gymnasium_s_own_checks(browser):
    env = OpenScopeEnv(airport="kabq", browser=browser)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*observation space m.* value is.*infinity")
        warnings.filterwarnings("ignore", message=".*alternative render modes")
        check_env(env)
    env.close()


@pytest.mark.slow
def test_every_legal_command_is_accepted_and_points_add_up(env):
    """The mask promises what the game does: no refusal, no silence, to any of its commands."""
    act = jax.jit(lambda key, mask: random_action(key, mask, 0.0))
    observation, info = env.reset(seed=9)
    points, verbs, truncated, step = 0.0, set(), False, 0
    while not truncated:
        assert env.observation_space.contains(observation)
        action = np.asarray(act(jax.random.key(step), observation["action_mask"]))
        held = env.slots.copy()
        observation, reward, terminated, truncated, info = env.step(action)
        step += 1
        points += info["points"]
        assert points == env.snapshot.score
        assert reward == sum(info["reward_terms"].values())
        assert not terminated
        assert info["overflow"] == 0
        stayed = np.isin(held, env.slots) & (held != FREE)
        assert (env.slots[stayed] == held[stayed]).all()
        if int(action[0]) < len(env.slots):
            verbs.add(int(action[1]))
            callsign, _ = info["command"].split(" ", 1)
            replies = [warn for text, warn in env.snapshot.log if text.startswith(f"{callsign},")]
            assert replies, f"{info['command']}: no reply in {env.snapshot.log}"
            assert not replies[0], f"{info['command']}: refused in {env.snapshot.log}"
    assert step == 120
    assert verbs == set(range(len(commands.VERBS)))


def test_equal_seeds_give_equal_observations_and_other_seeds_others(env):
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    other, _ = env.reset(seed=4)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first["aircraft"] != other["aircraft"]).any()


def test_short_frames_make_the_same_decisions(browser):
    """Frames of a browser's length: decisions end on time, separation is judged as in lock-step."""
    flown = {}
    for frame_s in (tr.FRAME_S, 1 / 60):
        env = OpenScopeEnv(airport="kabq", episode_s=60.0, browser=browser, frame_s=frame_s)
        env.reset(seed=8)
        noop, truncated, steps = np.asarray(noop_action(len(env.slots))), False, 0
        while not truncated:
            *_, truncated, _ = env.step(noop)
            steps += 1
            assert env.snapshot.time_s == steps * tr.STEP_S
        assert steps == 12
        assert len(env.snapshot.substeps) == round(tr.STEP_S / frame_s)
        flown[frame_s] = tr.from_table(tr.Traffic, env.snapshot.aircraft)
        env.close()
    lock_step, smooth = flown.values()
    assert (lock_step.id == smooth.id).all()
    apart = np.hypot(lock_step.x_nm - smooth.x_nm, lock_step.y_nm - smooth.y_nm)
    assert 0 < apart.max() < 0.15


@pytest.mark.parametrize("frame_s", [0.3, 1.0, 0.0])
def test_frames_that_do_not_divide_lock_step_s_are_refused(frame_s):
    with pytest.raises(GameError, match=r"must divide the 0\.5 s"):
        OpenScopeEnv(frame_s=frame_s)


def test_a_reset_without_a_seed_plays_a_training_seed(env):
    env.reset()
    assert 0 <= env.seed_played < 500_000


def test_an_illegal_action_sends_nothing(env):
    observation, _ = env.reset(seed=3)
    empty = int(np.flatnonzero(~observation["aircraft_mask"])[0])
    *_, info = env.step(np.asarray([empty, commands.HEADING, 0, 3, 0], np.int32))
    assert info["command"] is None
    *_, info = env.step(np.asarray(noop_action(len(env.slots))))
    assert info["command"] is None
    assert info["refusals"] == ()


def test_aircraft_handed_off_lose_their_slot_but_not_their_column(env):
    env.reset(seed=3)
    noop = np.asarray(noop_action(len(env.slots)))
    for _ in range(120):
        env.step(noop)
        everyone = tr.from_table(tr.Traffic, env.snapshot.aircraft)
        away = everyone.id[everyone.removable & ~everyone.controllable]
        assert set(aircraft_ids(env.snapshot)) == set(env.columns[env.columns != FREE])
        assert not np.isin(away, env.slots).any()
        if len(away):
            return
    pytest.fail("nobody was handed off in ten minutes")


def test_too_few_slots_are_counted(browser):
    env = OpenScopeEnv(airport="kabq", slots=4, browser=browser)
    observation, info = env.reset(seed=1)
    assert info["overflow"] == len(env.snapshot.aircraft) - 4
    assert observation["aircraft_mask"].all()
    env.close()


def test_pictures_are_rendered(browser):
    with pytest.raises(GameError, match="needs pictures"):
        OpenScopeEnv(render_mode="rgb_array", browser=browser)
    env = OpenScopeEnv(view=View(200), render_mode="rgb_array", browser=browser)
    env.reset(seed=1)
    env.step(np.asarray(noop_action(32)))
    picture = env.render()
    assert picture.shape == (200, 200, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 5
    env.close()
