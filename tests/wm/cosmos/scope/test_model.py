"""The pixel model takes commands from the aircraft present alone; windows are an index into latents."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wm.cosmos.sampling.sample import SampleConfig
from wm.cosmos.scope import commands, hours, model
from wm.cosmos.scope.commands import FEATURES, Statistics, Told
from wm.cosmos.scope.model import AircraftTokens, Learning, ScopeConfig, ScopeModel, Windows

RECORDED = Path(__file__).parent / "data" / "kabq-1000.npz"
SMALL = ScopeConfig(
    width=24, blocks=1, heads=2, adaln_rank=4, context_width=16, pooled=4, marks=4, side=4, latent=2
)


def told(key: int, present=(True, True, False)) -> Told:
    rows = jax.random.normal(jax.random.key(key), (1, 3, len(FEATURES)))
    place = jnp.asarray([[[0.2, 0.3], [0.8, 0.6], [0.5, 0.5]]])
    return Told(rows, place, place, jnp.ones((1, 3, 8), jnp.int32), jnp.asarray([present]))


def perturbed(params):
    """Every parameter away from its zero initialisation."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def test_nobodys_numbers_do_not_matter():
    network = AircraftTokens(SMALL)
    params = perturbed(network.init(jax.random.key(0), told(0)))
    one, other = told(0), told(1)
    mixed = one.replace(features=one.features.at[:, 2].set(other.features[:, 2]))
    for a, b in zip(network.apply(params, one), network.apply(params, mixed), strict=True):
        assert (a == b).all()
    changed = one.replace(features=one.features.at[:, 1].set(other.features[:, 1]))
    assert not (network.apply(params, one)[1] == network.apply(params, changed)[1]).all()


def test_the_chart_says_whose_block_a_latent_may_show_and_how_far_off():
    marks = jnp.asarray([[[2.0], [3.0]]])
    place = jnp.asarray([[[0.5, 0.75], [0.5, 0.75]]])  # of 32 latents: 16 from the left, 24 from the top
    glyphs = jnp.zeros((1, 2, 8, 1)).at[0, 0, 2].set(1.0)
    laid = model.chart(marks, glyphs, place, jnp.asarray([[True, False]]), 32)
    laid = np.asarray(laid[0])
    assert laid.shape == (32, 32, 1 + 1 + 4 * len(model.WAVELENGTHS) + 3)
    shows = np.argwhere(laid[..., 1] > 0)
    assert (shows.min(0).tolist(), shows.max(0).tolist()) == ([17, 11], [27, 20])
    assert set(np.unique(laid[..., 0])) == {0.0, 2.0}
    waves = 2 + 2 * len(model.WAVELENGTHS)
    # The third letter's middle is 10.6 px left of the blip, in the latent from 8 to 16 px left of it.
    assert np.unravel_index(laid[..., -2].argmax(), (32, 32))[1] == 14
    assert laid[20, 18, 2:waves] == pytest.approx(np.asarray(model.waves(jnp.asarray(2.5))), abs=1e-5)
    assert laid[20, 18, waves:-3] == pytest.approx(np.asarray(model.waves(jnp.asarray(-3.5))), abs=1e-5)


def test_the_velocity_leads_to_what_the_network_says():
    network = ScopeModel(SMALL, jnp.float32)
    params = model.init(SMALL, jax.random.key(0))  # which says nothing: the empty map
    latents = jax.random.normal(jax.random.key(1), (1, 3, 4, 4, 2))
    velocity = network.apply({"params": params}, latents, jnp.asarray([0.5]), told(0), model.mask(1))
    assert np.asarray(latents - 0.5 * velocity) == pytest.approx(np.zeros(latents.shape), abs=1e-6)


def test_commands_reach_the_drawn_picture():
    network = ScopeModel(SMALL, jnp.float32)
    params = perturbed(model.init(SMALL, jax.random.key(0)))
    known = jax.random.normal(jax.random.key(1), (1, 2, 4, 4, 2))
    draw = jax.jit(
        lambda told: model.draw(
            network, {"params": params}, known, told, jax.random.key(2), SampleConfig(2, shift=3.0)
        )
    )
    assert draw(told(0)).shape == (1, 4, 4, 2)
    assert not np.allclose(draw(told(0)), draw(told(3)))


def test_what_changes_counts_more_and_weights_have_mean_one():
    latents = jnp.zeros((1, 3, 4, 4, 2)).at[0, 1, 0, 0, 0].set(1.0).at[0, 2, 3, 3, 1].set(-1.0)
    weights = model.weights_of(latents, Learning(still=0.1))[0, 2, ..., 0]
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[0, 0] / weights[1, 1]) == pytest.approx(10.0)  # somebody was there
    assert float(weights[3, 3] / weights[1, 1]) == pytest.approx(10.0)  # somebody comes there


@pytest.fixture(scope="module")
def windows():
    hour = hours.load(RECORDED, "train")
    latents = np.arange(12.0, dtype=np.float32).reshape(12, 1, 1, 1) * np.ones((1, 4, 4, 2), np.float32)
    return Windows.of([hour, hour], latents, 32)


def test_a_window_is_three_pictures_of_one_hour(windows):
    assert windows.rows.tolist() == [1, 2, 3, 4, 7, 8, 9, 10]
    chosen = np.asarray([0, 3, 4])
    window = windows.window(chosen, windows.told(chosen))
    assert window.latents[..., 0, 0, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_silent_windows_have_nobody(windows):
    statistics = Statistics.fit(windows.told(np.arange(8)))
    silent = windows.draw(np.random.default_rng(0), 16, statistics, 0.999)
    spoken = windows.draw(np.random.default_rng(0), 16, statistics, 0.0)
    assert not silent.told.present.any()
    assert spoken.told.present.any(-1).all()
    assert np.abs(spoken.told.features).max() < 20.0


def test_overlaid_windows_tell_nothing_by_numbers(windows):
    drawn = dataclasses.replace(windows, overlaid=-np.ones((8, 4, 4, 2), np.float32))
    statistics = Statistics.fit(windows.told(np.arange(8)))
    spoken = drawn.draw(np.random.default_rng(0), 4, statistics, 0.0)
    assert not spoken.told.present.any()
    assert (spoken.latents[:, 1] == -1).all()
    assert (spoken.latents[:, [0, 2]] >= 0).all()
    silent = drawn.draw(np.random.default_rng(0), 4, statistics, 0.999)
    assert (silent.latents >= 0).all()


def test_exchanged_windows_keep_places(windows):
    chosen = np.arange(4)
    own, other = windows.told(chosen), windows.exchanged().told(chosen)
    assert (own.place == other.place).all()
    turn = commands.FEATURES.index("turn")
    assert not np.allclose(own.features[..., turn], other.features[..., turn])
