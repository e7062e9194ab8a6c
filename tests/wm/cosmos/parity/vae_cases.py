"""The autoencoders against diffusers': the Wan2.1 VAE, and the CV8x8x8 tokenizer of Predict1.

Narrow networks of the same classes as the published ones, clips of 1, 5, 9 and 17 frames, pictures that are
not square. Latents are compared as a transformer sees them: normalised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.wm.cosmos.parity.case import Arrays, Case, random_tree
from wm.cosmos.networks import tokenizer, vae
from wm.cosmos.networks.config import TokenizerConfig, VAEConfig
from wm.cosmos.weights import keymaps

WAN = VAEConfig(base_dim=8, num_res_blocks=1)
# Attention at the lower level too, which the published tokenizer has only in the middle.
TOKENIZER = TokenizerConfig(
    encoder_block_out_channels=(8, 8, 16, 16),
    decode_block_out_channels=(8, 8, 16, 16),
    attention_resolutions=(128,),
    num_layers=1,
    latents_mean=tuple(np.linspace(-1, 1, 16 * 4)),
    latents_std=tuple(np.linspace(0.5, 2, 16 * 4)),
)
CLIPS = {1: (2, 16, 24), 5: (1, 24, 16), 9: (1, 16, 24), 17: (1, 16, 8)}  # frames: batch, height, width


@dataclass(frozen=True)
class Autoencoder:
    """One of the two, and its original: an uninitialised torch module that numbers of `slots` go into."""

    model: Any
    shapes: Any
    slots: list[keymaps.Slot]
    original: Callable[[], Any]
    statistics: Callable[[int], tuple[jax.Array, jax.Array]]  # of so many latent frames

    def params(self):
        """Random parameters; the last layer's are small, so that few pixels are clipped."""
        params = random_tree(self.shapes, 1)
        last = params["decoder"]["conv_out"]
        params["decoder"]["conv_out"] = jax.tree.map(lambda x: 0.2 * x, last)
        return params

    def torch_model(self):
        """The original with the same parameters."""
        import torch

        leaves = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_flatten_with_path(self.params())[0]
        }
        state = {s.name: torch.from_numpy(keymaps.to_theirs(s, leaves[s.path])) for s in self.slots}
        model = self.original().eval()
        model.load_state_dict(state, strict=True)
        return model


def cases() -> dict[str, Case]:
    """Every row of the table that is about an autoencoder."""
    rows = {}
    for name, make in (("wan_vae", _wan), ("cosmos_tokenizer", _cosmos)):
        for frames in CLIPS:
            for way in ("encode", "decode"):
                rows[f"{name}_{way}_{frames}"] = Case(
                    partial(_ours, make, way, frames), partial(_theirs, make, way, frames)
                )
    return rows


def _wan() -> Autoencoder:
    def original():
        from diffusers import AutoencoderKLWan

        return AutoencoderKLWan(base_dim=WAN.base_dim, num_res_blocks=WAN.num_res_blocks)

    shapes = jax.eval_shape(partial(vae.initial_params, WAN), jax.random.key(0))
    mean, std = jnp.array(WAN.latents_mean), jnp.array(WAN.latents_std)
    slots = keymaps.wan_vae(WAN, "diffusers")
    return Autoencoder(vae.WanVAE(WAN), shapes, slots, original, lambda frames: (mean, std))


def _cosmos() -> Autoencoder:
    def original():
        from diffusers import AutoencoderKLCosmos

        names = ("encoder_block_out_channels", "decode_block_out_channels", "attention_resolutions")
        options = {name: getattr(TOKENIZER, name) for name in (*names, "num_layers")}
        return AutoencoderKLCosmos(**options)

    shapes = jax.eval_shape(partial(tokenizer.initial_params, TOKENIZER), jax.random.key(0))
    slots = keymaps.cosmos_tokenizer(TOKENIZER, "diffusers")
    statistics = partial(tokenizer.statistics, TOKENIZER)
    return Autoencoder(tokenizer.CosmosTokenizer(TOKENIZER), shapes, slots, original, statistics)


def _input(make: Callable[[], Autoencoder], way: str, frames: int) -> np.ndarray:
    """A random video, or random latents of about unit variance for as many frames."""
    batch, height, width = CLIPS[frames]
    generator = np.random.default_rng(frames)
    if way == "encode":
        return generator.uniform(-1, 1, (batch, frames, height, width, 3)).astype(np.float32)
    ratio = make().model.config.temporal_compression
    shape = (batch, 1 + (frames - 1) // ratio, height // 8, width // 8, 16)
    return generator.standard_normal(shape, np.float32)


def _ours(make: Callable[[], Autoencoder], way: str, frames: int) -> Arrays:
    model = make()
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(partial(model.model.apply, method=way))
        return [np.asarray(apply({"params": model.params()}, _input(make, way, frames)))]


def _theirs(make: Callable[[], Autoencoder], way: str, frames: int) -> Arrays:
    import torch

    model, x = make(), _input(make, way, frames)
    network = model.torch_model()
    with torch.no_grad():
        if way == "encode":
            latents = network.encode(_channels_first(x)).latent_dist.mode()
            latents = _channels_last(latents)
            mean, std = model.statistics(latents.shape[1])
            return [(latents - np.asarray(mean)) / np.asarray(std)]
        mean, std = model.statistics(x.shape[1])
        raw = x * np.asarray(std) + np.asarray(mean)
        return [_channels_last(network.decode(_channels_first(raw)).sample)]


def _channels_first(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def _channels_last(x) -> np.ndarray:
    return np.moveaxis(x.numpy(), 1, -1)
