"""The transformer's own properties; that it equals the published one is tested in test_parity.py."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wm.cosmos.parity.case import random_tree
from wm.cosmos.networks import dit
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.dit import CosmosDiT

TINY = PRESETS["tiny"]
BATCH, FRAMES, HEIGHT, WIDTH = 2, 3, 4, 6
GIVEN = jnp.array([[1, 0, 0], [1, 1, 0]], jnp.float32)


@pytest.fixture(scope="module")
def params():
    model = CosmosDiT(TINY.dit, TINY.action)
    return random_tree(jax.eval_shape(lambda: dit.init(model, jax.random.key(0))), 0)


@pytest.fixture(scope="module")
def arguments():
    keys = jax.random.split(jax.random.key(1), 4)
    return {
        "latents": jax.random.normal(keys[0], (BATCH, FRAMES, HEIGHT, WIDTH, 16)),
        "times": jax.random.uniform(keys[1], (BATCH, FRAMES)),
        "context": jax.random.normal(keys[2], (1, 5, TINY.dit.context_width)),
        "condition_mask": GIVEN,
        "actions": jax.random.normal(keys[3], (BATCH, 8, TINY.action.width)),
    }


@functools.cache
def network(**options):
    """The compiled network; tests that ask for the same options share it."""
    model = CosmosDiT(TINY.dit, TINY.action, **{"dtype": jnp.float32, **options})
    return jax.jit(lambda params, arguments: model.apply({"params": params}, **arguments))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("predict2-2b", 1_956_413_440),
        ("predict2.5-2b", 2_059_174_912),
        ("predict2.5-2b-action", 2_059_174_912 + 67_592_192),
        ("predict2-14b", 14_265_285_632),
        ("predict1-7b", 7_236_208_640),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count):
    model = CosmosDiT(PRESETS[name].dit, PRESETS[name].action)
    shapes = jax.eval_shape(lambda: dit.init(model, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_mini_has_at_most_twenty_million_parameters():
    model = CosmosDiT(PRESETS["mini"].dit, PRESETS["mini"].action)
    shapes = jax.eval_shape(lambda: dit.init(model, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) <= 20_000_000


@pytest.fixture(scope="module")
def gradients(params, arguments):
    return _gradients("none")(params, arguments)


def _gradients(remat):
    apply = network(remat=remat)
    return jax.jit(jax.grad(lambda params, arguments: jnp.square(apply(params, arguments)).mean()))


@pytest.mark.parametrize("remat", ["full", "dots", "dots+attention"])
def test_gradients_do_not_depend_on_what_blocks_keep(params, arguments, gradients, remat):
    again = _gradients(remat)(params, arguments)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), again, gradients)


def test_every_parameter_gets_a_gradient(gradients):
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert jnp.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_patches_have_channels_slowest_going_in_and_fastest_coming_out():
    latents = jnp.arange(2 * 4 * 16, dtype=jnp.float32).reshape(1, 1, 2, 4, 16)
    mask = jnp.full((1, 1), 0.5)
    padding = jnp.full((1, 2, 4), 0.25)
    patches = dit.patchify(2, latents, mask, padding)
    assert patches.shape == (1, 1, 2, 72)
    # Second patch: rows 0-1, columns 2-3. Channel 5 of its four pixels lie side by side.
    np.testing.assert_array_equal(patches[0, 0, 1, 5 * 4 : 6 * 4], latents[0, 0, :, 2:, 5].reshape(4))
    np.testing.assert_array_equal(patches[0, 0, 1, 64:], [0.5] * 4 + [0.25] * 4)

    answer = jnp.arange(2 * 64, dtype=jnp.float32).reshape(1, 1, 2, 64)
    back = dit.unpatchify(2, answer, 1, 2)
    assert back.shape == (1, 1, 2, 4, 16)
    # The pixel at row 1, column 2 is in the second patch, third of its four pixels: all channels in a row.
    np.testing.assert_array_equal(back[0, 0, 1, 2], answer[0, 0, 1, 2 * 16 : 3 * 16])


def test_a_new_action_path_changes_nothing(arguments):
    model = CosmosDiT(TINY.dit, TINY.action, dtype=jnp.float32)
    params = dit.init(model, jax.random.key(3))
    params = {**params, **{name: random_tree(params[name], 1) for name in params if name != "action"}}
    acting = network()(params, arguments)
    still = network()(params, {**arguments, "actions": None})
    np.testing.assert_array_equal(acting, still)


def test_actions_reach_the_frames_that_are_not_given(params, arguments):
    apply = network()
    before = apply(params, arguments)
    moved = {**arguments, "actions": arguments["actions"].at[:, :4].add(1.0)}  # those before latent frame 1
    change = jnp.abs(apply(params, moved) - before).max((1, 2, 3, 4))
    assert change[0] > 1e-2  # frame 1 isn't given
    assert change[1] == 0.0  # it is given


def test_one_row_of_context_serves_the_whole_batch(params, arguments):
    apply = network()
    rows = {**arguments, "context": jnp.repeat(arguments["context"], BATCH, 0)}
    np.testing.assert_allclose(apply(params, arguments), apply(params, rows), atol=1e-5)


def test_a_step_size_is_read_only_by_networks_that_know_it(params, arguments):
    steps = jnp.array([0.5, 0.25])
    apply = network()
    np.testing.assert_array_equal(apply(params, arguments), apply(params, {**arguments, "steps": steps}))
    config = dataclasses.replace(TINY.dit, step_hidden=16)
    model = CosmosDiT(config, TINY.action, dtype=jnp.float32)
    knowing = random_tree(jax.eval_shape(lambda: dit.init(model, jax.random.key(0))), 0)
    apply = jax.jit(lambda steps=None: model.apply({"params": knowing}, **arguments, steps=steps))
    assert jnp.abs(apply(steps) - apply(steps / 2)).max() > 1e-2
    untold = apply()
    np.testing.assert_allclose(untold, apply(jnp.zeros(2)), atol=1e-5)
    assert jnp.abs(untold - apply(steps)).max() > 1e-2


def _products(jaxpr):
    """Every matrix product in a jaxpr and what it contains."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield [variable.aval for variable in equation.invars]
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from _products(getattr(value, "jaxpr", value))


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def test_products_are_bf16_but_for_time_modulation_and_actions(params, arguments):
    model = CosmosDiT(TINY.dit, TINY.action)
    traced = jax.make_jaxpr(lambda params: model.apply({"params": params}, **arguments))(params)
    tokens = HEIGHT * WIDTH // 4
    kinds = {"bf16": 0, "f32": 0}
    for left, right in _products(traced.jaxpr):
        assert left.dtype == right.dtype
        if left.dtype == jnp.bfloat16:
            kinds["bf16"] += 1
            continue
        kinds["f32"] += 1
        attends = FRAMES * tokens in left.shape and FRAMES * tokens in right.shape
        assert attends or not {tokens, FRAMES * tokens} & set(left.shape), (left.shape, right.shape)
    assert kinds["bf16"] >= 12
    assert kinds["f32"] >= 8
    assert traced.out_avals[0].dtype == jnp.float32


def test_bf16_stays_near_float32(params, arguments):
    exact, rounded = network()(params, arguments), network(dtype=jnp.bfloat16)(params, arguments)
    assert jnp.sqrt(jnp.mean(jnp.square(exact - rounded))) < 0.05 * jnp.sqrt(jnp.mean(jnp.square(exact)))


def test_parameters_that_stay_float32():
    assert dit.keeps_float32("time_1/kernel")
    assert dit.keeps_float32("blocks/mod/self/a/kernel")
    assert dit.keeps_float32("action/to_d/fc1/bias")
    assert dit.keeps_float32("blocks/self/q_norm/scale")
    assert not dit.keeps_float32("blocks/self/q/kernel")
    assert not dit.keeps_float32("patch/kernel")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("latents", jnp.zeros((BATCH, FRAMES, 4, 6, 8)), "8 channels"),
        ("latents", jnp.zeros((BATCH, FRAMES, 3, 6, 16)), "multiples of 2"),
        ("times", jnp.zeros(3), "times are"),
        ("condition_mask", jnp.zeros((BATCH, 2)), "condition_mask is"),
        ("context", jnp.zeros((1, 5, 31)), "context is"),
        ("actions", jnp.zeros((BATCH, 8, 4)), "8 x 3, not 8 x 4"),
        ("actions", jnp.zeros((BATCH, 7, 3)), "8 x 3, not 7 x 3"),
    ],
)
def test_wrong_shapes_are_named(params, arguments, name, value, words):
    with pytest.raises(ValueError, match=words):
        network()(params, {**arguments, name: value})
