"""Training a video autoencoder of the Wan class from scratch; a small one takes minutes.

The released autoencoder is for real video and is never trained here. A `mini` model for other pictures gets
its own: reconstruction, a little Kullback-Leibler loss that keeps latents near unit scale and smooth, and
afterwards the per-channel statistics by which latents are normalised.
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.networks.config import VAEConfig
from wm.cosmos.networks.vae import WanVAE

KL_WEIGHT = 1e-4
FIGURE_WEIGHT = 8.0


def objective(model: WanVAE) -> Callable:
    """A `wm.cosmos.training.train.Objective` of batches uint8 (B, F, H, W, 3).

    Absolute and squared errors are averaged over pixels. Where a pixel differs from the first frame's median,
    which is the background's colour, they count 1 + `FIGURE_WEIGHT` times its distance: small things on a
    wide background otherwise cost next to nothing.
    """

    def losses(variables, frames: jax.Array, keys: jax.Array, mean_variables):
        del mean_variables
        video = frames.astype(jnp.float32) / 127.5 - 1.0
        mean, log_variance = model.apply(variables, video, method="moments")
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(keys)
        rebuilt = model.apply(variables, mean + jnp.exp(0.5 * log_variance) * noise, method="reconstruct")
        error = rebuilt - video
        background = jnp.median(video[:, :1], axis=(2, 3), keepdims=True)
        weight = 1.0 + FIGURE_WEIGHT * jnp.max(jnp.abs(video - background), -1, keepdims=True)
        axes = (1, 2, 3, 4)
        reconstruction = jnp.mean(weight * (jnp.abs(error) + error**2), axes)
        divergence = 0.5 * jnp.mean(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance, axes)
        metrics = {"mse": jnp.mean(error**2, axes), "kl": divergence}
        return reconstruction + KL_WEIGHT * divergence, metrics

    return losses


def with_statistics(config: VAEConfig, means: np.ndarray) -> VAEConfig:
    """`config` with mean and deviation of raw latents `means (..., Z)` over all but the last axis."""
    flat = np.asarray(means, np.float64).reshape(-1, means.shape[-1])
    std = np.maximum(flat.std(axis=0), 1e-3)
    return replace(config, latents_mean=tuple(flat.mean(axis=0).tolist()), latents_std=tuple(std.tolist()))


def psnr(frames: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each clip, uint8 (B, F, H, W, 3) both."""
    error = (frames.astype(np.float64) - rebuilt.astype(np.float64)) ** 2
    return 10.0 * np.log10(255.0**2 / np.maximum(error.mean(axis=(1, 2, 3, 4)), 1e-9))
