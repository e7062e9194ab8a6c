"""The kernels of the network's choices against the plain functions, in Pallas' interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wm import lowered
from wm.sector import kernels
from wm.state import network as net
from wm.state import play, play_kernel

FEATURES, SLOTS, MEMBERS = 22, 32, 2
ENVIRONMENTS = 32  # of two members; a quarter of a member's block is one kernel program
NETWORK = net.AutopilotNetwork(width=16, blocks=2)
HEADS = sum((net.CATEGORICAL | net.BINARY | net.SCALAR).values())


@pytest.fixture(scope="module")
def weights():
    """Random weights whose outputs differ between aircraft, with some outputs ruled out by a code."""
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    weights = jax.jit(jax.vmap(lambda k: NETWORK.init(k, jnp.zeros((1, FEATURES)))))(keys)
    sharper = jax.tree.map(lambda leaf: 2.0 * leaf, weights["params"]["heads"])
    out = jax.random.bernoulli(jax.random.key(1), 0.02, (FEATURES, HEADS))
    support = {"kernel": jnp.where(out, net.IMPOSSIBLE, 0.0), "bias": jnp.zeros(HEADS)}
    support = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (MEMBERS, *leaf.shape)), support)
    return {"params": weights["params"] | {"heads": sharper}, "support": support}


@pytest.fixture(scope="module")
def told():
    """What one step tells the network of every environment."""
    keys = jax.random.split(jax.random.key(2), 4)
    shape = (ENVIRONMENTS, SLOTS)
    real = jax.random.normal(keys[0], (*shape, FEATURES - 6))
    codes = jax.random.bernoulli(keys[1], 0.5, (*shape, 6))
    seen = jnp.concatenate([real, codes], -1).astype(jnp.bfloat16)
    member = jnp.repeat(jnp.arange(MEMBERS), ENVIRONMENTS // MEMBERS)
    valid = jax.random.bernoulli(keys[2], 0.7, shape)
    return member, seen, valid, jnp.full(ENVIRONMENTS, 6), net.uniforms(keys[3], shape)


@pytest.fixture(scope="module")
def both(weights, told):
    """(choices, disagreement) by the kernels and by the plain functions."""
    plain = jax.jit(jax.vmap(play.play, (None, 0, 0, 0, 0, 0)))(weights, *told)
    return play.in_kernels(weights, *told, interpret=True), plain


def test_the_kernel_draws_what_the_plain_network_draws_but_for_rounding(both):
    """A draw differs only where its random number lies within the rounding of bfloat16 of a chance."""
    (one, _), (other, _) = both
    assert one.keys() == other.keys()
    for name in net.CATEGORICAL | net.BINARY:
        assert one[name].dtype == other[name].dtype
        assert one[name].shape == other[name].shape
        assert np.mean(np.asarray(one[name]) != np.asarray(other[name])) < 0.02, name
        assert len(np.unique(one[name])) > 1, name  # it is no constant that agrees
    for name in net.SCALAR:
        np.testing.assert_allclose(one[name], other[name], atol=0.05)


def test_the_kernel_is_no_further_from_single_precision_than_the_plain_network(weights, told, both):
    def exact(weights, x):  # the network written down again, in float32
        layers, x = weights["params"], x.astype(jnp.float32)
        dense = lambda h, name: h @ layers[name]["kernel"] + layers[name]["bias"]  # noqa: E731

        def norm(h, name):
            scaled = (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-6)
            return scaled * layers[name]["scale"] + layers[name]["bias"]

        h = dense(x, "embed")
        for i in range(NETWORK.blocks):
            h += dense(jax.nn.gelu(dense(norm(h, f"norm_{i}"), f"up_{i}")), f"down_{i}")
        return dense(norm(h, "norm"), "heads") + x @ weights["support"]["kernel"]

    with jax.default_matmul_precision("float32"):
        blocks = told[1].reshape(MEMBERS, -1, FEATURES)
        outputs = np.asarray(jax.jit(jax.vmap(exact))(weights, blocks))[..., -len(net.SCALAR) :]
    for i, name in enumerate(net.SCALAR):
        wanted = outputs[..., i].reshape(ENVIRONMENTS, SLOTS)
        errors = [np.sqrt(np.mean((np.asarray(drawn[name])[..., 0] - wanted) ** 2)) for drawn, _ in both]
        assert errors[0] <= 1.2 * errors[1]
        assert errors[0] < 0.02 * wanted.std()


def test_the_kernel_finds_the_disagreement_of_the_quarter_that_is_probed(both):
    (_, one), (_, other) = both
    np.testing.assert_allclose(one, other, atol=0.01)
    probed = set(np.flatnonzero(np.asarray(one)) % (ENVIRONMENTS // MEMBERS))
    assert probed == {8, 9, 10, 11}  # step 6 probes the third quarter of each block


def test_what_is_ruled_out_is_never_drawn(weights, told, both):
    kernel = np.asarray(weights["support"]["kernel"][0])
    out = (np.asarray(told[1], np.float32) @ kernel) < 0.5 * net.IMPOSSIBLE
    start = 0
    for name, size in net.CATEGORICAL.items():
        forbidden = out[..., start : start + size]
        drawn = np.take_along_axis(forbidden, np.asarray(both[0][0][name])[..., None], -1)[..., 0]
        assert not (drawn & ~forbidden.all(-1)).any(), name
        start += size


def test_the_kernels_are_made_for_a_gpu(weights, told):
    assert lowered.for_a_gpu(play.in_kernels, weights, *told).count("triton") >= 2


def test_shapes_that_the_kernels_do_not_fit_are_left_to_the_plain_network(weights):
    assert play_kernel.fits(weights, play_kernel.BLOCK)
    assert not play_kernel.fits(weights, play_kernel.BLOCK + 1)
    assert not play_kernel.fits({"params": weights["params"]}, play_kernel.BLOCK)
    odd = jax.vmap(lambda k: net.AutopilotNetwork(width=24, blocks=1).init(k, jnp.zeros((1, FEATURES))))
    narrow = jax.eval_shape(odd, jax.random.split(jax.random.key(0), MEMBERS))
    assert not play_kernel.fits({**narrow, "support": {}}, play_kernel.BLOCK)


@pytest.mark.parametrize(
    ("backend", "capability", "switch", "used"),
    [
        ("gpu", "9.0", "1", True),
        ("gpu", "12.0", "1", True),
        ("gpu", "7.5", "1", False),
        ("gpu", "9.0", "0", False),
        ("gpu", "9.0", None, True),
        ("gpu", "12.0", None, False),
        ("cpu", None, "1", False),
    ],
)
def test_one_switch_and_the_card_decide(monkeypatch, backend, capability, switch, used):
    class Card:
        compute_capability = capability

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "local_devices", lambda: [Card()])
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    if switch is not None:
        monkeypatch.setenv(kernels.SWITCH, switch)
    assert kernels.used() is used
