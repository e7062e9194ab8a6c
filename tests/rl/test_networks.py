"""What a set policy has to have: symmetry, masks that hold, and the dtypes the design asks for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from configs.ppo import NetworkConfig
from rl.networks import MLPNetwork, SetNetwork, for_spaces
from tests.rl.toys import Sector

EXACT = NetworkConfig(width=16, dtype="float32")


def observation(seed=0, n=5):
    env = Sector(n=n)
    obs, _ = env.reset(jax.random.key(seed), env.default_params)
    return {**obs, "aircraft_mask": jnp.arange(n) < n - 1}  # the last one absent


def policy(config=EXACT):
    network = SetNetwork(config)
    return network, jax.jit(network.init)(jax.random.key(1), observation())


def per_aircraft(distribution):
    return [distribution.aircraft[:-1], distribution.verb, distribution.altitude, distribution.heading]


def test_permuting_aircraft_permutes_the_policy_and_leaves_the_value():
    network, params = policy()
    # The heads start near zero; larger weights make the outputs differ enough for the test to mean something.
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    obs, order = observation(), np.array([3, 0, 4, 1, 2])
    by_aircraft = lambda leaf: leaf[order] if leaf.shape[0] == 5 else leaf  # noqa: E731
    moved = {**obs, "aircraft": obs["aircraft"][order], "aircraft_mask": obs["aircraft_mask"][order]}
    moved["action_mask"] = jax.tree.map(by_aircraft, obs["action_mask"])
    moved["action_mask"]["aircraft"] = obs["action_mask"]["aircraft"][np.append(order, 5)]
    before, value = network.apply(params, obs)
    after, value_moved = network.apply(params, moved)
    assert float(jnp.ptp(before.verb)) > 0.05
    np.testing.assert_allclose(value, value_moved, rtol=1e-5)
    np.testing.assert_allclose(before.aircraft[-1], after.aircraft[-1], rtol=1e-5)
    for a, b in zip(per_aircraft(before), per_aircraft(after), strict=True):
        np.testing.assert_allclose(a[order], b, rtol=1e-4, atol=1e-5)


def test_an_absent_aircraft_changes_nothing_for_the_others():
    network, params = policy()
    obs = observation()
    other = {**obs, "aircraft": obs["aircraft"].at[-1].set(7.0)}
    (a, value_a), (b, value_b) = network.apply(params, obs), network.apply(params, other)
    assert float(value_a) == float(value_b)
    np.testing.assert_array_equal(a.verb[:-1], b.verb[:-1])


def test_an_aircraft_notices_the_others():
    network, params = policy()
    obs = observation()
    other = {**obs, "aircraft": obs["aircraft"].at[0].add(2.0)}
    (a, _), (b, _) = network.apply(params, obs), network.apply(params, other)
    assert float(jnp.abs(a.verb[1] - b.verb[1]).max()) > 1e-5


def test_an_empty_sector_is_finite():
    network, params = policy()
    obs = {**observation(), "aircraft_mask": jnp.zeros(5, bool)}
    distribution, value = network.apply(params, obs)
    assert bool(jnp.isfinite(value))
    assert bool(jnp.isfinite(distribution.entropy()))


def test_trunk_is_bf16_and_everything_that_must_be_precise_is_float32():
    network, params = policy(NetworkConfig(width=16))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    (distribution, value), inner = network.apply(params, observation(), capture_intermediates=True)
    dtypes = {
        jax.tree_util.keystr(path): leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(inner)
    }
    trunk = [dtype for name, dtype in dtypes.items() if "Block" in name]
    assert trunk
    assert set(trunk) == {jnp.dtype(jnp.bfloat16)}
    heads = [dtype for name, dtype in dtypes.items() if any(h in name for h in ("actor", "critic", "no_op"))]
    assert heads
    assert set(heads) == {jnp.dtype(jnp.float32)}
    assert value.dtype == distribution.aircraft.dtype == distribution.verb.dtype == jnp.float32


def softmax_dtypes(jaxpr):
    """dtypes of every exponential in a jaxpr, nested ones included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "exp":
            yield equation.invars[0].aval.dtype
        for parameter in equation.params.values():
            inner = getattr(parameter, "jaxpr", None)
            if inner is not None:
                yield from softmax_dtypes(inner)


def test_every_softmax_is_float32_in_a_bf16_network():
    network, params = policy(NetworkConfig(width=16))
    jaxpr = jax.make_jaxpr(network.apply)(params, observation())
    dtypes = list(softmax_dtypes(jaxpr.jaxpr))
    assert len(dtypes) >= 6  # attention and five heads
    assert set(dtypes) == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_no_op_starts_as_likely_as_its_bias_says(bias):
    network, params = policy(dataclasses.replace(EXACT, no_op_bias=bias))
    obs = observation()
    obs["action_mask"]["aircraft"] = jnp.ones(6, bool)
    distribution, _ = network.apply(params, obs)
    np.testing.assert_allclose(
        np.exp(distribution.aircraft[-1]), np.exp(bias) / (np.exp(bias) + 5), atol=0.02
    )


def test_the_spaces_choose_the_network():
    flat = for_spaces(spaces.Box(-1, 1, (4,)), spaces.Discrete(2), EXACT)
    assert flat == MLPNetwork(EXACT, 2)
    env = Sector()
    params = env.default_params
    assert for_spaces(env.observation_space(params), env.action_space(params), EXACT) == SetNetwork(EXACT)
    with pytest.raises(ValueError, match="no network for observation Discrete"):
        for_spaces(spaces.Discrete(3), spaces.Discrete(2), EXACT)
