"""The autopilot's network: members and their blocks, precision of its parts, draws, disagreement."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from tests.wm.recordings import biased, outputs_of
from wm.sector import traffic as tr
from wm.state import network as net

FEATURES = 12
MEMBERS = 3
NETWORK = net.AutopilotNetwork(width=16, blocks=1)
EVENT = {name: i for i, name in enumerate(tr.EVENT_NAMES)}


@pytest.fixture(scope="module")
def weights():
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    return jax.jit(jax.vmap(lambda k: NETWORK.init(k, jnp.zeros((1, FEATURES)))))(keys)


def member(weights, m):
    return jax.tree.map(lambda w: w[m], weights)


@jax.jit
def batched(weights, members, features):
    return jax.vmap(net.predict, (None, 0, 0))(weights, members, features)


draw = jax.jit(net.draw)
disagreement = jax.jit(net.disagreement)


@jax.jit
def distances(weights, outputs, features):
    """Largest difference `[M, E]` of batched outputs from what each member says of the same features."""
    own = jax.vmap(lambda w: NETWORK.apply(w, features))(weights)
    off = [jnp.max(jnp.abs(outputs[n] - own[n]), axis=(-2, -1)) for n in own]
    return jnp.max(jnp.stack(off), 0)


@pytest.mark.parametrize("environments", [6, 5])
def test_members_own_blocks_of_environments_or_are_named_where_blocks_do_not_divide(weights, environments):
    features = jax.random.normal(jax.random.key(1), (environments, 4, FEATURES))
    named = jnp.asarray([2, 0, 1, 2, 0, 1][:environments])
    outputs = batched(weights, named, features)
    owners = [0, 0, 1, 1, 2, 2] if environments == 6 else named.tolist()
    off = np.asarray(distances(weights, outputs, features))
    # A bfloat16 product may round differently in a batch; members differ by far more.
    np.testing.assert_array_equal(off < 0.03, np.arange(MEMBERS)[:, None] == np.asarray(owners))


def test_predict_refuses_a_batch_of_weights(weights):
    features = jnp.zeros((2, 4, FEATURES))
    doubled = jax.tree.map(lambda w: jnp.stack([w, w]), weights)
    with pytest.raises(ValueError, match="environments only"):
        jax.vmap(net.predict)(doubled, jnp.zeros(2, jnp.int32), features)


def test_network_of_reads_the_shape_off_the_weights(weights):
    assert net.network_of(weights) == NETWORK
    assert net.network_of(member(weights, 1)) == NETWORK


def test_trunk_is_bfloat16_and_heads_norms_and_parameters_are_float32(weights):
    one = member(weights, 0)
    features = jnp.ones((2, FEATURES))
    outputs, kept = NETWORK.apply(one, features, capture_intermediates=True, mutable=["intermediates"])
    dtypes = {
        name: inner["__call__"][0].dtype
        for name, inner in kept["intermediates"].items()
        if name != "__call__"
    }
    expected = dict.fromkeys(("embed", "up_0", "down_0"), jnp.bfloat16)
    expected |= dict.fromkeys(("norm_0", "norm", "heads"), jnp.float32)
    assert dtypes == expected
    assert {v.dtype for v in outputs.values()} == {jnp.dtype("float32")}
    assert {w.dtype for w in jax.tree.leaves(one)} == {jnp.dtype("float32")}
    products = [
        str(e.outvars[0].aval.dtype)
        for e in jax.make_jaxpr(NETWORK.apply)(one, features).eqns
        if e.primitive.name == "dot_general"
    ]
    assert products == ["bfloat16"] * 3 + ["float32"]


def test_draws_follow_the_softmax_and_the_sigmoid_but_for_what_is_unlikely():
    rows = 20000
    outputs = outputs_of(2, rows)
    drawn = jax.tree.map(np.asarray, draw(outputs, jax.random.key(2)))
    tests = len(net.CATEGORICAL) + sum(net.BINARY.values())
    worst = 1e-3 / tests  # chance that right code fails, for all heads together, 0.1 %
    for name, size in net.CATEGORICAL.items():
        expected = special.softmax(np.asarray(outputs[name][0], np.float64))
        possible = expected >= net.UNLIKELY
        observed = np.bincount(drawn[name], minlength=size)
        assert observed[~possible].sum() == 0, name
        expected = expected[possible] / expected[possible].sum()
        if len(expected) > 1:
            assert stats.chisquare(observed[possible], rows * expected).pvalue > worst, name
    for name in net.BINARY:
        chance = special.expit(np.asarray(outputs[name][0], np.float64))
        chance = np.where(chance < net.UNLIKELY, 0.0, np.where(chance > 1.0 - net.UNLIKELY, 1.0, chance))
        for k, p in enumerate(chance):
            assert stats.binomtest(int(drawn[name][:, k].sum()), rows, p).pvalue > worst, (name, k)
    pairs = np.zeros((net.CATEGORICAL["heading"], net.CATEGORICAL["altitude"]))
    np.add.at(pairs, (drawn["heading"], drawn["altitude"]), 1)
    pairs = pairs[pairs.any(1)][:, pairs.any(0)]
    assert stats.chi2_contingency(pairs).pvalue > 1e-3  # heads are drawn independently


def test_without_a_key_the_most_likely_is_drawn():
    outputs = outputs_of(3, 2)
    drawn = net.draw(outputs, None)
    for name in net.CATEGORICAL:
        assert drawn[name][0] == np.argmax(outputs[name][0])
    for name in net.BINARY:
        np.testing.assert_array_equal(drawn[name][0], outputs[name][0] > 0)


def test_disagreement_is_the_total_variation_of_the_worst_aircraft(weights):
    first, second = (outputs_of(seed, 3) for seed in (5, 6))
    valid = jnp.asarray([True, True, False])
    assert float(disagreement(first, first, valid)) < 1e-6

    def softmax(outputs, name):
        return special.softmax(np.asarray(outputs[name][0], np.float64))

    apart = [0.5 * np.abs(softmax(first, n) - softmax(second, n)).sum() for n in net.CATEGORICAL]
    expected = np.mean(apart)
    np.testing.assert_allclose(disagreement(first, second, valid), expected, rtol=1e-5)
    apart_only_where_empty = {n: np.concatenate([v[:2], 30.0 * v[2:]]) for n, v in first.items()}
    assert float(disagreement(first, apart_only_where_empty, valid)) < 1e-6
    sure = biased(member(weights, 0), **dict.fromkeys(net.CATEGORICAL, 0))
    other = biased(member(weights, 0), **dict.fromkeys(net.CATEGORICAL, 1))
    x, apply = jnp.zeros((3, FEATURES)), jax.jit(NETWORK.apply)
    np.testing.assert_allclose(disagreement(apply(sure, x), apply(other, x), valid), 1.0, atol=1e-5)


def test_a_quarter_of_every_members_block_is_probed_in_turn(weights):
    environments, slots = 2 * MEMBERS * net.PROBE_PERIOD, 3
    features = jax.random.normal(jax.random.key(8), (environments, slots, FEATURES))
    members = jnp.zeros(environments, jnp.int32)
    valid = jnp.ones((environments, slots), bool)
    outputs = batched(weights, members, features)

    @jax.jit
    def probe(tick):
        ticks = jnp.full(environments, tick)
        return jax.vmap(net.probe_disagreement, (None, 0, 0, 0, 0, 0))(
            weights, members, features, outputs, valid, ticks
        )

    neighbour = jax.tree.map(lambda w: jnp.roll(w, 1, axis=0), weights)
    expected = jax.jit(jax.vmap(net.disagreement))(outputs, batched(neighbour, members, features), valid)
    probed = np.stack([np.asarray(probe(tick)) for tick in range(net.PROBE_PERIOD)])
    now = probed > 0
    np.testing.assert_array_equal(now.sum(0), 1)  # every environment once in a period
    blocks = now.reshape(net.PROBE_PERIOD, MEMBERS, -1).sum(-1)
    np.testing.assert_array_equal(blocks, 2)  # and two of the eight of each member on every step
    np.testing.assert_allclose(probed.sum(0), expected, atol=0.01)
    assert np.all(expected > 0.05)
