"""An autoencoder for pictures of the scope: 16 numbers for every 8 x 8 pixels, as Wan's has for a frame.

Text is drawn in strokes of one pixel, so a patch goes through at once and never at a lower resolution. Noise
is added to the latents while it learns; what is drawn by a model later errs by as much.

Latents are kept relative to the map: `Scale` holds the latents of each airport's picture without aircraft,
which come out as zeros, and one deviation per channel of what aircraft change.

Letters: B pictures, H W pixels, h w latent rows and columns (H / 8, W / 8), Z numbers of a latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from wm.cosmos.networks.dit import unpatchify
from wm.cosmos.networks.vae import ChannelNorm, Conv, pointwise
from wm.cosmos.scope.hours import ScopeError

PATCH = 8  # pixels along a latent's side
FIGURE_WEIGHT = 8.0
SPREAD_WEIGHT = 5e-3  # keeps latents near unit deviation, against their noise


@dataclass(frozen=True)
class CoderConfig:
    """Sizes: channels between the patches, residual blocks on each side, numbers of a latent.

    `noise` is the deviation of what is added to the latents in training, which have about unit deviation.
    """

    width: int = 256
    blocks: int = 3
    latent: int = 16
    noise: float = 0.2


class Residual(nn.Module):
    """Two normed 3 x 3 convolutions beside a shortcut, (B, h, w, C) -> the same."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x
        for number in (1, 2):
            h = nn.gelu(ChannelNorm(self.dtype, name=f"norm{number}")(h))
            h = Conv(x.shape[-1], dtype=self.dtype, name=f"conv{number}")(h)
        return x + h


class PictureCoder(nn.Module):
    """Pictures in [-1, 1] to raw latents and back; `dtype` is that of the products.

    latents = model.apply({"params": params}, pictures, method="encode")
    """

    config: CoderConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        width, blocks = self.config.width, range(self.config.blocks)
        self.patch_in = pointwise(width, self.dtype)
        self.encoder = [Residual(self.dtype) for _ in blocks]
        self.to_latent = pointwise(self.config.latent, jnp.float32)
        self.from_latent = pointwise(width, self.dtype)
        self.decoder = [Residual(self.dtype) for _ in blocks]
        self.patch_out = pointwise(3 * PATCH**2, jnp.float32)

    def encode(self, pictures: jax.Array) -> jax.Array:
        """(B, H, W, 3) -> (B, h, w, Z) float32."""
        x = self.patch_in(to_patches(pictures, PATCH))
        for block in self.encoder:
            x = block(x)
        return self.to_latent(x)

    def decode(self, latents: jax.Array) -> jax.Array:
        """(B, h, w, Z) -> (B, H, W, 3) float32, not limited to [-1, 1]."""
        x = self.from_latent(latents)
        for block in self.decoder:
            x = block(x)
        return from_patches(self.patch_out(x), PATCH)

    def __call__(self, pictures: jax.Array) -> jax.Array:
        return self.decode(self.encode(pictures))


def to_patches(pictures: jax.Array, side: int) -> jax.Array:
    """(B, H, W, C) -> (B, H / side, W / side, side² C). Raises ScopeError for sides that don't divide."""
    batch, height, width, channels = pictures.shape
    if height % side or width % side:
        raise ScopeError(f"pictures of {height} x {width} px can't be cut: sides must be multiples of {side}")
    x = pictures.reshape(batch, height // side, side, width // side, side, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // side, width // side, -1)


def from_patches(x: jax.Array, side: int) -> jax.Array:
    """Inverse of `to_patches`."""
    batch, rows, columns, numbers = x.shape
    return unpatchify(side, x.reshape(batch, 1, rows * columns, numbers), rows, columns)[:, 0]


def shown(indices: jax.Array, palette: jax.Array) -> jax.Array:
    """Palette indices (...) uint8 as colours (..., 3) float32 in [-1, 1]."""
    return jnp.asarray(palette, jnp.float32)[indices.astype(jnp.int32)] / 127.5 - 1.0


def objective(model: PictureCoder, palette: np.ndarray) -> Callable:
    """A `wm.cosmos.training.train.Objective` of crops uint8 (B, H, W) of palette indices.

    A pixel counts 1 + `FIGURE_WEIGHT` times its distance from the crop's median colour: text and blips are a
    fiftieth of a picture.
    """

    def losses(variables, crops: jax.Array, keys: jax.Array, mean_variables):
        del mean_variables
        pictures = shown(crops, palette)
        latents = model.apply(variables, pictures, method="encode")
        noise = jax.vmap(lambda key: jax.random.normal(key, latents.shape[1:]))(keys)
        rebuilt = model.apply(variables, latents + model.config.noise * noise, method="decode")
        error = rebuilt - pictures
        middle = jnp.median(pictures, axis=(1, 2), keepdims=True)
        weight = 1.0 + FIGURE_WEIGHT * jnp.max(jnp.abs(pictures - middle), -1, keepdims=True)
        axes = (1, 2, 3)
        spread = jnp.mean(latents**2, axes)
        loss = jnp.mean(weight * (jnp.abs(error) + error**2), axes) + SPREAD_WEIGHT * spread
        return loss, {"mse": jnp.mean(error**2, axes), "spread": spread}

    return losses


@struct.dataclass
class Scale:
    """By what latents are normalised: `background` (A, h, w, Z) of each airport, `deviation` (Z,)."""

    background: jax.Array
    deviation: jax.Array

    def normal(self, raw: jax.Array, airport: jax.Array) -> jax.Array:
        """Raw latents (..., h, w, Z) of the airports with these numbers (...) as a model sees them."""
        return (raw - jnp.asarray(self.background)[airport]) / self.deviation

    def raw(self, normal: jax.Array, airport: jax.Array) -> jax.Array:
        """Inverse of `normal`."""
        return normal * self.deviation + jnp.asarray(self.background)[airport]


CHANGED = 0.1  # a latent that differs by more from the map's shows something of an aircraft


def scale_of(raw: np.ndarray, airport: np.ndarray) -> Scale:
    """The scale of training latents raw (N, h, w, Z) of airports numbered (N,).

    The map is the median over an airport's pictures; the deviation that of the latents which aircraft change.
    """
    maps = np.stack([np.median(raw[airport == a], 0) for a in range(airport.max() + 1)]).astype(np.float32)
    apart = raw.astype(np.float32) - maps[airport]
    moved = apart[np.abs(apart).max(-1) > CHANGED]
    if not len(moved):
        raise ScopeError("no picture shows an aircraft: give hours with traffic")
    return Scale(maps, np.maximum(np.sqrt((moved**2).mean(0)), 1e-3))
