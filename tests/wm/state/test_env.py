"""The gymnax environment: gymnax's own contract of terminal states, purity, members, and the game's ends."""

import itertools
from functools import partial

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import LogWrapper

import wm
from tests.wm import recordings as rc
from tests.wm.sectors import LAST, each_its_own, small_model
from wm.sector import commands, reward
from wm.sector import traffic as tr
from wm.state import params as ep
from wm.state.env import OpenScopeWorldModel

ENVIRONMENTS = 4  # two for each of two members
STEPS = LAST + 10  # so that every sector ends at least once


@pytest.fixture(scope="module")
def params():
    return small_model()


@pytest.fixture(scope="module")
def model(params):
    return OpenScopeWorldModel(params)


@pytest.fixture(scope="module")
def logged(model):
    """The model behind gymnax's LogWrapper."""
    return LogWrapper(model)


@pytest.fixture(scope="module")
def reset(logged):
    return jax.jit(jax.vmap(logged.reset, (0, None)))


@pytest.fixture(scope="module")
def step(logged):
    """One step of four sectors, compiled once for this module."""
    return jax.jit(jax.vmap(logged.step, (0, 0, 0, None)))


def keys(seed):
    return jax.random.split(jax.random.key(seed), ENVIRONMENTS)


def keys_of_steps():
    return jax.random.split(jax.random.key(1000), (STEPS, ENVIRONMENTS))


def noops():
    return np.tile(rc.NOOP, (ENVIRONMENTS, 1))


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (left, right)), strict=True))


def pick(tree, e):
    return jax.tree.map(lambda x: x[e], tree)


@pytest.fixture(scope="module")
def played(logged, reset, params):
    """The first state, and [(observation, state, reward, terminated, truncated, info)], from one scan."""

    @jax.jit
    def rollout(state, step_keys, params):
        def one(state, now):
            result = jax.vmap(logged.step, (0, 0, 0, None))(now, state, jnp.asarray(noops()), params)
            return result[1], result

        return jax.lax.scan(one, state, step_keys)[1]

    _, first = reset(keys(0), params)
    taken = jax.tree.map(np.asarray, rollout(first, keys_of_steps(), params))
    return jax.tree.map(np.asarray, first), [pick(taken, t) for t in range(STEPS)]


def test_terminal_states_are_as_gymnax_tests_its_own(played):
    # The contract of gymnax's tests/test_terminal_states.py: the step from time max - 1 truncates, and no
    # other does; it does not terminate; its observation is not that of the new episode.
    first, taken = played
    ends = np.zeros(ENVIRONMENTS, int)
    for e in range(ENVIRONMENTS):
        time = first.env_state.time[e]
        for obs, state, _, terminated, truncated, info in taken:
            assert not terminated[e]
            assert not info["terminated"][e]
            assert truncated[e] == info["truncated"][e] == (time == LAST - 1)
            assert same(pick(info["final_observation"], e), pick(obs, e)) == (not truncated[e])
            assert state.env_state.time[e] == time + 1 or truncated[e]
            time, ends[e] = state.env_state.time[e], ends[e] + truncated[e]
    assert np.all(ends >= 1)


def test_an_ended_sector_starts_again_from_a_recorded_row(played, params):
    rows = jax.tree.map(np.asarray, params.rows)
    restarts = []
    for obs, state, _, _, truncated, _ in played[1]:
        for e in np.flatnonzero(truncated):
            inner = pick(state.env_state, e)
            matching = [b for b in range(len(rows.airport_id)) if same(pick(rows.scene, b), inner.scene)]
            assert len(matching) == 1
            assert same(pick(rows.observation, matching[0]), pick(obs, e))
            assert inner.time == round(float(inner.scene.time_s) / tr.STEP_S)
            assert inner.next_id > inner.scene.traffic.id.max()
            assert same(inner.ledger, reward.empty_ledger(rc.SLOTS))
            restarts += matching
    assert len(restarts) >= ENVIRONMENTS
    assert len(set(restarts)) > 1


def test_log_wrapper_sums_the_rewards_of_an_episode(played):
    finished = 0
    for e in range(ENVIRONMENTS):
        total, length = 0.0, 0
        for _, _, points, _, truncated, info in played[1]:
            total, length = total + points[e], length + 1
            if truncated[e]:
                np.testing.assert_allclose(info["returned_episode_returns"][e], total, rtol=1e-5)
                assert info["returned_episode_lengths"][e] == length
                total, length, finished = 0.0, 0, finished + 1
    assert finished >= ENVIRONMENTS


def test_info_holds_the_terms_of_the_reward_and_potentials_that_telescope(played):
    _, taken = played
    logged_keys = {name for name in taken[0][-1] if name.startswith("returned_episode")}
    ours = {"reward_terms", "metrics", "potential", "disagreement"}
    assert set(taken[0][-1]) - logged_keys == ours | {"final_observation", "terminated", "truncated"}
    for (*_, points, _, truncated, info), (*_, later) in itertools.pairwise(taken):
        assert set(info["reward_terms"]) == {"score", "loss", "stranded"}
        np.testing.assert_allclose(points, sum(info["reward_terms"].values()), rtol=1e-6)
        going_on = ~truncated
        np.testing.assert_allclose(info["potential"][going_on, 1], later["potential"][going_on, 0], rtol=1e-6)
        assert {"loss_game", "loss_raw", "flight_hours", "overflow"} < set(info["metrics"])
        assert all(v.shape == (ENVIRONMENTS,) and np.all(np.isfinite(v)) for v in info["metrics"].values())
    assert np.ptp(np.stack([info["potential"] for *_, info in taken])) > 0


def test_a_scan_takes_the_same_steps_as_a_loop(played, reset, step, params):
    _, state = reset(keys(0), params)
    for wanted, now in zip(played[1][:3], keys_of_steps(), strict=False):
        found = step(now, state, noops(), params)
        state = found[1]
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=0.01, rtol=1e-4), wanted, found)


def test_observations_and_actions_lie_in_their_spaces(model, params, played):
    actions, observations = model.action_space(params), model.observation_space(params)
    for obs, *_ in played[1][:: LAST // 3]:
        one = pick(obs, 0)
        assert observations.contains(one)
        shapes = jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), one)
        flat = observations.spaces | {"action_mask": observations.spaces["action_mask"].spaces}
        is_space = lambda x: hasattr(x, "contains")  # noqa: E731
        wanted = jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), flat, is_leaf=is_space)
        assert shapes == wanted
        outside = one | {"aircraft_mask": 2 * np.ones_like(one["aircraft_mask"], int)}
        assert not observations.contains(outside)
    samples = jax.vmap(actions.sample)(jax.random.split(jax.random.key(0), 500))
    assert samples.dtype == jnp.int32
    assert jax.vmap(actions.contains)(samples).all()
    np.testing.assert_array_equal(samples.max(0) + 1, commands.space_sizes(rc.SLOTS))
    np.testing.assert_array_equal(samples.min(0), 0)
    assert not actions.contains(jnp.asarray(actions.sizes))
    assert not actions.contains(jnp.asarray([0, 0, -1, 0, 0]))
    assert actions.to_gymnasium().contains(np.asarray(samples[0]))


def test_observe_gives_the_observation_of_a_state(model, params, played):
    obs, state, *_ = played[1][5]
    again = jax.jit(model.observe)(jax.random.key(0), pick(state.env_state, 1), rc.NOOP, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[1], atol=1e-4), again, obs)


def test_a_step_is_pure_and_its_randomness_comes_from_the_key(reset, step, params):
    _, state = reset(keys(1), params)
    before = jax.tree.map(np.array, state)
    one, again, other = (step(keys(seed), state, noops(), params) for seed in (2, 2, 3))
    assert same(one, again)
    assert not same(one[1].env_state.scene.traffic, other[1].env_state.scene.traffic)
    assert same(before, state)
    assert same(reset(keys(1), params), reset(keys(1), params))


def test_nothing_calls_back_to_the_host_and_keys_are_checked(model, params):
    assert jax.config.jax_debug_key_reuse  # every call of these tests would fail on a key used twice
    key = jax.random.key(0)
    _, state = jax.eval_shape(model.reset, key, params)
    jaxpr = str(jax.make_jaxpr(model.step)(key, state, jnp.zeros(5, jnp.int32), params))
    assert "scan" in jaxpr
    assert "callback" not in jaxpr
    assert "infeed" not in jaxpr


def test_illegal_actions_change_nothing(reset, step, params):
    _, state = reset(keys(4), params)
    inner = state.env_state
    traffic = inner.scene.traffic
    deaf = traffic.replace(controllable=traffic.controllable.at[:, 0].set(False))
    state = state.replace(env_state=inner.replace(scene=inner.scene.replace(traffic=deaf)))
    illegal = np.asarray([[0, verb, 3, 6, 1] for verb in (0, 1, 2, 4)], np.int32)
    entries = np.tile([rc.SLOTS, commands.ALTITUDE, 3, 2, 1], (ENVIRONMENTS, 1)).astype(np.int32)
    legal = np.tile([1, commands.HEADING, 0, 6, 0], (ENVIRONMENTS, 1)).astype(np.int32)
    nothing, refused, noop, obeyed = (
        step(keys(5), state, a, params) for a in (noops(), illegal, entries, legal)
    )
    assert same(nothing[1], refused[1])
    assert same(nothing[1], noop[1])
    for e in range(ENVIRONMENTS):
        assert not same(*(pick(result[1].env_state.scene.traffic, e) for result in (nothing, obeyed)))


def test_members_own_contiguous_blocks_and_one_sector_does_as_in_the_batch(model, reset, step, params):
    modes = tr.MODE_HOLD, tr.SPEED_VNAV
    weights = each_its_own(params.weights, speed_mode=modes)
    decided = params.replace(weights=weights)
    _, state = reset(keys(9), decided)
    together = step(keys(10), state, noops(), decided)
    after = together[1].env_state.scene.traffic
    flown = np.asarray(state.env_state.scene.traffic.valid & after.valid)
    for e in range(ENVIRONMENTS):
        assert flown[e].any()
        np.testing.assert_array_equal(after.speed_mode[e][flown[e]], modes[e // 2])
    for e in (0, 3):  # alone, the state says whose sector it is
        alone = pick(state.env_state, e).replace(member=jnp.int32(e // 2))
        obs, found, points, *_ = model.step(keys(10)[e], alone, rc.NOOP, decided)
        np.testing.assert_allclose(points, together[2][e], atol=1e-4)
        jax.tree.map(lambda a, b, e=e: np.testing.assert_allclose(a, b[e], atol=0.02), obs, together[0])
        jax.tree.map(
            lambda a, b, e=e: np.testing.assert_allclose(a, b[e], atol=0.05, rtol=1e-4),
            found.scene, together[1].env_state.scene,
        )  # fmt: skip


def test_disagreement_truncates_and_keeps_the_observation_of_the_step(reset, step, params):
    _, state = reset(keys(0), params)
    sure = step(keys(7), state, noops(), params)
    found = np.asarray(sure[-1]["disagreement"])
    assert np.all((found > 0) & (found < 1))
    limit = jnp.float32(np.unique(found)[1])  # one is below it, one at it, one above
    assert found.min() < limit < found.max()
    obs, _, _, terminated, truncated, info = step(
        keys(7), state, noops(), params.replace(disagreement_limit=limit)
    )
    np.testing.assert_array_equal(truncated, found > limit)
    assert not np.any(terminated)
    assert same(info["final_observation"], sure[0])
    for e in range(ENVIRONMENTS):
        assert same(pick(obs, e), pick(sure[0], e)) == (not truncated[e])


def test_an_hour_ends_the_episode_and_strands_who_had_time_to_land(reset, step, params):
    assert ep.HOUR_STEPS == ep.EnvParams().max_steps_in_episode == 720
    hour = params.replace(max_steps_in_episode=ep.HOUR_STEPS)
    _, state = reset(keys(6), hour)
    _, state, *_, info = step(keys(7), state, noops(), hour)
    np.testing.assert_array_equal(info["reward_terms"]["stranded"], 0.0)
    ledger, traffic = state.env_state.ledger, state.env_state.scene.traffic
    due = np.sum(np.asarray(ledger.due & traffic.valid & (traffic.category == tr.ARRIVAL)), -1)
    assert np.all(due >= 3)
    for time, over in ((ep.HOUR_STEPS - 2, False), (ep.HOUR_STEPS - 1, True)):
        late = state.replace(env_state=state.env_state.replace(time=np.full(ENVIRONMENTS, time, np.int32)))
        _, _, _, terminated, truncated, info = step(keys(8), late, noops(), hour)
        assert np.all(np.asarray(truncated) == over)
        assert not np.any(terminated)
        np.testing.assert_allclose(info["reward_terms"]["stranded"], -200.0 * due * over)


def test_first_sights_fill_free_slots_and_what_finds_none_is_counted(reset, step, params):
    busy = params.replace(traffic_low=1e4, traffic_high=1e4)  # the streams spawn as often as they may
    _, state = reset(keys(0), busy)
    before, overflow = np.asarray(state.env_state.scene.traffic.valid), 0.0
    assert not before.all()
    for t in range(40):  # two shortest gaps of arrivals
        _, state, *_, info = step(keys(20 + t), state, noops(), busy)
        overflow += float(info["metrics"]["overflow"].sum())
    after = jax.tree.map(np.asarray, state.env_state.scene.traffic)
    assert after.valid.sum(-1).min() >= rc.SLOTS - 1  # somebody may have left in the last step
    assert overflow > 0
    for e in range(ENVIRONMENTS):
        assert len(set(after.id[e].tolist())) == rc.SLOTS
        assert np.all(after.id[e] < state.env_state.next_id[e])


def test_the_traffic_rate_is_drawn_between_its_bounds_and_reaches_the_streams(reset, step, params):
    varied = params.replace(traffic_low=0.5, traffic_high=1.5)
    rates = np.concatenate([reset(keys(s), varied)[1].env_state.traffic_rate for s in range(8)])
    assert rates.min() >= 0.5
    assert rates.max() <= 1.5
    assert np.ptp(rates) > 0.5

    spawned = []
    for rate in (1e-6, 10.0):  # a stream spawns, surely, once its longest gap has gone
        given = params.replace(traffic_low=rate, traffic_high=rate)
        _, state = reset(keys(0), given)
        inner = state.env_state
        assert not inner.scene.traffic.valid.all()
        waited = inner.scene.replace(since_spawn_s=jnp.full_like(inner.scene.since_spawn_s, 150.0))
        state = state.replace(env_state=inner.replace(scene=waited))
        _, after, *_, info = step(keys(1), state, noops(), given)
        spawned.append(
            int(np.sum(after.env_state.next_id - inner.next_id) + info["metrics"]["overflow"].sum())
        )
    assert spawned[0] == 0
    assert spawned[1] >= ENVIRONMENTS


@pytest.mark.slow
def test_the_packaged_model_plays_whatever_is_legal():
    model, params = gymnax.make(wm.NAME, disagreement_limit=2.0, max_steps_in_episode=10_000)
    assert params.airports.elevation_ft.shape[0] > 1
    assert params.rows.scene.traffic.valid.shape[-1] == ep.SLOTS

    def one(params, carry, key):
        obs, state = carry
        key_slot, key_step = jax.random.split(key)
        slot = jax.random.categorical(key_slot, jnp.where(obs["action_mask"]["aircraft"], 0.0, -jnp.inf))
        action = jnp.asarray([0, commands.HEADING, 0, 2, 0]).at[0].set(slot)
        obs, state, points, _, truncated, info = model.step(key_step, state, action, params)
        return (obs, state), (obs, state.scene.traffic, points, truncated, info["metrics"]["flight_hours"])

    @jax.jit
    def rollout(key, params):  # as an argument: constants of that size take long to compile
        key_reset, key = jax.random.split(key)
        start = model.reset(key_reset, params)
        return jax.lax.scan(partial(one, params), start, jax.random.split(key, 24))[1]

    taken = rollout(jax.random.key(0), params)
    obs, traffic, points, truncated, hours = jax.tree.map(np.asarray, taken)
    assert all(model.observation_space(params).contains(pick(obs, t)) for t in (0, 23))
    assert np.all(np.isfinite(points))
    assert not truncated.any()
    assert np.all(traffic.valid.sum(-1) > 0)
    assert hours.sum() > 0
    begin, end = pick(traffic, 0), pick(traffic, 6)
    stayed = begin.valid & end.valid & (begin.id == end.id) & (begin.speed_kt > 0)
    moved = np.hypot(end.x_nm - begin.x_nm, end.y_nm - begin.y_nm)[stayed]
    assert len(moved) > 0
    assert np.all((moved > 0.2) & (moved < 6.0))  # half a minute at 24 to 720 kt
