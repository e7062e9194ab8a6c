"""Both back-ends on eight fake devices against each other and against one device with the whole batch."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from launch.shared import parallel

BACKENDS = ("pmap", "shard_map")
TRUE_MEAN = 3.5  # of 0..7, the gradient of mean(w * x) by w
OPTIMIZER = optax.sgd(1e-2, momentum=0.9)  # not Adam, which would hide a gradient D times too large


def linear_gradient(train_state, carry, key, params):
    gradient = jax.grad(lambda w: w * carry * params)(train_state)
    gradient = jax.lax.pmean(gradient, parallel.AXIS)
    return train_state - gradient, carry + jax.random.normal(key), gradient


def regression_update(train_state, carry, key, params):
    """One step of a small regression; `carry` is this device's batch {"x": [B, 3], "y": [B]}."""

    def loss(weights):
        return jnp.mean((jnp.tanh(carry["x"] @ weights["w"]) + weights["b"] - params * carry["y"]) ** 2)

    value, gradient = jax.value_and_grad(loss)(train_state["weights"])
    value, gradient = jax.lax.pmean((value, gradient), parallel.AXIS)
    updates, optimizer_state = OPTIMIZER.update(gradient, train_state["optimizer"])
    train_state = {
        "weights": optax.apply_updates(train_state["weights"], updates),
        "optimizer": optimizer_state,
        "step": train_state["step"] + 1,
    }
    carry = {"x": carry["x"] + 0.1 * jax.random.normal(key), "y": carry["y"]}
    return train_state, carry, {"loss": value}


def fresh_regression():
    weights = {"w": jnp.asarray([0.3, -0.2, 0.5]), "b": jnp.zeros(())}
    train_state = {"weights": weights, "optimizer": OPTIMIZER.init(weights), "step": jnp.zeros((), jnp.int32)}
    generator = np.random.default_rng(0)
    batch = {
        "x": generator.normal(size=(64, 3)).astype(np.float32),
        "y": generator.normal(size=64).astype(np.float32),
    }
    return train_state, batch


def train(backend, n_devices, steps):
    train_state, batch = fresh_regression()
    update = parallel.wrap(regression_update, backend, n_devices)
    train_state = parallel.replicate(train_state, n_devices)
    carry = parallel.split(batch, n_devices)
    params = parallel.replicate(jnp.float32(2.0), n_devices)
    for key in jax.random.split(jax.random.key(1), steps):
        train_state, carry, metrics = update(train_state, carry, parallel.shard_keys(key, n_devices), params)
    return jax.device_get((parallel.unreplicate(train_state), parallel.merge(carry), metrics))


def assert_trees_close(left, right):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5), left, right)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_is_the_mean_over_devices(backend):
    update = parallel.wrap(linear_gradient, backend)
    carry = parallel.split(jnp.arange(8.0))
    _, _, gradient = update(
        jnp.float32(1.0), carry[:, 0], parallel.shard_keys(jax.random.key(0)), jnp.float32(1.0)
    )
    assert float(gradient) == TRUE_MEAN


def test_the_trap_that_check_vma_would_be():
    """Why `wrap` turns the check off: on, the same function returns the gradient times the device count."""
    mesh = jax.make_mesh((8,), (parallel.AXIS,), axis_types=(AxisType.Auto,))

    def body(w, x):
        return jax.lax.pmean(jax.grad(lambda w: (w * x).sum())(w), parallel.AXIS)

    specs = (PartitionSpec(), PartitionSpec(parallel.AXIS))
    checked = jax.jit(
        jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=True)
    )
    assert float(checked(jnp.float32(1.0), jnp.arange(8.0))) == 8 * TRUE_MEAN


def test_backends_agree_over_several_steps():
    assert_trees_close(train("pmap", 8, steps=5), train("shard_map", 8, steps=5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_eight_devices_equal_one_with_the_whole_batch(backend):
    state_8, _, metrics_8 = train(backend, 8, steps=1)
    state_1, _, metrics_1 = train(backend, 1, steps=1)
    assert_trees_close((state_8, metrics_8), (state_1, metrics_1))
    assert int(state_8["step"]) == 1


def test_each_device_gets_its_own_key():
    _, carry, _ = train("pmap", 8, steps=1)
    _, batch = fresh_regression()
    noise = np.unique((carry["x"] - batch["x"]).reshape(8, 24).mean(axis=1).round(5))
    assert noise.size == 8


@pytest.mark.parametrize("backend", BACKENDS)
def test_donated_arguments_are_given_up(backend):
    train_state, batch = fresh_regression()
    train_state, carry = parallel.replicate(train_state), parallel.split(batch)
    update = parallel.wrap(regression_update, backend)
    update(train_state, carry, parallel.shard_keys(jax.random.key(0)), jnp.float32(1.0))
    assert train_state["weights"]["w"].is_deleted()
    assert carry["x"].is_deleted()


def test_split_and_merge_are_inverse():
    tree = {"a": np.arange(48).reshape(16, 3), "b": np.arange(8)}
    whole = parallel.split(tree)
    assert whole["a"].shape == (8, 2, 3)
    assert whole["b"].shape == (8, 1)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(parallel.merge(whole)), tree)


def test_unreplicate_returns_host_shapes():
    tree = parallel.unreplicate(parallel.replicate({"w": jnp.ones((2, 3)), "key": jax.random.key(0)}))
    assert tree["w"].shape == (2, 3)
    assert len(tree["w"].devices()) == 1
    assert tree["key"].shape == ()


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (lambda: parallel.wrap(linear_gradient, "xmap"), "unknown back-end 'xmap'"),
        (lambda: parallel.wrap(linear_gradient, "pmap", 9), "9 devices asked for; this machine has 8"),
        (lambda: parallel.split(np.ones((9, 2))), r"shape \(9, 2\) is not divisible by 8 devices"),
    ],
)
def test_impossible_requests_are_refused(call, cause):
    with pytest.raises(ValueError, match=cause):
        call()


def test_one_host_has_all_keys_and_rows():
    keys, wanted = parallel.host_keys(jax.random.key(1), 4), jax.random.split(jax.random.key(1), 4)
    np.testing.assert_array_equal(jax.random.key_data(keys), jax.random.key_data(wanted))
    tree = {"x": np.arange(6).reshape(3, 2)}
    assert parallel.gather(tree) is tree
    np.testing.assert_array_equal(parallel.host_rows(tree)["x"], tree["x"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_hosts_average_over_all_devices(backend, tmp_path):
    """Two processes of two devices: every process gets the mean over all four, its own rows back, and the
    checkpoint that the first of them wrote."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, str(Path(__file__).with_name("two_hosts.py")), str(port), backend]
    hosts = [
        subprocess.Popen(
            [*command, str(host), str(tmp_path)],
            env=environment,
            cwd=Path.cwd(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in (0, 1)
    ]
    try:
        outputs = [host.communicate(timeout=120)[0].splitlines()[-1] for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    assert [host.returncode for host in hosts] == [0, 0]
    # The devices hold 0, 1 | 2, 3: the mean gradient is 1.5, the new state 1 - 1.5, each row one higher.
    assert outputs == ["1.5 -0.5 [1.0, 2.0]", "1.5 -0.5 [3.0, 4.0]"]
