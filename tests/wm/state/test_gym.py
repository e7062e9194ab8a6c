"""The gymnasium environments: the interface's own checks, the real game's spaces, ends of episodes, seeds."""

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import flatdim
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import (
    DictInfoToList,
    FlattenObservation,
    RecordEpisodeStatistics,
    TransformReward,
)

from collect.env import OpenScopeEnv
from rl.scripted import noop_action, random_action
from tests.wm import recordings as rc
from tests.wm.sectors import LAST, small_model
from wm import NAME
from wm.sector import observe
from wm.state.env import OpenScopeWorldModel
from wm.state.gym import WorldModelEnv, WorldModelVectorEnv

ENVIRONMENTS = 3


@pytest.fixture(scope="module")
def model():
    return OpenScopeWorldModel(small_model())


@pytest.fixture(scope="module")
def sector(model):
    """As gymnasium makes it, without the wrappers that check what these tests check."""
    return gymnasium.make(NAME, model=model).unwrapped


@pytest.fixture(scope="module")
def sectors(model):
    return WorldModelVectorEnv(ENVIRONMENTS, model, AutoresetMode.SAME_STEP)


@pytest.fixture(scope="module")
def usual(model):
    """Sectors that restart as gymnasium's own vector environments do."""
    return WorldModelVectorEnv(ENVIRONMENTS, model)


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True))


def pick(tree, e):
    return jax.tree.map(lambda x: x[e], tree)


def test_spaces_are_those_of_the_real_game(sector):
    real = OpenScopeEnv(server="http://127.0.0.1:9", slots=rc.SLOTS)  # opens no page before its reset
    assert sector.observation_space == real.observation_space
    assert sector.action_space == real.action_space
    assert sector.observation_space != OpenScopeEnv(server="http://127.0.0.1:9", slots=7).observation_space


@pytest.mark.filterwarnings("ignore:.*Box observation space m.*imum value is.*infinity.*:UserWarning")
def test_gymnasium_accepts_the_sector(sector):
    check_env(sector)


def test_a_seed_decides_an_episode(sector):
    def play(seed):
        sector.action_space.seed(0)
        taken = [sector.reset(seed=seed)[0]]
        for _ in range(4):
            taken.append(sector.step(sector.action_space.sample())[:4])
        return taken

    assert same(play(3), play(3))
    assert not same(play(3)[1:], play(4)[1:])
    starts = [sector.reset(seed=s)[0]["aircraft"] for s in range(6)]
    assert not all(same(starts[0], s) for s in starts[1:])


def test_the_sector_ends_with_its_last_observation_and_wants_a_reset(sector):
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        WorldModelEnv(sector.model).step(rc.NOOP)
    observation, _ = sector.reset(seed=3)
    left = LAST - int(sector.state.time)
    assert left > 2
    for t in range(left):
        shown = observation
        observation, points, terminated, truncated, info = sector.step(rc.NOOP)
        assert (type(points), terminated, truncated) == (float, False, t == left - 1)
        assert points == pytest.approx(sum(info["reward_terms"].values()))
    assert sector.state is None
    # What is seen last is 5 s after what was seen before it, and not a new episode's beginning.
    xy = [[observe.read(seen["aircraft"], f"{axis}_nm") for axis in "xy"] for seen in (shown, observation)]
    moved = np.hypot(*np.subtract(*xy))[shown["aircraft_mask"] & observation["aircraft_mask"]]
    assert len(moved) > 2
    assert np.all((moved > 0.1) & (moved < 1.0))
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        sector.step(rc.NOOP)


def test_observations_may_be_written_to_and_info_is_plain(sector):
    observation, _ = sector.reset(seed=1)
    kept = jax.tree.map(np.copy, observation)
    observation["aircraft"][:] = 0.0
    again, _ = sector.reset(seed=1)
    assert same(kept, again)
    *_, info = sector.step(rc.NOOP)
    assert set(info) == {"reward_terms", "metrics", "potential", "disagreement"}
    assert type(info["disagreement"]) is float
    assert {type(v) for v in info["metrics"].values()} == {float}
    assert info["potential"].shape == (2,)


@pytest.mark.parametrize(
    "action", [[0, 9, 0, 0, 0], [-1, 0, 0, 0, 0], [rc.SLOTS + 1, 0, 0, 0, 0], [0, 0, 0, 0], [0.0] * 5]
)
def test_an_action_outside_the_space_is_refused(sector, action):
    sector.reset(seed=3)
    with pytest.raises(ValueError, match=r"^action .* must be integers \[5\] within MultiDiscrete"):
        sector.step(action)
    sector.step(np.asarray(rc.NOOP, np.int64))  # as torch and numpy count
    sector.step(rc.NOOP.tolist())


def test_what_plays_the_real_game_plays_the_sector(sector):
    """The scripted controllers, as launch.shared.players hands them observations."""
    act = jax.jit(lambda key, mask: random_action(key, mask, 0.0))
    observation, _ = sector.reset(seed=2)
    for t in range(4):
        action = np.asarray(act(jax.random.key(t), observation["action_mask"]))
        assert action[0] < rc.SLOTS
        observation, *_ = sector.step(action)
        assert sector.observation_space.contains(observation)
    np.testing.assert_array_equal(noop_action(rc.SLOTS), rc.NOOP)


def test_many_sectors_restart_in_the_same_step_and_keep_their_last_observation(sectors):
    assert sectors.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert sectors.single_observation_space != sectors.observation_space
    observation, info = sectors.reset(seed=5)
    assert info == {}
    assert sectors.observation_space.contains(observation)
    sectors.action_space.seed(0)
    ends = np.zeros(ENVIRONMENTS, int)
    for _ in range(LAST + 5):
        time = np.asarray(sectors.state.time)
        observation, reward, terminated, truncated, info = sectors.step(sectors.action_space.sample())
        assert sectors.observation_space.contains(observation)
        assert (reward.shape, reward.dtype, truncated.dtype) == ((ENVIRONMENTS,), np.float32, bool)
        assert not terminated.any()
        np.testing.assert_array_equal(truncated, time == LAST - 1)
        assert np.all(np.asarray(sectors.state.time)[~truncated] == time[~truncated] + 1)
        assert set(info["reward_terms"]) == {"score", "loss", "stranded", "_score", "_loss", "_stranded"}
        assert info["_reward_terms"].all()
        assert ("final_obs" in info) == truncated.any() == ("final_info" in info)
        if truncated.any():
            np.testing.assert_array_equal(info["_final_obs"], truncated)
            np.testing.assert_array_equal(info["final_info"]["_potential"], truncated)
            for e, last in enumerate(info["final_obs"]):
                if truncated[e]:
                    assert sectors.single_observation_space.contains(last)
                    assert not same(last, pick(observation, e))
                else:
                    assert last is None
        ends += truncated
    assert np.all(ends >= 1)


def test_a_seed_decides_all_sectors(sectors):
    def play(seed):
        observation, _ = sectors.reset(seed=seed)
        return observation, sectors.step(np.tile(rc.NOOP, (ENVIRONMENTS, 1)))[:4]

    assert same(play(1), play(1))
    assert not same(play(1), play(2))
    with pytest.raises(ValueError, match=r"must be integers \[3, 5\]"):
        sectors.step(rc.NOOP)


def test_gymnasium_s_own_wrappers_read_the_infos(sectors):
    envs = DictInfoToList(RecordEpisodeStatistics(sectors))
    envs.reset(seed=6)
    totals, found = np.zeros(ENVIRONMENTS), []
    for _ in range(LAST):
        _, reward, _, truncated, infos = envs.step(np.tile(rc.NOOP, (ENVIRONMENTS, 1)))
        totals += reward
        assert all(len(info["potential"]) == 2 for info in infos)
        found += [(e, totals[e], infos[e]["episode"]["r"]) for e in np.flatnonzero(truncated)]
        assert all(("final_obs" in info) == truncated[e] for e, info in enumerate(infos))
        totals[truncated] = 0.0
    first = {e: pair for e, *pair in reversed(found)}  # the wrapper misses a step of later ones
    assert len(first) == ENVIRONMENTS
    np.testing.assert_allclose(*np.transpose(list(first.values())), rtol=1e-5)


def test_sectors_restart_at_the_next_step_unless_told_otherwise(usual):
    assert usual.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    usual.reset(seed=5)
    ended, restarts = np.zeros(ENVIRONMENTS, bool), 0
    for _ in range(LAST + 5):
        time = np.asarray(usual.state.time)
        observation, reward, terminated, truncated, info = usual.step(np.tile(rc.NOOP, (ENVIRONMENTS, 1)))
        assert usual.observation_space.contains(observation)
        now = np.asarray(usual.state.time)
        assert np.all(now[~ended] == time[~ended] + 1)
        assert np.all(time[ended] == LAST)  # the last state stood until this step
        assert np.all(now[ended] < LAST)
        np.testing.assert_array_equal(reward[ended], 0.0)
        assert not terminated.any()
        assert not truncated[ended].any()
        np.testing.assert_array_equal(truncated, now == LAST)
        np.testing.assert_array_equal(info["_potential"], ~ended)
        assert "final_obs" not in info
        restarts, ended = restarts + ended.sum(), truncated
    assert restarts >= ENVIRONMENTS


def test_gymnasium_s_vector_wrappers_take_the_sectors(usual):
    commands = np.tile(rc.NOOP, (ENVIRONMENTS, 1))
    flat = FlattenObservation(usual)
    size = flatdim(usual.single_observation_space)
    seen, _ = flat.reset(seed=1)
    assert seen.shape == (ENVIRONMENTS, size)
    for _ in range(LAST + 2):  # over the end of every episode
        seen, *_ = flat.step(commands)
        assert seen.shape == (ENVIRONMENTS, size)
    watched = RecordEpisodeStatistics(TransformReward(usual, lambda reward: 2.0 * reward))
    watched.reset(seed=2)
    total, returns = np.zeros(ENVIRONMENTS), []
    for _ in range(2 * LAST + 2):
        _, reward, _, truncated, infos = watched.step(commands)
        total += reward
        returns += [(total[e], infos["episode"]["r"][e]) for e in np.flatnonzero(truncated)]
        total[truncated] = 0.0
    assert len(returns) >= 2 * ENVIRONMENTS
    np.testing.assert_allclose(*np.transpose(returns), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_made_is_refused(model):
    with pytest.raises(ValueError, match="autoreset_mode is Disabled, must be NextStep or SameStep"):
        WorldModelVectorEnv(2, model, autoreset_mode="Disabled")
    with pytest.raises(ValueError, match="num_envs is 0, must be at least 1"):
        WorldModelVectorEnv(0, model)
    with pytest.raises(ValueError, match="airport cannot change a model that is given"):
        WorldModelEnv(model, airport="kabq")
    envs = WorldModelVectorEnv(2, model)
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        envs.step(np.tile(rc.NOOP, (2, 1)))


@pytest.mark.slow
def test_the_packaged_model_by_its_name():
    env = gymnasium.make(f"wm:{NAME}", airport="kabq")
    assert isinstance(env.unwrapped, WorldModelEnv)
    assert env.observation_space == OpenScopeEnv(server="http://127.0.0.1:9").observation_space
    observation, _ = env.reset(seed=0)
    observation, points, *_ = env.step(np.asarray(noop_action(32)))
    assert env.observation_space.contains(observation)
    assert np.isfinite(points)
    envs = gymnasium.make_vec(NAME, num_envs=2, model=env.unwrapped.model)
    assert isinstance(envs.unwrapped, WorldModelVectorEnv)
    assert envs.reset(seed=0)[0]["aircraft"].shape == (2, *observation["aircraft"].shape)
