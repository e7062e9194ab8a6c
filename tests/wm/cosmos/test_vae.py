"""The autoencoders are causal and of the published sizes; parity/ compares them with diffusers'."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.wm.cosmos.parity.case import random_tree
from tests.wm.cosmos.parity.vae_cases import TOKENIZER
from wm.cosmos.networks import tokenizer, vae, wavelets
from wm.cosmos.networks.config import TokenizerConfig, VAEConfig
from wm.cosmos.weights import keymaps

TINY = VAEConfig(base_dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1)


@pytest.mark.parametrize(
    ("slots", "count"),
    [
        (partial(keymaps.wan_vae, VAEConfig()), 126_892_531),
        (partial(keymaps.cosmos_tokenizer, TokenizerConfig()), 105_653_696),
    ],
)
@pytest.mark.parametrize("naming", ["diffusers", "original"])
def test_published_sizes(slots, count, naming):
    slots = slots(naming)
    assert sum(int(np.prod(slot.shape)) for slot in slots) == count
    assert len({slot.name for slot in slots}) == len(slots)


def test_names_of_the_published_files():
    wan = {slot.path: slot.name for slot in keymaps.wan_vae(VAEConfig(), "original")}
    assert wan["decoder/up_blocks_1/upsamplers_0/time_conv/kernel"] == "decoder.upsamples.7.time_conv.weight"
    assert wan["decoder/up_blocks_3/resnets_2/norm2/gamma"] == "decoder.upsamples.14.residual.3.gamma"
    assert wan["encoder/mid_block/attentions_0/to_qkv/bias"] == "encoder.middle.1.to_qkv.bias"
    cosmos = {slot.path: slot.name for slot in keymaps.cosmos_tokenizer(TokenizerConfig(), "original")}
    assert (
        cosmos["decoder/up_blocks_0/resnets_0/conv1/conv_t/bias"]
        == "decoder.up.2.block.0.conv1.1.conv3d.bias"
    )
    assert cosmos["encoder/mid_block/temp_attentions_0/norm/scale"] == "encoder.mid.attn_1.1.norm.norm.weight"


@pytest.mark.parametrize("naming", ["diffusers", "original"])
def test_a_tensor_comes_back_from_our_layout(naming):
    generator = np.random.default_rng(0)
    for slot in [*keymaps.wan_vae(TINY, naming), *keymaps.cosmos_tokenizer(TOKENIZER, naming)]:
        tensor = generator.standard_normal(slot.shape, np.float32)
        ours = keymaps.to_ours(slot, tensor)
        assert ours.shape == slot.leaf
        np.testing.assert_array_equal(keymaps.to_theirs(slot, ours), tensor)


@pytest.fixture(scope="module")
def tiny():
    """(variables, encode) of a VAE in which every parameter counts."""
    shapes = jax.eval_shape(partial(vae.initial_params, TINY), jax.random.key(0))
    return {"params": random_tree(shapes, 2)}, compiled("encode")


def compiled(way, dtype=jnp.float32):
    return jax.jit(partial(vae.WanVAE(TINY, dtype).apply, method=way))


def test_no_latent_depends_on_a_later_frame(tiny):
    variables, encode = tiny
    video = np.random.default_rng(0).uniform(-1, 1, (1, 9, 16, 8, 3)).astype(np.float32)
    changed = video.copy()
    changed[:, 5] *= -1  # the first frame of the third latent
    before, after = encode(variables, video), encode(variables, changed)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before[:, 2] - after[:, 2]).max() > 1e-3


def test_bfloat16_stays_near_float32_and_speaks_float32(tiny):
    variables, encode = tiny
    video = np.random.default_rng(1).uniform(-1, 1, (1, 9, 16, 8, 3)).astype(np.float32)
    low, exact = compiled("encode", jnp.bfloat16)(variables, video), encode(variables, video)
    assert low.dtype == jnp.float32
    assert 0 < np.abs(low - exact).max() < 0.1 * np.abs(exact).max()


def test_moments_are_the_latents_before_normalisation(tiny):
    variables, encode = tiny
    video = np.random.default_rng(1).uniform(-1, 1, (1, 9, 16, 8, 3)).astype(np.float32)
    mean, log_variance = compiled("moments")(variables, video)
    assert mean.shape == log_variance.shape == (1, 3, 2, 1, 16)
    latents = encode(variables, video)
    np.testing.assert_allclose(
        latents * np.array(TINY.latents_std) + np.array(TINY.latents_mean), mean, atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 4, 16, 16, 3), "1 frames of 16 x 16"),
        ((1, 5, 17, 16, 3), "5 frames of 16 x 16"),
        ((1, 5, 16, 16, 4), r"\(batch, frames, height, width, 3\)"),
        ((5, 16, 16, 3), r"\(batch, frames, height, width, 3\)"),
    ],
)
def test_a_video_of_the_wrong_shape_is_refused(shape, told):
    with pytest.raises(ValueError, match=told):
        vae.check_video(TINY, shape)


def test_wavelets_are_undone_exactly():
    video = np.random.default_rng(0).integers(-8, 8, (1, 9, 8, 16, 3)).astype(np.float32)
    bands = wavelets.to_wavelets(video, 4)
    assert bands.shape == (1, 3, 2, 4, 192)
    np.testing.assert_array_equal(wavelets.from_wavelets(bands, 4), video)
    # The mean of the first frame's first patch, scaled by 8^2 / 8^2: low bands in all directions come first.
    np.testing.assert_allclose(bands[0, 0, 0, 0, 0], video[0, 0, :4, :4, 0].mean(), rtol=1e-6)


def test_statistics_end_with_their_last_frame():
    with pytest.raises(ValueError, match="5 latent frames; this tokenizer's statistics are for 4"):
        tokenizer.statistics(TOKENIZER, 5)
