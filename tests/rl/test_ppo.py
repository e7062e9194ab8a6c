"""PPO on problems whose answer is known: values to 0.1, policies to their best possible return."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.ppo import CARTPOLE, NetworkConfig, PPOConfig
from rl.networks import for_spaces
from rl.policy import distribution_and_value
from rl.ppo import PPO
from rl.totals import report
from tests.rl.toys import Probe, ProbeParams, Sector

GAMMA = 0.9
PROBE = PPOConfig(
    total_steps=16_000,
    num_envs=16,
    rollout_length=25,
    epochs=4,
    minibatches=4,
    learning_rate=5e-3,
    gamma=GAMMA,
    gae_lambda=0.95,
    entropy_coef=0.0,
    reward_scale=1.0,
    normalise_observations=False,
    chunk=40,
    network=NetworkConfig(width=16, dtype="float32"),
)
SECTOR = PPOConfig(
    num_envs=64,
    rollout_length=16,
    epochs=4,
    minibatches=8,
    learning_rate=5e-3,
    gamma=0.5,  # nothing an action does outlasts its step
    entropy_coef=0.01,
    chunk=20,
    network=NetworkConfig(width=16, no_op_bias=1.0),
)


def make(env, config, env_params=None):
    env_params = env.default_params if env_params is None else env_params
    network = for_spaces(env.observation_space(env_params), env.action_space(env_params), config.network)
    return PPO(env, network, config, config.updates(1)), env_params


def start(ppo, env_params, seed=0):
    key_init, key_envs = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(key_envs, ppo.config.num_envs)
    return jax.jit(ppo.init)(key_init, env_params), jax.jit(ppo.reset)(keys, env_params)


def train(env, config, env_params=None, seed=0):
    """(ppo, state, reports of all chunks) after the whole configured run."""
    ppo, env_params = make(env, config, env_params)
    state, carry = start(ppo, env_params, seed)
    chunk, key, reports = jax.jit(ppo.chunk), jax.random.key(seed + 100), []
    for _ in range(ppo.updates // config.chunk):
        key, key_chunk = jax.random.split(key)
        state, carry, metrics = chunk(state, carry, key_chunk, env_params)
        reports.append(report(metrics))
    return ppo, state, reports


PROBES = {
    # name: (what the probe is, {observation: value}, {observation: best action})
    "constant reward": ({"always": 1.0}, {0.0: 1.0}, {}),
    "reward is the observation": ({"coin": True, "by_seen": 1.0}, {1.0: 1.0, -1.0: -1.0}, {}),
    "delayed reward": ({"length": 2, "at_end": 1.0}, {0.0: GAMMA, 1.0: 1.0}, {}),
    "reward by action": ({"by_action": 1.0}, {0.0: 1.0}, {0.0: 1}),
    "reward by observation and action": (
        {"coin": True, "by_match": 1.0},
        {1.0: 1.0, -1.0: 1.0},
        {1.0: 1, -1.0: 0},
    ),
}


@pytest.mark.parametrize("name", PROBES)
def test_probe(name):
    probe, values, actions = PROBES[name]
    ppo, state, _ = train(Probe(), PROBE, ProbeParams(**probe))
    for seen, expected in values.items():
        _, value = distribution_and_value(ppo.network, state.policy, jnp.array([seen]))
        assert float(value) == pytest.approx(expected, abs=0.1), f"V({seen})"
    for seen, best in actions.items():
        distribution, _ = distribution_and_value(ppo.network, state.policy, jnp.array([seen]))
        assert float(jnp.exp(distribution.log_p[best])) > 0.9, f"action at {seen}"


def test_leaving_the_policy_that_it_started_from_has_a_price():
    probe = ProbeParams(by_action=1.0)
    config = dataclasses.replace(PROBE, kl_coef=100.0)
    ppo, state, reports = train(Probe(), config, probe)
    chosen = [
        distribution_and_value(ppo.network, policy, jnp.array([0.0]))[0].log_p[1]
        for policy in (state.policy, state.policy.replace(network=state.start))
    ]
    assert abs(float(jnp.exp(chosen[0]) - jnp.exp(chosen[1]))) < 0.1  # without the price it is above 0.9
    assert 0 < reports[-1]["train/kl_start"] < 0.02
    first, _ = start(*make(Probe(), config, probe))
    jax.tree.map(np.testing.assert_array_equal, state.policy.normalizer, first.policy.normalizer)


def test_a_time_limit_does_not_shorten_the_horizon():
    """Reward 1 for ever, cut every second step: V = 1 / (1 - 0.5) = 2. Taken for an end: 1.25 on average.

    The observation stays the same: a last one that no step ever starts from would have an untrained value.
    """
    probe = ProbeParams(max_steps_in_episode=2, length=1_000_000, change=0.0, always=1.0)
    ppo, state, _ = train(Probe(), dataclasses.replace(PROBE, gamma=0.5), probe)
    _, value = distribution_and_value(ppo.network, state.policy, jnp.zeros(1))
    assert float(value) == pytest.approx(2.0, abs=0.1)


def test_cartpole():
    env, env_params = gymnax.make("CartPole-v1")
    _, _, reports = train(env, dataclasses.replace(CARTPOLE, total_steps=250_000), env_params, seed=1)
    assert reports[-1]["episode/return/mean"] >= 450


@pytest.mark.slow
def test_the_right_aircraft_gets_the_right_command():
    """Three aircraft, one flagged with p = 0.7, 4 steps: at best 2.8 points; no-op alone gets 0."""
    _, _, reports = train(Sector(), dataclasses.replace(SECTOR, total_steps=80 * 64 * 16))
    last = reports[-1]
    assert last["episode/return/mean"] > 2.4
    assert last["episode/return/max"] == 4.0
    assert last["step/score"] + last["step/loss"] == pytest.approx(last["step/return"], abs=1e-5)
    assert last["episode/length/mean"] == 4.0
    assert last["truncations"] == last["episodes"]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_the_first_minibatch_has_ratio_one_and_no_kl(dtype, tolerance):
    """After statistics have moved, acting and learning use the same. bf16 differs by summation order."""
    config = dataclasses.replace(SECTOR, rollout_length=8, network=NetworkConfig(width=16, dtype=dtype))
    ppo, env_params = make(Sector(), config)

    @jax.jit
    def roll(state, carry):
        carry, transitions, totals = ppo.rollout(state, carry, env_params)
        samples, _ = ppo.samples(state, carry, transitions)
        distribution, _ = ppo.network.apply(state.policy.network, samples.observation)
        log_ratio = distribution.log_prob(samples.action) - samples.log_prob
        metrics = ppo.loss(state.policy.network, samples)[1]
        return ppo.learn_statistics(state, totals), carry, samples, jnp.exp(log_ratio), metrics

    state, carry, *_ = roll(*start(ppo, env_params))
    assert float(jnp.abs(state.policy.normalizer["aircraft"].mean).max()) > 0.05
    _, _, samples, ratio, metrics = roll(state, carry)
    assert samples.observation["aircraft"].dtype == dtype
    np.testing.assert_allclose(ratio, 1.0, atol=tolerance)
    assert abs(float(metrics["kl"])) < tolerance**2
    assert float(metrics["clip_fraction"]) == 0.0


def rollout_twice(probe, config):
    """Samples and metrics of a second rollout, after the statistics of the first."""
    ppo, env_params = make(Probe(), config, probe)

    @jax.jit
    def roll(state, carry, env_params):
        carry, transitions, totals = ppo.rollout(state, carry, env_params)
        return ppo.learn_statistics(state, totals), carry, transitions, ppo.samples(state, carry, transitions)

    state, carry, *_ = roll(*start(ppo, env_params), env_params)
    return roll(state, carry, env_params)[2:]


def test_advantages_are_normalised_over_the_whole_batch():
    probe = ProbeParams(length=3, coin=True, by_seen=1.0)
    _, (samples, metrics) = rollout_twice(probe, PROBE)
    assert samples.advantage.shape == (PROBE.num_envs * PROBE.rollout_length,)
    assert float(samples.advantage.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(samples.advantage.std()) == pytest.approx(1.0, abs=1e-4)
    assert float(metrics["advantage_deviation"]) > 0


def shaped_rewards(weight):
    """Rewards of one rollout of an environment whose potential is Phi = number of steps so far."""

    class Potential(Probe):
        def step_env(self, key, state, action, params):
            *result, info = super().step_env(key, state, action, params)
            time = jnp.asarray(state.time, jnp.float32)
            return *result, {**info, "potential": jnp.stack([time, time + 1])}

    config = dataclasses.replace(PROBE, rollout_length=4, shaping_weight=weight)
    ppo, env_params = make(Potential(), config, ProbeParams(length=2, always=1.0))
    _, transitions, totals = jax.jit(ppo.rollout)(*start(ppo, env_params), env_params)
    return transitions.reward[:, 0], totals


def test_shaping_is_the_discounted_difference_of_potentials_and_stays_out_of_reports():
    # step 0: 1 + 2 (.9 * 1 - 0) = 2.8;  step 1 terminates, Phi(s') = 0: 1 + 2 (0 - 1) = -1;  then again
    reward, totals = shaped_rewards(2.0)
    np.testing.assert_allclose(reward, [2.8, -1.0, 2.8, -1.0], rtol=1e-6)
    assert float(totals.step["return"]) == 4 * PROBE.num_envs
    np.testing.assert_allclose(shaped_rewards(0.0)[0], 1.0)


@pytest.mark.parametrize(("size", "expected"), [(100.0, 1.0), (0.01, 0.01)])
def test_large_rewards_are_scaled_down_and_small_ones_left_alone(size, expected):
    probe = ProbeParams(coin=True, by_seen=size)  # returns deviate by `size`
    transitions, _ = rollout_twice(probe, dataclasses.replace(PROBE, reward_scale=None))
    assert float(jnp.abs(transitions.reward).max()) == pytest.approx(expected, rel=0.1)


def test_a_chunk_neither_calls_the_host_nor_compiles_twice():
    ppo, env_params = make(Sector(), dataclasses.replace(SECTOR, chunk=2, num_envs=8))
    state, carry = start(ppo, env_params)
    chunk = jax.jit(ppo.chunk)
    assert "callback" not in chunk.lower(state, carry, jax.random.key(0), env_params).as_text()
    shapes = jax.eval_shape(ppo.chunk, state, carry, jax.random.key(0), env_params)[:2]
    before, after = (
        jax.tree.map(lambda leaf: str(jax.typeof(leaf)), tree) for tree in ((state, carry), shapes)
    )
    assert before == after
    weak = [leaf for leaf in jax.tree.leaves((state, carry)) if getattr(jax.typeof(leaf), "weak_type", False)]
    assert not weak
