"""Advantages against numbers worked out by hand, and against the definition as a Python loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl.gae import final_values, gae, next_values

# gamma = 0.5 and lambda = 0.5 keep the hand calculation short: gamma * lambda = 0.25.


def advantages(reward, value, next_value, terminated, truncated):
    column = lambda row, dtype: jnp.asarray(row, dtype)[:, None]  # noqa: E731
    numbers = [column(row, jnp.float32) for row in (reward, value, next_value)]
    flags = [column(row, bool) for row in (terminated, truncated)]
    return gae(*numbers, *flags, 0.5, 0.5)[:, 0]


def test_without_an_episode_end():
    # delta = [1 + .5*4 - 2, 2 + .5*6 - 4, 3 + .5*8 - 6] = [1, 1, 1]
    # A2 = 1;  A1 = 1 + .25*1 = 1.25;  A0 = 1 + .25*1.25 = 1.3125
    result = advantages([1, 2, 3], [2, 4, 6], [4, 6, 8], [0, 0, 0], [0, 0, 0])
    np.testing.assert_allclose(result, [1.3125, 1.25, 1.0])


def test_a_termination_has_no_future():
    # delta1 = 2 + 0 - 4 = -2 and the trace stops: A1 = -2;  A0 = 1 + .25*(-2) = 0.5;  A2 as before
    result = advantages([1, 2, 3], [2, 4, 6], [4, 100, 8], [0, 1, 0], [0, 0, 0])
    np.testing.assert_allclose(result, [0.5, -2.0, 1.0])


def test_a_truncation_keeps_the_bootstrap_and_cuts_the_trace():
    # V(final) = 100: delta1 = 2 + .5*100 - 4 = 48 = A1, nothing of A2;  A0 = 1 + .25*48 = 13
    result = advantages([1, 2, 3], [2, 4, 6], [4, 100, 8], [0, 0, 0], [0, 1, 0])
    np.testing.assert_allclose(result, [13.0, 48.0, 1.0])


def test_termination_wins_where_both_flags_are_set():
    result = advantages([1, 2, 3], [2, 4, 6], [4, 100, 8], [0, 1, 0], [0, 1, 0])
    np.testing.assert_allclose(result, [0.5, -2.0, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    steps, envs, gamma, lam = 17, 6, 0.97, 0.9
    reward, value, following = rng.normal(size=(3, steps, envs)).astype(np.float32)
    terminated, truncated = rng.random((2, steps, envs)) < 0.15
    expected = np.zeros((steps, envs))
    for e in range(envs):
        later = 0.0
        for t in reversed(range(steps)):
            bootstrap = 0.0 if terminated[t, e] else following[t, e]
            delta = reward[t, e] + gamma * bootstrap - value[t, e]
            later = delta + (0.0 if terminated[t, e] or truncated[t, e] else gamma * lam * later)
            expected[t, e] = later
    result = gae(*map(jnp.asarray, (reward, value, following, terminated, truncated)), gamma, lam)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_next_values_use_the_final_observation_only_after_a_truncation():
    value = jnp.array([[1.0], [2.0], [3.0]])
    final = jnp.array([[0.0], [50.0], [0.0]])
    truncated = jnp.array([[False], [True], [False]])
    result = next_values(value, jnp.array([4.0]), final, truncated)
    np.testing.assert_allclose(result[:, 0], [2.0, 50.0, 4.0])


@pytest.mark.parametrize("ended", [0, 1, 2, 3, 8], ids=lambda n: f"{n}-ended")
def test_final_values_are_right_below_at_and_above_capacity(ended):
    """Capacity 2: up to two rows are gathered, more are all evaluated."""
    rng = np.random.default_rng(ended)
    needed = np.zeros(8, bool)
    needed[rng.permutation(8)[:ended]] = True
    observation = {"x": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)}
    value_of = lambda o: jnp.square(o["x"]).sum(-1) + 1.0  # noqa: E731
    result = jax.jit(lambda o, n: final_values(value_of, o, n, 2))(observation, jnp.asarray(needed))
    np.testing.assert_allclose(result, np.where(needed, value_of(observation), 0.0), rtol=1e-6)
