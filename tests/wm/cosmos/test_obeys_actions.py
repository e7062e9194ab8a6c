"""A tiny model learns, from nothing, to do what the actions say; adapters teach it the opposite.

Its world is made of latents directly, on a grid of 4 x 4: in half of the channels a bump that each latent
frame moves by the sum of its four actions, in the others one that is anywhere in every frame, told to nobody.
Training takes about a minute on two idle cores.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.cosmos import LoRAConfig, OptimizerConfig
from wm.cosmos.networks import dit, lora
from wm.cosmos.networks.config import ActionConfig, DiTConfig
from wm.cosmos.sampling.sample import SampleConfig, sample
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.objective import Clips
from wm.cosmos.training.shortcut import ShortcutConfig
from wm.cosmos.training.train import Batch, Trainer

pytestmark = pytest.mark.slow

FRAMES, SIZE, STEPS, ROWS = 3, 4, 900, 32
OWN = 8  # channels of the commanded bump
# Wider than a patch's 64 numbers: narrower, the noise that the network has to name wouldn't fit through.
CONFIG = DiTConfig(width=96, blocks=2, heads=2, mlp_ratio=2, adaln_rank=16, context_width=8, step_hidden=32)
MODEL = dit.CosmosDiT(CONFIG, ActionConfig(2, hidden=64), jnp.float32)
CLIPS = Clips(MODEL, jnp.zeros((1, 1, 8)))
FLOW = FlowConfig(shift=1.0)
OPTIMIZER = OptimizerConfig(
    learning_rate=3e-3,
    action_learning_rate_scale=1.0,
    warmup=50,
    steps=STEPS,
    compute="float32",
    moments="float32",
    ema="float32",
    ema_decay=0.98,
)


def world(key, count, sign=1.0):
    """Clips of a bump that starts somewhere and moves as its actions say, times `sign`, and of another."""
    key_start, key_move, key_other = jax.random.split(key, 3)
    start = jax.random.uniform(key_start, (count, 1, 2), minval=0.8, maxval=2.2)
    moves = jax.random.uniform(key_move, (count, FRAMES - 1, 2), minval=-0.7, maxval=0.7)
    own = bumps(jnp.concatenate([start, start + sign * jnp.cumsum(moves, 1)], 1))
    other = bumps(jax.random.uniform(key_other, (count, FRAMES, 2), minval=0.0, maxval=3.0))
    latents = jnp.concatenate([jnp.repeat(each[..., None], OWN, -1) for each in (own, other)], -1)
    return Batch(latents, jnp.repeat(moves, 4, axis=1) / 0.4)


def bumps(places):
    """Pictures (..., SIZE, SIZE) of bumps at places (..., 2)."""
    cells = jnp.arange(SIZE, dtype=jnp.float32)
    squares = [(cells - places[..., axis, None]) ** 2 for axis in (0, 1)]
    return 2 * jnp.exp(-(squares[1][..., :, None] + squares[0][..., None, :]) / 1.5) - 0.5


def positions(latents):
    """Where the commanded bump is, in cells, by its centroid."""
    weight = jnp.clip(latents[..., :OWN].mean(-1) + 0.5, 0.0) ** 2
    cells = jnp.arange(SIZE, dtype=jnp.float32)
    total = weight.sum((2, 3))
    return jnp.stack([(weight.sum(2) * cells).sum(2), (weight.sum(3) * cells).sum(2)], -1) / total[..., None]


def contrast(latents):
    """How much of a bump there is in the channels of the other one, in the frames that were drawn."""
    return float(jnp.mean(jnp.var(latents[:, 1:, ..., OWN:].mean(-1), axis=(2, 3))))


def trained(state, trainer, frozen, steps, sign=1.0):
    """Train on fresh clips in one compiled loop; (state, losses [steps])."""

    def step(state, key):
        key_world, key_noise = jax.random.split(key)
        batch = world(key_world, ROWS, sign)
        state, _, metrics = trainer.update(state, batch, jax.random.split(key_noise, ROWS), frozen)
        return state, metrics["loss"]

    # This computes for longer than it compiles, unlike what tests/conftest.py chooses its options for.
    optimised = {"xla_backend_optimization_level": 1}
    train = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys), compiler_options=optimised)
    return train(state, jax.random.split(jax.random.key(7), steps))


@cache
def learned():
    """(trainer, variables) of a model that learned the world, by flow and by steps."""
    trainer = Trainer(CLIPS.shortcut_objective(ShortcutConfig(0.3, doublings=4, flow=FLOW)), OPTIMIZER)
    params = jax.jit(partial(dit.init, MODEL))(jax.random.key(0))
    state, losses = trained(trainer.init({"params": params}), trainer, {}, STEPS)
    assert losses[-50:].mean() < 0.25 * losses[:10].mean()
    return trainer.variables(state.ema, {})


@partial(jax.jit, static_argnames="how")
def drawn(variables, batch, how):
    network = CLIPS.network(variables, batch.actions)
    mask = CLIPS.mask(*batch.latents.shape[:2])
    return sample(network, batch.latents, mask, jax.random.key(3), how)


def error(variables, batch, true, how):
    """Mean distance in cells from where the bump of `true` is, over the frames that were drawn."""
    found = positions(drawn(variables, batch, how))
    return float(jnp.linalg.norm(found - positions(true), axis=-1)[:, 1:].mean())


LONG = SampleConfig(20, shift=1.0)


def test_exchanged_actions_lead_somewhere_else():
    batch = world(jax.random.key(11), 64)
    other = batch.replace(actions=jnp.roll(batch.actions, 1, axis=0))
    true, exchanged = (error(learned(), each, batch.latents, LONG) for each in (batch, other))
    assert exchanged > 2 * true  # ignored actions: 1; with longer training and finer pictures: the record


def test_given_frame_comes_back_and_pictures_are_bumps():
    batch = world(jax.random.key(12), 64)
    latents = drawn(learned(), batch, LONG)
    np.testing.assert_array_equal(latents[:, 0], batch.latents[:, 0])
    own, true = latents[..., :OWN], batch.latents[..., :OWN]
    assert float(jnp.mean((own - true) ** 2)) < 0.5 * float(jnp.var(true))


def test_one_learned_step_shows_a_future_where_one_plain_step_shows_their_average():
    """The step is right where actions say what comes, and decides where nothing does."""
    batch = world(jax.random.key(13), 128)
    learned_step, plain_step = SampleConfig(1, "euler", "few"), SampleConfig(1, shift=1.0)
    with_learned, with_plain = (drawn(learned(), batch, how) for how in (learned_step, plain_step))
    assert 1.25 * contrast(with_plain) < contrast(with_learned) < contrast(batch.latents)
    assert error(learned(), batch, batch.latents, learned_step) < 0.25
    assert error(learned(), batch, batch.latents, SampleConfig(4, "euler", "few")) < 0.2


def test_adapters_learn_the_opposite_of_what_the_actions_did():
    """In a world where every action does the reverse, adapters and the action path learn it; W stays."""
    adapters = LoRAConfig(rank=8)
    divided, frozen = lora.divide(learned()["params"], adapters, jax.random.key(5))
    trainer = Trainer(CLIPS.flow_objective(FLOW), OPTIMIZER, adapters)
    state, _ = trained(trainer.init(divided), trainer, frozen, 200, sign=-1.0)
    batch = world(jax.random.key(14), 64, sign=-1.0)
    merged = {"params": lora.merge(trainer.variables(state.ema, frozen))}
    before, after = (error(each, batch, batch.latents, LONG) for each in (learned(), merged))
    assert after < before / 2
    with_adapters = drawn(trainer.variables(state.ema, frozen), batch, LONG)
    np.testing.assert_allclose(drawn(merged, batch, LONG), with_adapters, atol=1e-3)
