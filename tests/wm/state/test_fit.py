"""Fitting: losses ignore what a step does not say, members and bootstraps act, devices agree."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.world_model import WorldModelConfig
from launch.shared import parallel
from tests.wm import recordings as rc
from wm.state import fit, labels
from wm.state import network as net

CONFIG = WorldModelConfig(members=2, width=16, blocks=1, steps=1800, inner=100, batch=48)
# Plain descent: Adam and clipping would hide a gradient that is a multiple of the right one.
DESCENT = optax.sgd(0.1, momentum=0.9)


@pytest.fixture(scope="module")
def data():
    """Every third row of two short episodes as training data of two members, with equal weights."""
    place, flown = rc.airport(), rc.cruise(2)
    parts = [jax.tree.map(lambda x: x[::3], labels.rows_of(r, place)) for r in flown]
    episode = np.repeat(np.arange(2, dtype=np.int32), [len(p.features) for p in parts])
    return fit.Data(
        rows=fit.compact(labels.concatenate(parts)),
        episode=episode,
        bootstrap=np.ones((2, 2), np.float32),
    )


def compiled(backend="pmap", devices=1):
    update = partial(fit.update, config=CONFIG, optimizer=DESCENT, axis_name=parallel.AXIS)
    return parallel.wrap(update, backend, devices, donate_argnums=())


@pytest.fixture(scope="module")
def one_device():
    return compiled()


@pytest.fixture(scope="module")
def start(data):
    features = data.rows.features.shape[1]
    init = jax.jit(lambda key: fit.initial_state(CONFIG, features, DESCENT, key))
    return jax.tree.map(np.asarray, init(jax.random.key(0)))


def placed(state, devices):
    """The state on the devices, by way of the host so that every call compiles to the same program."""
    return parallel.replicate(jax.tree.map(np.asarray, state), devices)


def inputs(data, devices, seed):
    """The same data and the same key on every device: all then draw the same minibatches."""
    copies = jax.tree.map(lambda x: np.broadcast_to(x, (devices, *np.shape(x))), data)
    key = jax.random.key_data(jax.random.key(seed))
    return copies, jax.random.wrap_key_data(jnp.tile(key, (devices, 1))), None


@pytest.fixture(scope="module")
def trained(data, start, one_device):
    """(state before, state after, losses of every call) on a batch small enough to learn by heart."""
    state, losses = start, []
    for call in range(CONFIG.steps // CONFIG.inner):
        state, _, metrics = one_device(placed(state, 1), *inputs(data, 1, call))
        losses.append(jax.tree.map(float, metrics))
    return start, jax.tree.map(np.asarray, state), losses


def test_loss_decreases_and_a_small_batch_is_learnt_by_heart(trained, data):
    _, state, losses = trained
    assert losses[-1]["loss"] < 0.05 * losses[0]["loss"]
    network = net.AutopilotNetwork(CONFIG.width, CONFIG.blocks)
    features = data.rows.features.astype(np.float32)
    outputs = jax.jit(jax.vmap(network.apply, (0, None)))(state.weights, features)
    for name in ("heading", "altitude", "speed", "heading_mode", "fate"):
        label = data.rows.labels[name]
        right = (np.argmax(outputs[name], -1) == label)[:, label >= 0]
        assert right.mean() > 0.97, name
        assert right.mean(axis=1).shape == (2,)


def test_metrics_name_every_head_and_are_finite(trained):
    _, _, losses = trained
    heads = set(net.CATEGORICAL | net.BINARY | net.SCALAR)
    assert set(losses[0]) == heads | {"loss"}
    for metrics in losses:
        assert all(np.isfinite(v) for v in metrics.values())
        np.testing.assert_allclose(sum(metrics[n] for n in heads), metrics["loss"], rtol=1e-4)


def test_members_start_and_end_different(trained):
    before, after, _ = trained
    for state in (before, after):
        kernel = state.weights["params"]["embed"]["kernel"]
        assert np.abs(kernel[0] - kernel[1]).max() > 0.01


def outputs_and_rows(data):
    rng = np.random.default_rng(0)
    rows = jax.tree.map(lambda x: x[:20], data.rows)
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    return {n: jnp.asarray(rng.normal(size=(20, k)), jnp.float32) for n, k in sizes.items()}, rows


def test_unknown_labels_cost_nothing_and_have_no_gradient(data):
    outputs, rows = outputs_and_rows(data)
    nothing = {n: np.full(20, -1, np.int8) for n in net.CATEGORICAL}
    unknown = {n: np.full(20, np.nan, np.float16) for n in net.SCALAR}
    rows = rows.replace(labels=nothing, scalars=unknown)

    def total(outputs):
        losses = fit.head_losses(outputs, rows)
        return sum(jnp.sum(losses[n]) for n in (*net.CATEGORICAL, *net.SCALAR))

    value, gradient = jax.jit(jax.value_and_grad(total))(outputs)
    assert float(value) == 0.0
    assert all(float(jnp.max(jnp.abs(g))) == 0.0 for g in jax.tree.leaves(gradient))


def test_losses_are_the_likelihoods_and_huber_errors_by_hand(data):
    outputs, rows = outputs_and_rows(data)
    known = np.linspace(-0.5, 0.5, 20).astype(np.float16)
    rows = rows.replace(scalars=dict.fromkeys(net.SCALAR, known))
    losses = jax.tree.map(np.asarray, jax.jit(fit.head_losses)(outputs, rows))
    for name in net.CATEGORICAL:
        label = rows.labels[name].astype(int)
        logits = np.asarray(outputs[name], np.float64)
        likely = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = np.where(label >= 0, -likely[np.arange(20), np.maximum(label, 0)], 0.0)
        np.testing.assert_allclose(losses[name], expected, rtol=1e-4, atol=1e-5)
    error = np.asarray(outputs["free_speed"][:, 0], np.float64) - known
    huber = np.where(np.abs(error) < 0.2, error**2 / 2, 0.2 * (np.abs(error) - 0.1))
    np.testing.assert_allclose(losses["free_speed"], huber, rtol=1e-3, atol=1e-5)
    logits, target = np.asarray(outputs["autopilot"][:, 0], np.float64), rows.binary["autopilot"]
    expected = np.log1p(np.exp(np.where(target, -logits, logits)))
    np.testing.assert_allclose(losses["autopilot"], expected, rtol=1e-4)


def test_bootstrap_weights_decide_which_episodes_a_member_learns_from(data, start, one_device):
    kernel = start.weights["params"]["heads"]["kernel"]
    half = np.asarray([[0.0, 0.0], [1.0, 1.0]], np.float32)
    after, _, _ = one_device(placed(start, 1), *inputs(data.replace(bootstrap=half), 1, 0))
    moved = np.abs(np.asarray(after.weights["params"]["heads"]["kernel"]) - kernel).max(axis=(1, 2))
    assert moved[0] == 0.0  # the first member has no episode left
    assert moved[1] > 1e-3
    # Each row of a minibatch has its episode's weight for its member.
    rows, weight = fit.minibatch(
        jax.tree.map(jnp.asarray, data.replace(bootstrap=np.asarray([[1.0, 2.0], [3.0, 4.0]], np.float32))),
        jax.random.key(1), 32,
    )  # fmt: skip
    assert rows.features.shape[:2] == weight.shape == (2, 32)
    assert set(np.unique(weight[0])) == {1.0, 2.0}
    assert set(np.unique(weight[1])) == {3.0, 4.0}


@pytest.mark.parametrize(("backend", "devices"), [("pmap", 8), ("shard_map", 8)])
def test_eight_devices_with_the_same_data_do_what_one_does(backend, devices, data, start, one_device):
    alone, _, metrics = one_device(placed(start, 1), *inputs(data, 1, 3))
    together, _, all_metrics = compiled(backend, devices)(placed(start, devices), *inputs(data, devices, 3))
    moved = 0.0
    for a, b, c in zip(*map(jax.tree.leaves, (alone, together, start)), strict=True):
        # A hundred steps amplify rounding; gradients summed instead of averaged would be off by more than 1.
        np.testing.assert_allclose(a, b, atol=5e-3)
        moved = max(moved, float(np.abs(np.asarray(a) - c).max()))
    assert moved > 0.05
    for name in metrics:
        np.testing.assert_allclose(metrics[name], all_metrics[name], rtol=0.01, atol=1e-3)


def test_gradients_are_finite_on_every_kind_of_label(data, start):
    one = jax.tree.map(lambda w: w[0], start.weights)
    network = net.AutopilotNetwork(CONFIG.width, CONFIG.blocks)
    rows = jax.tree.map(lambda x: x[:40], data.rows)
    rng = np.random.default_rng(0)
    some = {n: np.where(rng.random(40) < 0.5, np.nan, rng.normal(size=40)) for n in net.SCALAR}
    rows = rows.replace(scalars={n: v.astype(np.float16) for n, v in some.items()})
    loss = jax.jit(jax.grad(lambda w: fit.member_loss(w, network, rows, jnp.ones(40))[0]))
    for gradient in jax.tree.leaves(loss(one)):
        assert np.all(np.isfinite(gradient))


def test_the_learning_rate_warms_up_and_decays_and_gradients_are_clipped():
    config = WorldModelConfig(steps=100, inner=10, learning_rate=1e-2, weight_decay=0.0)
    optimizer = fit.make_optimizer(config)
    weights = {"w": jnp.zeros(3)}
    state, steps = optimizer.init(weights), []
    advance = jax.jit(optimizer.update)
    for _ in range(100):
        change, state = advance({"w": jnp.asarray([1e6, -1e6, 1e6])}, state, weights)
        steps.append(float(jnp.max(jnp.abs(change["w"]))))
    assert steps[0] == 0.0
    assert 4 <= np.argmax(steps) <= 6  # warm-up is a twentieth of the run
    np.testing.assert_allclose(max(steps), 1e-2, rtol=1e-3)
    assert steps[-1] < 1e-4


def test_compact_rows_keep_labels_exactly(data):
    rows = data.rows
    assert rows.features.dtype == np.float16
    assert {v.dtype for v in rows.labels.values()} == {np.dtype(np.int8)}
    place, flown = rc.airport(), rc.cruise(1)
    full = labels.rows_of(flown[0], place)
    small = fit.compact(full)
    for name in full.labels:
        np.testing.assert_array_equal(full.labels[name], small.labels[name])
    np.testing.assert_allclose(full.features, small.features, atol=1e-3)
