"""Autoencoder and reader on pictures: patches, scales, windows, and what is made of what they find."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wm.cosmos.scope import coder, reader
from wm.cosmos.scope.coder import CoderConfig, PictureCoder, Scale
from wm.cosmos.scope.hours import ScopeError
from wm.cosmos.scope.reader import Reader, ReaderConfig


def test_patches_are_put_together_again():
    pictures = jax.random.normal(jax.random.key(0), (2, 16, 24, 3))
    patches = coder.to_patches(pictures, 8)
    assert patches.shape == (2, 2, 3, 192)
    assert (patches[1, 1, 2].reshape(8, 8, 3) == pictures[1, 8:, 16:]).all()
    assert (coder.from_patches(patches, 8) == pictures).all()


def test_a_picture_that_cannot_be_cut_is_refused():
    with pytest.raises(ScopeError, match="multiples of 8"):
        coder.to_patches(jnp.zeros((1, 20, 16, 3)), 8)


def test_the_map_is_zero_and_aircraft_have_unit_deviation():
    still = np.broadcast_to(np.arange(4.0)[:, None, None], (4, 4, 2)).copy()
    raw = np.stack([still] * 5)
    raw[3, 1, 1] += (3.0, 4.0)
    scale = coder.scale_of(raw, np.zeros(5, int))
    assert (np.asarray(scale.background[0]) == still).all()
    assert np.asarray(scale.deviation) == pytest.approx([3.0, 4.0])
    normal = scale.normal(raw, np.zeros(5, int))
    assert np.abs(normal).sum() == pytest.approx(2.0)
    assert np.asarray(scale.raw(normal, np.zeros(5, int))) == pytest.approx(raw)


def test_latents_are_scaled_by_their_own_airport():
    scale = Scale(jnp.stack([jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1))]), jnp.full(1, 2.0))
    assert scale.normal(jnp.full((2, 1, 1, 1), 3.0), jnp.asarray([0, 1])).ravel().tolist() == [1.5, 1.0]


def test_the_coder_keeps_shapes():
    model = PictureCoder(CoderConfig(width=8, blocks=1))
    params = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    latents = model.apply(params, jnp.zeros((2, 16, 32, 3)), method="encode")
    assert latents.shape == (2, 2, 4, 16)
    assert model.apply(params, latents, method="decode").shape == (2, 16, 32, 3)


def test_windows_lie_around_the_rounded_place_and_are_black_outside():
    picture = jnp.arange(128.0 * 128).reshape(1, 128, 128, 1).repeat(3, -1)
    windows = reader.windows_at(picture, jnp.asarray([[[60.4, 70.6], [2.0, 3.0]]]))
    assert windows.shape == (1, 2, 64, 64, 3)
    assert windows[0, 0, 48, 32, 0] == 71 * 128 + 60  # the blip's own pixel
    assert windows[0, 0, 0, 0, 0] == (71 - 48) * 128 + (60 - 32)
    assert windows[0, 1, 0, 0, 0] == -1.0
    assert windows[0, 1, 48, 32, 0] == 3 * 128 + 2


def test_places_come_from_cells():
    cells = jnp.full((1, 4, 4, 3), -9.0).at[0, 2, 1].set(jnp.asarray([5.0, 0.5, -1.0]))
    score, place = reader._best(cells, 3)
    assert float(score[0, 0]) > 0.99 > 0.01 > float(score[0, 1])
    assert place[0, 0].tolist() == [4 + 2 + 0.5, 8 + 2 - 1.0]


def test_one_blip_seen_by_two_cells_is_one():
    places = jnp.asarray([[[10.0, 10.0], [11.0, 11.0], [14.0, 10.0]]])
    assert reader._first_of_its_place(places).tolist() == [[True, False, True]]


def test_the_right_cells_cost_nothing_and_wrong_ones_do():
    places = jnp.asarray([[[5.0, 9.5], [-1000.0, -1000.0]]])
    right = jnp.zeros((1, 8, 8, 3)).at[..., 0].set(-20.0).at[0, 2, 1].set(jnp.asarray([20.0, -1.0, -0.5]))
    assert float(reader._finding_loss(right, places)[0]) == pytest.approx(0.0, abs=1e-5)
    off = right.at[0, 2, 1, 1].set(1.0)
    assert float(reader._finding_loss(off, places)[0]) == pytest.approx(2.0, abs=1e-5)
    missed = right.at[0, 2, 1, 0].set(-20.0)
    assert float(reader._finding_loss(missed, places)[0]) == pytest.approx(5.0, abs=1e-4)


def test_reading_has_the_shapes_it_says():
    config = ReaderConfig(find_width=8, read_width=8, blips=5)
    model = Reader(config)
    params = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 3)))
    found = jax.jit(lambda p, x: reader.read(p, x, config))(params, jnp.zeros((2, 64, 64, 3)))
    assert found.place.shape == (2, 5, 2)
    assert found.callsign.shape == (2, 5, 8, 37)
    assert ((found.altitude_ft >= 0) & (found.altitude_ft <= 99_900)).all()
