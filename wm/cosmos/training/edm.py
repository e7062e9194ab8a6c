"""The EDM interface of Predict1 and Predict2: from the network's output to a clean clip, and their losses.

A state is x = c + sigma n. Predict2's network is a rectified flow behind that interface: it sees x / (1 +
sigma) at time sigma / (1 + sigma) and answers with a velocity. Predict1's follows Karras et al. (2022),
with latents scaled to deviation 0.5. Dimension letters as in `wm/cosmos/networks/dit.py`.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from wm.cosmos.training import flow
from wm.cosmos.training.flow import Denoiser, Network, given

Kind = Literal["rectified", "edm"]


@dataclass(frozen=True)
class EDMConfig:
    """How a model was trained and how it treats given frames.

    Attributes:
      kind: "rectified" (Predict2) or "edm" (Predict1).
      log_mean, log_std: of the normal that log sigma is drawn from, before clips of T latent frames multiply
        sigma by sqrt(T).
      low, high: limits of that draw.
      given_sigma: noise that given frames are said to have (Predict2), or get (Predict1).
    """

    kind: Kind
    log_mean: float
    log_std: float
    low: float
    high: float
    given_sigma: float

    @property
    def sigma_data(self) -> float:
        """Deviation that latents are scaled to."""
        return 1.0 if self.kind == "rectified" else 0.5


PREDICT2 = EDMConfig("rectified", 1.3862943611198906, 1.2, 0.01, 200.0, 1e-4)
PREDICT1 = EDMConfig("edm", 0.0, 1.0, 2e-4, 80.0, 1e-3)
CONFIGS: dict[Kind, EDMConfig] = {config.kind: config for config in (PREDICT1, PREDICT2)}


def scales(kind: Kind, sigma: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(skip, out, in, time) of `sigma`: clean = skip x + out network(in x, time)."""
    if kind == "rectified":
        time = sigma / (1 + sigma)
        return 1 - time, -time, 1 - time, time
    data = PREDICT1.sigma_data
    total = jnp.sqrt(sigma**2 + data**2)
    return (data / total) ** 2, sigma * data / total, 1 / total, 0.25 * jnp.log(sigma)


def denoiser(network: Network, known: jax.Array, condition_mask: jax.Array, config: EDMConfig) -> Denoiser:
    """Predicts the clean clip from a noisy one, with the frames of `known` that are given.

    Args:
      network: answers to (scaled clip, times, condition_mask).
      known: (B, T, H, W, C) clean latents, scaled by sigma_data; frames that aren't given don't matter.
      condition_mask: (B, T).
      config: which model.
    """

    def denoise(x, level, fall, key):
        del fall
        noise = jax.random.normal(key, known.shape) if config.kind == "edm" else None
        return clean(network, x, jnp.full(x.shape[:1], level), known, condition_mask, noise, config)

    return denoise


def clean(
    network: Network,
    x: jax.Array,
    sigma: jax.Array,
    known: jax.Array,
    condition_mask: jax.Array,
    noise: jax.Array | None,
    config: EDMConfig,
) -> jax.Array:
    """Denoised x (B, T, H, W, C) at sigma (B,), given frames as they are in `known`.

    Predict1 shows the network the given frames with a little of `noise`, as long as the clip itself has more.
    Predict2 shows them clean and says so in their times.
    """
    skip, out, into, time = (value[:, None, None, None, None] for value in scales(config.kind, sigma))
    time = time[:, 0, 0, 0, 0]
    if config.kind == "rectified":
        told = config.given_sigma / (1 + config.given_sigma)
        shown = given(condition_mask, known, x * into)
        times = flow.frame_times(time, condition_mask, told)
        answer = network(shown, times, condition_mask)
        return given(condition_mask, known, skip * x + out * answer)
    still_given = jnp.where(config.given_sigma < sigma[:, None], condition_mask, 0.0)
    own_scale = scales("edm", jnp.asarray(config.given_sigma))[2]
    shown = given(still_given, (known + config.given_sigma * noise) * own_scale, x * into)
    answer = network(shown, time, condition_mask)
    return given(still_given, known, skip * x + out * answer)


def draw_sigmas(keys: jax.Array, frames: int, config: EDMConfig) -> jax.Array:
    """Noise levels (B,) from keys (B,), for clips of `frames` latent frames."""
    normal = jax.vmap(jax.random.normal)(keys)
    sigma = jnp.exp(config.log_mean + config.log_std * normal)
    return jnp.clip(sigma, config.low, config.high) * frames**0.5


def losses(
    network: Network, latents: jax.Array, condition_mask: jax.Array, keys: jax.Array, config: EDMConfig
) -> jax.Array:
    """Loss (B,) of each clip: squared error of the clean clip, weighted so that the network's own is even.

    Arguments as those of `wm.cosmos.training.flow.losses`; latents aren't scaled yet.
    """
    sigma_keys, noise_keys, given_keys = flow.split_keys(keys, 3)
    known = latents.astype(jnp.float32) * config.sigma_data
    sigma = draw_sigmas(sigma_keys, latents.shape[1], config)
    x = known + sigma[:, None, None, None, None] * flow.draw_noise(noise_keys, latents.shape[1:])
    own_noise = flow.draw_noise(given_keys, latents.shape[1:]) if config.kind == "edm" else None
    guess = clean(network, x, sigma, known, condition_mask, own_noise, config)
    weight = 1 / jnp.square(scales(config.kind, sigma)[1])
    return weight * flow.frame_mean(jnp.square(guess - known), condition_mask)
