"""Either autoencoder by its configuration: the Wan2.1 VAE, or the tokenizer of Predict1."""

import jax
import jax.numpy as jnp

from wm.cosmos.networks import tokenizer, vae
from wm.cosmos.networks.config import TokenizerConfig, VAEConfig
from wm.cosmos.networks.tokenizer import CosmosTokenizer
from wm.cosmos.networks.vae import WanVAE


def module(config: VAEConfig | TokenizerConfig, dtype: jnp.dtype = jnp.float32) -> WanVAE | CosmosTokenizer:
    """The network, with methods `encode` and `decode` between video and normalised latents."""
    return (WanVAE if isinstance(config, VAEConfig) else CosmosTokenizer)(config, dtype)


def initial_params(config: VAEConfig | TokenizerConfig, key: jax.Array) -> dict:
    """Fresh float32 parameters; `jax.eval_shape` of it costs nothing."""
    return (vae if isinstance(config, VAEConfig) else tokenizer).initial_params(config, key)
