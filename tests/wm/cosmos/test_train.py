"""One training step: the same on one device, on eight, in parts; what it keeps, and in which dtype."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cosmos import LoRAConfig, OptimizerConfig
from launch.shared import parallel
from wm.cosmos.networks import dit, lora
from wm.cosmos.networks.config import ActionConfig, DiTConfig
from wm.cosmos.training import edm
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.objective import Clips
from wm.cosmos.training.shortcut import ShortcutConfig
from wm.cosmos.training.train import Batch, Trainer

FLOAT32 = OptimizerConfig(
    learning_rate=1e-2, warmup=0, compute="float32", moments="float32", ema="float32", ema_decay=0.9
)
BATCH = 16
WAYS = [("pmap", 1, 4), ("pmap", 8, 1), ("shard_map", 8, 2), ("fsdp", 8, 1), ("fsdp", 2, 4)]


def toy_objective(variables, batch, keys, mean):
    """A regression in which every sample has noise of its own key, and a part of it reads actions."""
    del mean
    params = variables["params"]
    noise = jax.vmap(lambda key: jax.random.normal(key, (8,)))(keys)
    y = jnp.tanh(batch["x"] + 0.1 * noise) @ params["net"]["kernel"] * params["norm"]["scale"]
    return jnp.mean((y + batch["a"] @ params["action"]["kernel"] - batch["y"]) ** 2, -1), {}


def toy():
    generator = np.random.default_rng(0)
    draw = lambda *shape: generator.normal(size=shape).astype(np.float32)  # noqa: E731
    params = {
        "net": {"kernel": draw(8, 16)},
        "norm": {"scale": np.ones(16, np.float32)},
        "action": {"kernel": draw(3, 16)},
    }
    return params, {"x": draw(BATCH, 8), "a": draw(BATCH, 3), "y": draw(BATCH, 16)}


def run(objective, params, batch, backend, devices, accumulate, config=FLOAT32, adapters=None, steps=3):
    """(final state, metrics of the last step) on the host."""
    axis = None if backend == "fsdp" else parallel.AXIS
    trainer = Trainer(objective, replace(config, accumulate=accumulate), adapters, axis, dit.keeps_float32)
    trained, frozen = lora.divide(jax.tree.map(jnp.array, params), adapters, jax.random.key(1))
    if backend == "fsdp":
        update, place = parallel.wrap_sharded(trainer.update, devices), parallel.shard
    else:
        update, place = parallel.wrap(trainer.update, backend, devices, (0,)), parallel.replicate
    state, frozen = place(trainer.init(trained), devices), place(frozen, devices)
    for step in range(steps):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(5), step), BATCH)
        rows = (parallel.split(x, devices) for x in (batch, keys))
        state, _, metrics = update(state, *rows, frozen)
    return jax.device_get(state), jax.device_get(metrics)


def assert_same(one, other, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4), one, other)


@pytest.fixture(scope="module")
def on_one_device():
    return run(toy_objective, *toy(), "pmap", 1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_the_same_step(on_one_device, way):
    reference, metrics = on_one_device
    state, others = run(toy_objective, *toy(), *way)
    assert_same((state.trained, state.ema, metrics), (reference.trained, reference.ema, others))
    assert int(state.step) == 3


def small_cosmos():
    config = DiTConfig(width=24, blocks=2, heads=2, adaln_rank=4, context_width=16)
    model = dit.CosmosDiT(config, ActionConfig(3, hidden=8), jnp.float32, remat="dots")
    params = dit.init(model, jax.random.key(0))
    generator = np.random.default_rng(0)
    latents = generator.normal(size=(BATCH, 2, 4, 4, 16)).astype(np.float16)
    batch = Batch(latents, generator.normal(size=(BATCH, 4, 3)).astype(np.float32))
    return Clips(model, jnp.zeros((1, 1, 16))).flow_objective(FlowConfig()), params, batch


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [None, LoRAConfig(rank=2)])
def test_cosmos_in_parts_on_eight_devices_equals_one(adapters):
    objective, params, batch = small_cosmos()
    # Adam makes of the last bit of a gradient that ought to be zero a whole step: compare what isn't.
    config = replace(FLOAT32, learning_rate=1e-3, epsilon=1e-3)
    reference, _ = run(objective, params, batch, "pmap", 1, 1, config, adapters)
    for backend in ("pmap", "fsdp"):
        state, _ = run(objective, params, batch, backend, 8, 1, config, adapters)
        assert_same(state.trained, reference.trained, atol=1e-5)


def test_sharded_state_lies_in_parts():
    state = parallel.shard(Trainer(toy_objective, FLOAT32).init({"params": toy()[0]}), 8)
    kernel = state.moments.mean["params"]["net"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (8, 2)
    assert state.step.addressable_shards[0].data.shape == ()


def test_dtypes_are_those_of_the_policy():
    config = OptimizerConfig()
    state, _ = run(toy_objective, *toy(), "pmap", 1, 2, config)
    kinds = {
        name: {str(x.dtype) for x in jax.tree.leaves(getattr(state, name))} for name in ("trained", "ema")
    }
    assert kinds == {"trained": {"float32"}, "ema": {"bfloat16"}}
    assert {str(x.dtype) for x in jax.tree.leaves(state.moments)} == {"bfloat16"}
    copy = Trainer(toy_objective, config, keeps_float32=dit.keeps_float32).compute_copy(state.trained)[
        "params"
    ]
    assert copy["net"]["kernel"].dtype == jnp.bfloat16
    assert {copy["norm"]["scale"].dtype, copy["action"]["kernel"].dtype} == {jnp.dtype("float32")}


def test_bfloat16_training_ends_where_float32_does():
    low = OptimizerConfig(learning_rate=1e-2, warmup=0, master="bfloat16", ema_decay=None)
    _, metrics = run(toy_objective, *toy(), "pmap", 1, 1, low, steps=150)
    _, reference = run(toy_objective, *toy(), "pmap", 1, 1, steps=150)
    _, start = run(toy_objective, *toy(), "pmap", 1, 1, steps=1)
    assert metrics["loss"] == pytest.approx(reference["loss"], rel=0.05)
    assert metrics["loss"] < 0.5 * start["loss"]


def test_running_mean_follows_its_formula():
    state, mean = None, None
    for steps in range(1, 5):
        state, _ = run(toy_objective, *toy(), "pmap", 1, 1, steps=steps)
        decay = min(0.9, steps / (9 + steps))
        before = toy()[0] if mean is None else mean
        mean = jax.tree.map(lambda m, p, d=decay: d * m + (1 - d) * p, before, state.trained["params"])
    assert_same(state.ema["params"], mean)


def test_action_nets_have_their_own_rate_and_norm():
    once = replace(FLOAT32, action_learning_rate_scale=1.0, weight_decay=0.0)
    params, batch = toy()
    moved = {}
    for scale in (1.0, 5.0):
        config = replace(once, action_learning_rate_scale=scale)
        state, metrics = run(toy_objective, params, batch, "pmap", 1, 1, config, steps=1)
        after = state.trained["params"]
        moved[scale] = [np.abs(after[n]["kernel"] - params[n]["kernel"]).max() for n in ("net", "action")]
    assert moved[5.0][0] == pytest.approx(moved[1.0][0])
    assert moved[5.0][1] == pytest.approx(5 * moved[1.0][1], rel=1e-3)
    assert 0 < metrics["grad_norm_action"] < metrics["grad_norm"]


def test_a_batch_that_parts_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="accumulate is 3, must divide the 16 samples of a device"):
        run(toy_objective, *toy(), "pmap", 1, 3)


@pytest.mark.slow
def test_an_edm_model_learns_by_its_own_loss_and_takes_no_shortcut():
    config = DiTConfig(width=24, blocks=1, heads=2, adaln_rank=4, context_width=16)
    model = dit.CosmosDiT(config, dtype=jnp.float32)
    clips = Clips(model, jnp.zeros((1, 1, 16)), parametrisation="edm")
    latents = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 4, 4, 16)), jnp.float32)
    variables = {"params": dit.init(model, jax.random.key(0))}
    keys = jax.random.split(jax.random.key(1), 4)
    ours, _ = jax.jit(clips.flow_objective(FlowConfig()))(variables, Batch(latents, None), keys, {})
    network, mask = clips.network(variables, None), clips.mask(4, 2)
    expected = jax.jit(lambda keys: edm.losses(network, latents, mask, keys, edm.PREDICT1))(
        jax.random.clone(keys)
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="this one is EDM: leave it at 0"):
        clips.shortcut_objective(ShortcutConfig())
