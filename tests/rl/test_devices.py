"""One update on eight devices equals one update on one device with all the environments."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from launch.shared import parallel
from rl.ppo import PPO
from rl.totals import report
from tests.rl.test_ppo import SECTOR, make
from tests.rl.toys import Sector

DEVICES = 8
# One minibatch per epoch: which samples share a minibatch depends on the device, everything else must not.
CONFIG = dataclasses.replace(SECTOR, num_envs=4, minibatches=1, epochs=2, chunk=2, max_grad_norm=0.01)
CONFIG = dataclasses.replace(
    CONFIG, network=dataclasses.replace(CONFIG.network, width=8, blocks=0, dtype="float32")
)


@functools.cache
def on_one_device():
    config = dataclasses.replace(CONFIG, num_envs=CONFIG.num_envs * DEVICES)
    ppo, env_params = make(Sector(), config)
    ppo = dataclasses.replace(ppo, updates=100)
    state = jax.jit(ppo.init)(jax.random.key(0), env_params)
    carry = jax.jit(ppo.reset)(jax.random.split(jax.random.key(1), config.num_envs), env_params)
    state, _, metrics = jax.jit(ppo.chunk)(state, carry, jax.random.key(2), env_params)
    return state, report(metrics)


def on_all_devices(backend):
    ppo, env_params = make(Sector(), CONFIG)
    ppo = PPO(ppo.env, ppo.network, CONFIG, 100, parallel.AXIS)
    state = parallel.replicate(jax.jit(ppo.init)(jax.random.key(0), env_params))
    carry = jax.jit(ppo.reset)(jax.random.split(jax.random.key(1), CONFIG.num_envs * DEVICES), env_params)
    update = parallel.wrap(ppo.chunk, backend)
    keys = parallel.shard_keys(jax.random.key(2))
    state, _, metrics = update(state, parallel.split(carry), keys, env_params)
    return parallel.unreplicate(state), report(metrics)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_eight_devices_equal_one(backend):
    """Gradients, their clipping, advantage and observation statistics, and the reported figures."""
    expected, figures = on_one_device()
    state, reported = on_all_devices(backend)
    assert jax.tree.structure(state.policy) == jax.tree.structure(expected.policy)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)
    assert reported.keys() == figures.keys()
    for name in ("steps", "episodes", "step/score", "episode/return/mean", "episode/return/min"):
        assert reported[name] == pytest.approx(figures[name], rel=1e-4), name
    assert reported["train/loss"] == pytest.approx(figures["train/loss"], abs=1e-3)
