"""Scripted policies: legal always, and as random as asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.wm.scenes as scenes
from rl import expert, scripted
from tests.rl.acting import POLICIES, SLOTS, observed, one, play, verb_of
from wm.sector import commands
from wm.sector import traffic as tr
from wm.sector.commands import ALTITUDE, DIRECT, HEADING, ILS, SPEED

is_legal = jax.jit(commands.is_legal)


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_actions_are_legal_whatever_the_scene(name, seed):
    obs = observed(scenes.random_traffic(np.random.default_rng(seed), SLOTS))
    action, _ = play(name, obs, seed)
    assert action.shape == (5,)
    assert action.dtype == jnp.int32
    assert bool(is_legal(action, obs["action_mask"]))
    assert (np.asarray(action) < np.asarray(commands.space_sizes(SLOTS))).all()


@pytest.mark.parametrize("name", POLICIES)
def test_without_aircraft_nothing_is_commanded(name):
    empty = observed(tr.empty(tr.Traffic, (SLOTS,)))
    for seed in range(5):
        assert np.asarray(play(name, empty, seed)[0]).tolist() == [SLOTS, 0, 0, 0, 0]


def test_noop_never_commands():
    obs = observed(scenes.random_traffic(np.random.default_rng(3), SLOTS))
    assert obs["action_mask"]["aircraft"][:SLOTS].any()
    assert verb_of(play("noop", obs)[0]) == -1


@jax.jit
def drawn(params, obs, keys):
    return jax.vmap(lambda key: scripted.random_legal().act(params, (), obs, key)[0])(keys)


def draws(params, obs, count: int = 4000) -> np.ndarray:
    return np.asarray(drawn(params, obs, jax.random.split(jax.random.key(5), count)))


def test_random_covers_every_aircraft_verb_and_legal_value():
    obs = observed(scenes.traffic(SLOTS, x_nm=[0.0, 5.0, 10.0], assigned_altitude_ft=5000.0))
    mask = jax.tree.map(np.asarray, obs["action_mask"])
    actions = draws(scripted.RandomParams(), obs)
    shares = np.bincount(actions[:, 0], minlength=SLOTS + 1) / len(actions)
    np.testing.assert_allclose(shares[[0, 1, 2, SLOTS]], 0.25, atol=0.03)
    commanded = actions[actions[:, 0] < SLOTS]
    assert set(commanded[:, 1]) == {ALTITUDE, HEADING, SPEED, ILS, DIRECT}
    for verb, name in enumerate(scripted.VALUES):
        used = commanded[commanded[:, 1] == verb]
        assert set(used[:, 2 + verb]) == set(np.flatnonzero(mask[name][0]))
        assert not used[:, [2 + v for v in range(3) if v != verb]].any()


def test_share_of_no_commands_is_as_asked():
    obs = observed(scenes.traffic(SLOTS, x_nm=[0.0, 5.0]))
    idle = draws(scripted.RandomParams(noop_share=0.8), obs)[:, 0] == SLOTS
    assert idle.mean() == pytest.approx(0.8, abs=0.03)
    assert not (draws(scripted.RandomParams(noop_share=0.0), obs)[:, 0] == SLOTS).any()


def test_perturbation_follows_epsilon():
    obs = one(x_nm=30.0, altitude_ft=9000.0, phase=tr.CLIMB, category=tr.DEPARTURE)
    right = np.asarray(play("expert", obs)[0])
    policy, _ = POLICIES["perturbed"]
    carry = policy.init(jax.random.key(0))
    act = jax.jit(jax.vmap(policy.act, in_axes=(None, None, None, 0)))

    def wrong(epsilon):
        params = scripted.PerturbedParams(expert.ExpertParams(), epsilon)
        keys = jax.random.split(jax.random.key(2), 500)
        actions, _ = act(params, carry, obs, keys)
        return (np.asarray(actions) != right).any(-1).mean()

    assert wrong(0.0) == 0.0
    assert wrong(0.5) == pytest.approx(0.5, abs=0.1)


def test_policies_run_batched_and_repeat_themselves():
    rng = np.random.default_rng(11)
    scenes_ = [observed(scenes.random_traffic(rng, SLOTS)) for _ in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes_)
    for name, (policy, params) in POLICIES.items():
        act = jax.jit(jax.vmap(policy.act, in_axes=(None, 0, 0, 0)))

        def run(seed, policy=policy, act=act, params=params):
            start, key = jax.random.split(jax.random.key(seed))
            carry = jax.vmap(policy.init)(jax.random.split(start, 4))
            return np.asarray(act(params, carry, batch, jax.random.split(key, 4))[0])

        np.testing.assert_array_equal(run(7), run(7), err_msg=name)
        assert run(7).shape == (4, 5)
