"""AdamW against optax, and what bfloat16 does and doesn't do to it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.cosmos import OptimizerConfig
from wm.cosmos.training import adamw

CONFIG = OptimizerConfig(learning_rate=1e-2, warmup=0, max_grad_norm=0.5, moments="float32")


def tree():
    generator = np.random.default_rng(0)
    return {
        "layer": {"kernel": jnp.asarray(generator.normal(size=(3, 4)), jnp.float32)},
        "norm": {"scale": jnp.ones(4)},
    }


def gradients(step):
    generator = np.random.default_rng(step + 1)
    return jax.tree.map(lambda x: jnp.asarray(generator.normal(size=x.shape), jnp.float32), tree())


def test_equals_optax_over_ten_steps():
    reference = optax.chain(
        optax.clip_by_global_norm(CONFIG.max_grad_norm),
        optax.adamw(
            CONFIG.learning_rate,
            CONFIG.beta1,
            CONFIG.beta2,
            weight_decay=CONFIG.weight_decay,
            mask=lambda params: {"layer": {"kernel": True}, "norm": {"scale": False}},
        ),
    )
    ours, theirs = tree(), tree()
    moments, state = adamw.init(ours, CONFIG), reference.init(theirs)
    for step in range(10):
        ours, moments = adamw.update(gradients(step), moments, ours, jnp.int32(step), CONFIG)
        changes, state = reference.update(gradients(step), state, theirs)
        theirs = optax.apply_updates(theirs, changes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


def test_scale_multiplies_the_rate_of_a_leaf():
    config = replace(CONFIG, weight_decay=0.0)

    def moved(scale):
        new, _ = adamw.update(gradients(0), adamw.init(tree(), config), tree(), jnp.int32(0), config, scale)
        return jax.tree.map(lambda a, b: np.abs(a - b).max(), new, tree())

    once, five = moved(lambda path: 1.0), moved(lambda path: 5.0 if path[0] == "layer" else 1.0)
    assert five["layer"]["kernel"] == pytest.approx(5 * once["layer"]["kernel"], rel=1e-4)
    assert five["norm"]["scale"] == once["norm"]["scale"]


def test_rate_warms_up_and_decays():
    config = replace(CONFIG, warmup=10, steps=110, final_share=0.1)
    rates = [float(adamw.learning_rate(config, jnp.int32(step))) for step in (0, 4, 9, 60, 110, 500)]
    assert rates == pytest.approx([1e-3, 5e-3, 1e-2, 5.5e-3, 1e-3, 1e-3])


def test_stochastic_rounding_is_right_in_the_mean_and_never_further_than_a_neighbour():
    x = jnp.full((1000,), 1.0 + 2.0**-10, jnp.float32)  # an eighth of the way between two bfloat16 numbers
    draws = np.concatenate(
        [
            np.asarray(adamw.rounded(x, jnp.bfloat16, adamw.seed(jnp.int32(s), 0)), np.float32)
            for s in range(20)
        ]
    )
    assert set(draws) == {1.0, 1.0 + 2.0**-7}
    assert np.mean(draws > 1) == pytest.approx(1 / 8, abs=0.01)
    exact = jnp.asarray([0.0, -2.5, 3e38, np.inf], jnp.float32).astype(jnp.bfloat16).astype(jnp.float32)
    assert (adamw.rounded(exact, jnp.bfloat16, jnp.uint32(5)) == exact).all()


def test_bfloat16_square_decays_where_rounding_to_nearest_would_stay():
    """From 1, with gradients of nothing, v after 300 steps is 0.999^300 = 0.74; to the nearest it stays 1."""
    config = replace(CONFIG, beta2=0.999, moments="bfloat16")
    params = {"kernel": jnp.zeros((64, 64))}
    moments = adamw.Moments(
        {"kernel": jnp.zeros((64, 64), jnp.bfloat16)}, {"kernel": jnp.ones((64, 64), jnp.bfloat16)}
    )
    step = jax.jit(
        lambda moments, step: adamw.update({"kernel": params["kernel"]}, moments, params, step, config)[1]
    )
    for number in range(300):
        moments = step(moments, jnp.int32(number))
    assert moments.square["kernel"].dtype == jnp.bfloat16
    assert float(moments.square["kernel"].astype(jnp.float32).mean()) == pytest.approx(0.999**300, rel=0.02)
    nearest = jnp.bfloat16(1.0)
    assert (0.999 * nearest.astype(jnp.float32)).astype(jnp.bfloat16) == nearest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0, must be more than 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, must be between 0 and 1"),
        ({"beta2": 1.0}, "beta2 is 1.0"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **change)
