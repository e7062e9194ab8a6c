"""Imitation of an expert that is always right, so agreement can be asked for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.ppo import CloneConfig
from rl.acting import Policy
from rl.clone import Cloning, label_by
from rl.ppo import Sample
from rl.totals import report
from tests.rl.test_ppo import SECTOR, make
from tests.rl.toys import SECTOR_EXPERT, Sector

CONFIG = dataclasses.replace(
    SECTOR, gamma=0.9, clone=CloneConfig(updates=60, epochs=4, learning_rate=5e-3, student_share=0.5)
)


def cloning(config=CONFIG, expert=SECTOR_EXPERT):
    ppo, env_params = make(Sector(), config)
    clone = Cloning(ppo, expert)
    keys = jax.random.split(jax.random.key(1), config.num_envs)
    return (
        clone,
        env_params,
        jax.jit(clone.init)(jax.random.key(0), env_params),
        jax.jit(clone.reset)(keys, env_params),
    )


@pytest.mark.slow
def test_the_student_learns_to_do_what_the_expert_does():
    clone, env_params, state, carry = cloning()
    chunk, reports = jax.jit(clone.chunk), []
    for key in jax.random.split(jax.random.key(2), 3):
        state, carry, metrics = chunk(state, carry, key, env_params)
        reports.append(report(metrics))
    assert reports[-1]["train/agreement"] > 0.9
    assert reports[-1]["train/illegal_labels"] == 0.0
    assert reports[-1]["train/cross_entropy"] < 0.3 * reports[0]["train/cross_entropy"]
    check_warm_start(clone, env_params, state)


def check_warm_start(clone, env_params, state):
    """The first PPO rollout of the clone already scores near the best possible 0.7 a step."""
    warm = clone.warm_start(state)
    assert int(warm.updates) == 0
    keys = jax.random.split(jax.random.key(3), CONFIG.num_envs)
    carry = jax.jit(clone.ppo.reset)(keys, env_params)
    _, _, totals = jax.jit(clone.ppo.rollout)(warm, carry, env_params)
    assert float(totals.step["return"] / totals.counts["steps"]) > 0.5


def test_the_student_plays_the_share_it_is_given_and_the_label_stays_the_experts():
    """An untrained student is rarely right, so the share of right actions played tells who played."""
    clone, _, state, carry = cloning()
    expected = jax.vmap(lambda o: SECTOR_EXPERT.act(None, (), o, None)[0])(carry.observation)

    @jax.jit
    def act(share, key):
        distribution, _ = clone.ppo.network.apply(state.policy.network, carry.observation)
        behaviour = label_by(SECTOR_EXPERT, None, share)
        keys = jax.random.split(key, CONFIG.num_envs)
        return jax.vmap(behaviour.act)(distribution, carry.observation, carry.memory, keys)

    for share, low, high in ((0.0, 1.0, 1.0), (0.5, 0.4, 0.75), (1.0, 0.0, 0.4)):
        played, learned, _ = act(share, jax.random.key(9))
        np.testing.assert_array_equal(learned, expected)
        assert low <= np.asarray((played == learned).all(-1)).mean() <= high, share


def test_an_experts_memory_starts_anew_with_each_episode():
    """An expert that counts its own steps never counts beyond an episode's four."""

    def act(params, count, observation, key):
        return jnp.array([3, 0, 0, 0, 0]), count + 1

    short = dataclasses.replace(CONFIG, rollout_length=6, num_envs=4)
    clone, env_params, state, carry = cloning(short, Policy(lambda key: jnp.zeros((), jnp.int32), act))
    rollout = jax.jit(lambda s, c: clone.ppo.rollout(s, c, env_params, label_by(clone.expert, None, 0.0))[0])
    for expected in (2, 0, 2):  # after 6, 12 and 18 steps of episodes of 4
        carry = rollout(state, carry)
        np.testing.assert_array_equal(carry.memory, expected)


def test_a_label_the_mask_forbids_is_left_out_and_reported():
    def forbidden(params, carry, observation, key):
        return jnp.array([0, 4, 0, 0, 0]), carry  # this sector has no verb 4

    clone, _, state, carry = cloning(expert=Policy(lambda key: (), forbidden))
    batch = Sample(
        observation=carry.observation,
        action=jax.vmap(lambda o: forbidden(None, (), o, None)[0])(carry.observation),
        log_prob=jnp.zeros(CONFIG.num_envs),
        advantage=jnp.zeros(CONFIG.num_envs),
        target=jnp.zeros(CONFIG.num_envs),
    )
    gradient, metrics = jax.jit(jax.grad(clone.loss, has_aux=True))(state.policy.network, batch)
    assert float(metrics["illegal_labels"]) == 1.0
    assert float(metrics["cross_entropy"]) == 0.0
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
