"""The command distribution against a brute-force list of every action."""

import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from rl.distribution import LOWEST, Categorical, Command, close_mask
from rl.networks import HEADS

N = 2
SHAPES = {"aircraft": (N + 1,), **{name: (N, size) for name, size in HEADS.items()}}


def random_mask(rng, share=0.6):
    mask = {name: rng.random(shape) < share for name, shape in SHAPES.items()}
    mask["aircraft"][-1] = True
    return mask


def random_logits(rng, scale=2.0):
    return {name: jnp.asarray(rng.normal(size=shape) * scale, jnp.float32) for name, shape in SHAPES.items()}


def is_legal(mask, action):
    aircraft, verb, *values = action
    if aircraft == N:
        return verb == 0 and not any(values)
    for i, name in enumerate(("altitude", "heading", "speed")):
        if verb != i and values[i]:
            return False
        if verb == i and not mask[name][aircraft, values[i]]:
            return False
    return bool(mask["aircraft"][aircraft] and mask["verb"][aircraft, verb])


def every_legal_action(mask):
    """All different legal actions, unused entries 0, found by trying every combination."""
    ranges = [range(n) for n in (N + 1, 5, 9, 7, 4)]
    return np.array([a for a in itertools.product(*ranges) if is_legal(mask, a)], np.int32)


def enumerate_log_probs(distribution, actions):
    return np.asarray(jax.vmap(distribution.log_prob)(jnp.asarray(actions)), np.float64)


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_of_all_legal_actions_sum_to_one(seed):
    rng = np.random.default_rng(seed)
    mask = random_mask(rng)
    distribution = Command.from_logits(random_logits(rng), mask)
    log_p = enumerate_log_probs(distribution, every_legal_action(mask))
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_log_prob_is_the_product_of_its_choices(seed):
    """Against softmaxes taken one row at a time in NumPy."""
    rng = np.random.default_rng(seed)
    mask, logits = random_mask(rng, share=1.1), random_logits(rng)
    soft = {name: np.asarray(jax.nn.softmax(value)) for name, value in logits.items()}
    distribution = Command.from_logits(logits, mask)
    for action in every_legal_action(mask)[::7]:
        aircraft, verb, *values = action
        expected = soft["aircraft"][aircraft]
        if aircraft < N:
            expected *= soft["verb"][aircraft, verb]
            if verb < 3:
                expected *= soft[("altitude", "heading", "speed")[verb]][aircraft, values[verb]]
        np.testing.assert_allclose(distribution.log_prob(jnp.asarray(action)), np.log(expected), rtol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_entropy_equals_the_enumeration(seed):
    rng = np.random.default_rng(seed)
    mask = random_mask(rng)
    p = Command.from_logits(random_logits(rng), mask)
    log_p = enumerate_log_probs(p, every_legal_action(mask))
    np.testing.assert_allclose(p.entropy(), -(np.exp(log_p) * log_p).sum(), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_kl_equals_the_enumeration(seed):
    rng = np.random.default_rng(seed)
    mask = random_mask(rng)
    one, other = (Command.from_logits(random_logits(rng), mask) for _ in range(2))
    log_p, log_q = (enumerate_log_probs(d, every_legal_action(mask)) for d in (one, other))
    np.testing.assert_allclose(one.kl(other), (np.exp(log_p) * (log_p - log_q)).sum(), rtol=1e-5)
    assert float(one.kl(one)) == 0.0


def test_samples_have_the_frequencies_that_log_prob_says():
    rng = np.random.default_rng(0)
    mask = random_mask(rng, share=0.4)
    distribution = Command.from_logits(random_logits(rng, scale=1.0), mask)
    count = 20_000
    samples = np.asarray(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), count)))
    actions, seen = np.unique(samples, axis=0, return_counts=True)
    expected = count * np.exp(enumerate_log_probs(distribution, actions))
    assert np.abs(seen - expected).max() < 5 * np.sqrt(expected.max())


def booleans(count):
    return st.lists(st.booleans(), min_size=count, max_size=count)


BITS = {name: booleans(int(np.prod(shape))) for name, shape in SHAPES.items()}


@jax.jit
def sample_and_mode(mask, seed):
    logits = {name: jnp.zeros(shape) for name, shape in SHAPES.items()}
    distribution = Command.from_logits(logits, mask)
    samples = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(seed), 64))
    return jnp.concatenate([samples, distribution.mode()[None]])


@settings(max_examples=60, deadline=None)
@given(mask=st.fixed_dictionaries(BITS), seed=st.integers(0, 2**31 - 1))
def test_no_mask_whatever_lets_an_illegal_action_through(mask, seed):
    """Any bits: also verbs without a value, aircraft without a verb, and no-op masked out by mistake."""
    mask = {name: np.array(value).reshape(SHAPES[name]) for name, value in mask.items()}
    for action in np.asarray(sample_and_mode(mask, seed)):
        assert is_legal(mask, tuple(action)), action


def test_close_mask_keeps_what_is_legal_anyway():
    mask = {name: jnp.ones(shape, bool) for name, shape in SHAPES.items()}
    closed = close_mask(mask)
    assert all(bool((closed[name] == mask[name]).all()) for name in SHAPES)


def test_only_no_op_left_has_no_entropy_and_finite_gradients():
    mask = {name: jnp.zeros(shape, bool) for name, shape in SHAPES.items()}

    def objective(logits):
        distribution = Command.from_logits(logits, mask)
        return distribution.entropy() + distribution.log_prob(jnp.array([N, 0, 0, 0, 0]))

    logits = random_logits(np.random.default_rng(0))
    value, gradient = jax.value_and_grad(objective)(logits)
    assert float(value) == 0.0
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_everything_is_finite_with_huge_logits():
    rng = np.random.default_rng(1)
    mask = random_mask(rng)
    distribution = Command.from_logits(random_logits(rng, scale=1e4), mask)
    assert bool(jnp.isfinite(distribution.entropy()))
    assert float(distribution.aircraft.min()) >= LOWEST


def test_categorical_agrees_with_softmax():
    log_p = jax.nn.log_softmax(jnp.array([0.0, 1.0, 2.0]))
    distribution = Categorical(log_p)
    assert int(distribution.mode()) == 2
    np.testing.assert_allclose(distribution.log_prob(jnp.array(1)), log_p[1])
    np.testing.assert_allclose(distribution.entropy(), -(np.exp(log_p) * log_p).sum(), rtol=1e-6)
