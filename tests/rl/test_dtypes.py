"""With 64-bit numbers allowed, learners, networks and policies keep their types. Programs are only traced."""

import dataclasses

import jax
import pytest

from configs.ppo import CloneConfig
from rl import expert, sequence
from rl.clone import Cloning
from tests.rl.acting import POLICIES, SLOTS, one
from tests.rl.test_ppo import SECTOR, make
from tests.rl.toys import SECTOR_EXPERT, Sector

CONFIG = dataclasses.replace(
    SECTOR, num_envs=16, rollout_length=4, minibatches=2, clone=CloneConfig(updates=4, student_share=0.5)
)


def dtypes(tree) -> list[str]:
    named = jax.tree_util.tree_leaves_with_path(tree)
    return [f"{jax.tree_util.keystr(path)} {leaf.dtype}" for path, leaf in named]


def one_update(learner, env_params):
    """Types of (state, carry) at the start and after an update, and those of the metrics."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), CONFIG.num_envs))
    key = jax.eval_shape(lambda: jax.random.key(0))
    begun = jax.eval_shape(learner.init, key, env_params), jax.eval_shape(learner.reset, keys, env_params)
    *after, metrics = jax.eval_shape(learner.update, *begun, key, env_params)
    return dtypes(begun), dtypes(tuple(after)), dtypes(metrics)


@pytest.mark.parametrize("learn", [lambda ppo: ppo, lambda ppo: Cloning(ppo, SECTOR_EXPERT)])
def test_an_update_keeps_every_type(learn):
    ppo, env_params = make(Sector(), CONFIG)
    _, _, expected = one_update(learn(ppo), env_params)
    policy = dtypes(jax.eval_shape(ppo.init, jax.random.key(0), env_params))
    with jax.enable_x64(True):
        before, after, metrics = one_update(learn(ppo), env_params)
        assert dtypes(jax.eval_shape(ppo.init, jax.random.key(0), env_params)) == policy
    assert after == before
    assert metrics == expected


@pytest.mark.parametrize("name", POLICIES)
def test_a_scripted_policy_keeps_every_type(name):
    policy, params = POLICIES[name]
    obs, key = jax.eval_shape(lambda: (one(x_nm=[20.0, 25.0]), jax.random.key(0)))
    with jax.enable_x64(True):
        memory = jax.eval_shape(policy.init, key)
        action, after = jax.eval_shape(policy.act, params, memory, obs, key)
        assert dtypes(after) == dtypes(memory)
    assert action.dtype == "int32"


def test_the_experts_prices_stay_single_precision():
    obs = jax.eval_shape(lambda: one(x_nm=[20.0, 25.0]))
    with jax.enable_x64(True):
        price, _, _ = jax.eval_shape(expert.prices, expert.ExpertParams(), sequence.remember(SLOTS), obs)
    assert price.dtype == "float32"
