"""Adapters: what they start as, what is trained, and that merging computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cosmos import LoRAConfig
from wm.cosmos.networks import dit, lora
from wm.cosmos.networks.config import ActionConfig, DiTConfig

MODEL = dit.CosmosDiT(
    DiTConfig(width=24, blocks=2, heads=2, adaln_rank=4, context_width=16),
    ActionConfig(2, hidden=8),
    jnp.float32,
)
CONFIG = LoRAConfig(rank=3, alpha=6.0)


def params():
    """Random weights everywhere, so that nothing is hidden behind a zero."""
    shapes = jax.eval_shape(lambda: dit.init(MODEL, jax.random.key(0)))
    leaves, treedef = jax.tree.flatten(shapes)
    generator = np.random.default_rng(0)
    return treedef.unflatten([jnp.asarray(0.2 * generator.normal(size=x.shape), jnp.float32) for x in leaves])


@jax.jit
def output(variables):
    latents = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 4, 4, 16)), jnp.float32)
    mask = jnp.asarray([[1.0, 0.0]] * 2)
    with lora.applying():
        return MODEL.apply(
            variables,
            latents,
            jnp.asarray([0.3, 0.8]),
            jnp.ones((1, 1, 16)),
            mask,
            actions=jnp.ones((2, 4, 2)),
        )


def test_the_first_step_computes_the_old_function():
    whole = params()
    variables = lora.join(*lora.divide(whole, CONFIG, jax.random.key(0)), CONFIG)
    np.testing.assert_allclose(output(variables), output({"params": whole}), atol=1e-6)


def test_merged_parameters_compute_what_the_adapters_do():
    trained, frozen = lora.divide(params(), CONFIG, jax.random.key(0))
    trained["lora"] = jax.tree.map(lambda x: x + 0.1, trained["lora"])
    variables = lora.join(trained, frozen, CONFIG)
    merged = lora.merge(variables)
    assert jax.tree.structure(merged) == jax.tree.structure(params())
    np.testing.assert_allclose(output(variables), output({"params": merged}), atol=2e-5)
    assert np.abs(output({"params": merged}) - output({"params": params()})).max() > 0.1


def test_blocks_get_adapters_and_the_action_path_is_trained_whole():
    trained, frozen = lora.divide(params(), CONFIG, jax.random.key(0))
    assert set(trained["params"]) == {"action"}
    assert "action" not in frozen["params"]
    query = trained["lora"]["blocks"]["self"]["q"]
    assert (query["a"].shape, query["b"].shape) == ((2, 24, 3), (2, 3, 24))
    assert set(trained["lora"]["blocks"]) == {"self", "cross", "mlp"}


def test_targets_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match=r"lora\.targets \('nothing',\) match none of .*blocks/self/q"):
        lora.init(params(), LoRAConfig(targets=("nothing",)), jax.random.key(0))
