"""Generation: given frames come back untouched, chunks follow on one another, bad requests are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wm.cosmos.parity.case import random_tree
from wm.cosmos.networks import dit, vae
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.sampling.sample import SampleConfig, World, guided, rollout, sample

TINY = PRESETS["tiny"]
FEW = SampleConfig(steps=2)
SHAPE = (2, 3, 2, 4, 16)
GIVEN = jnp.array([[1, 0, 0], [1, 1, 0]], jnp.float32)


@pytest.fixture(scope="module")
def world():
    model = CosmosDiT(TINY.dit, TINY.action)
    shapes = jax.eval_shape(lambda: dit.init(model, jax.random.key(0)))
    coder = jax.eval_shape(lambda: vae.initial_params(TINY.vae, jax.random.key(0)))
    context = dit.empty_context(TINY.dit)[:, :4]
    return World(TINY, random_tree(shapes, 0), random_tree(coder, 1), context, dtype=jnp.float32)


def wave(noisy, times, mask, steps=None):
    times = times if times.ndim == 2 else times[:, None]
    return jnp.sin(3 * noisy) + times[:, :, None, None, None]


@pytest.mark.parametrize(
    ("parametrisation", "schedule"),
    [("flow", "shifted"), ("flow", "karras"), ("flow", "few"), ("rectified", "karras"), ("edm", "karras")],
)
def test_given_frames_come_back_untouched(parametrisation, schedule):
    known = jax.random.normal(jax.random.key(0), SHAPE)
    config = SampleConfig(steps=3, schedule=schedule, condition_time=1e-4)
    drawn = sample(wave, known, GIVEN, jax.random.key(1), config, parametrisation)
    is_given = np.asarray(GIVEN) > 0
    np.testing.assert_array_equal(drawn[is_given], known[is_given])
    assert jnp.isfinite(drawn).all()
    assert (jnp.abs(drawn - known)[~is_given].max() > 0.1).all()


@pytest.mark.parametrize("parametrisation", ["flow", "rectified", "edm"])
def test_what_is_not_given_in_known_does_not_matter(parametrisation):
    known = jax.random.normal(jax.random.key(0), SHAPE)
    other = jnp.where(GIVEN[:, :, None, None, None] > 0, known, 7.0)
    first, second = (
        sample(wave, clip, GIVEN, jax.random.key(1), SampleConfig(steps=3), parametrisation)
        for clip in (known, other)
    )
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_few_steps_are_told_to_the_network():
    seen = []

    def network(noisy, times, mask, steps):
        jax.debug.callback(lambda t, d: seen.append((float(t[0]), float(d[0]))), times, steps, ordered=True)
        return noisy

    config = SampleConfig(steps=4, schedule="few")
    sample(network, jnp.zeros(SHAPE), GIVEN, jax.random.key(0), config)
    jax.effects_barrier()
    assert seen == [(1.0, 0.25), (0.75, 0.25), (0.5, 0.25), (0.25, 0.25)]


def test_guidance_pushes_away_from_what_to_avoid():
    answer = guided(lambda x: x + 1.0, lambda x: x - 1.0, 0.5)
    assert answer(0.0) == 2.0


def test_rollout_goes_on_from_its_own_last_frame(world):
    generator = np.random.default_rng(2)
    start = generator.uniform(-1, 1, (1, 1, 16, 32, 3)).astype(np.float32)
    actions = generator.standard_normal((1, 8, 3), np.float32)
    chunks = list(rollout(world, start, actions, jax.random.key(2), FEW, frames=5))
    assert [chunk.shape for chunk in chunks] == [(1, 4, 16, 32, 3)] * 2
    # The second chunk is what the model makes of the first one's last frame.
    second = jax.random.split(jax.random.key(2), 2)[1]
    known = jnp.pad(world.encode(jnp.asarray(chunks[0][:, -1:])), ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0)))
    mask = jnp.array([[1.0, 0.0]])
    again = world.decode(world.draw(known, mask, jnp.asarray(actions[:, 4:]), second, FEW))
    np.testing.assert_allclose(chunks[1], again[:, 1:], atol=1e-5)


def test_several_frames_can_be_given(world):
    start = np.zeros((1, 5, 16, 32, 3), np.float32)
    actions = np.ones((1, 4, 3), np.float32)
    (chunk,) = rollout(world, start, actions, jax.random.key(0), FEW, frames=9)
    assert chunk.shape == (1, 4, 16, 32, 3)
    moved = next(rollout(world, start, 2 * actions, jax.random.key(0), FEW, frames=9))
    assert np.abs(chunk - moved).max() > 1e-4


def test_guidance_without_anything_to_avoid_is_refused(world):
    start, actions = np.zeros((1, 1, 16, 32, 3)), np.zeros((1, 4, 3))
    with pytest.raises(ValueError, match="what to avoid"):
        list(rollout(world, start, actions, jax.random.key(0), SampleConfig(guidance=1.0), frames=5))


@pytest.mark.parametrize(
    ("start", "actions", "options", "words"),
    [
        ((1, 1, 16, 32, 3), (1, 4, 2), {}, r"must be \(1, n, 3\)"),
        ((1, 1, 16, 32, 3), (1, 6, 3), {}, "a multiple of 4"),
        ((1, 1, 16, 32, 3), None, {"chunks": 1}, "takes actions of 3"),
        ((1, 1, 20, 32, 3), (1, 4, 3), {}, "multiples of 16"),
        ((1, 2, 16, 32, 3), (1, 4, 3), {}, "2 frames don't fit"),
        ((1, 5, 16, 32, 3), (1, 4, 3), {}, "nothing new"),
        ((1, 1, 16, 32, 3), (1, 4, 3), {"frames": 6}, "6 frames don't fit"),
    ],
)
def test_requests_that_do_not_fit_are_refused(world, start, actions, options, words):
    given = None if actions is None else np.zeros(actions, np.float32)
    with pytest.raises(ValueError, match=words):
        list(
            rollout(
                world, np.zeros(start, np.float32), given, jax.random.key(0), FEW, **{"frames": 5, **options}
            )
        )


def test_a_model_without_actions_takes_none(world):
    still = dataclasses.replace(world, config=dataclasses.replace(TINY, action=None))
    start = np.zeros((1, 1, 16, 32, 3), np.float32)
    with pytest.raises(ValueError, match="takes no actions"):
        list(rollout(still, start, np.zeros((1, 4, 3)), jax.random.key(0), FEW, frames=5))
    with pytest.raises(ValueError, match="how many chunks"):
        list(rollout(still, start, None, jax.random.key(0), FEW, frames=5))
    assert len(list(rollout(still, start, None, jax.random.key(0), FEW, frames=5, chunks=2))) == 2
