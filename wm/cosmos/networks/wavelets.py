"""Haar wavelets of a video in space and time, and their inverse."""

import jax
import jax.numpy as jnp


def to_wavelets(video: jax.Array, patch: int) -> jax.Array:
    """Video (B, F, H, W, 3) -> (B, (F + P - 1) / P, H / P, W / P, 3 P^3), lowest frequencies first.

    P is `patch`, a power of two; the first frame is repeated P times, so that it fills a patch.
    """
    x = jnp.concatenate([jnp.repeat(video[:, :1], patch, axis=1), video[:, 1:]], axis=1)
    for _ in range(patch.bit_length() - 1):
        x = _bands(_bands(_bands(x, 3), 2), 1) / 8
    return x


def from_wavelets(x: jax.Array, patch: int) -> jax.Array:
    """Inverse of `to_wavelets`."""
    for _ in range(patch.bit_length() - 1):
        x = _unbands(_unbands(_unbands(x, 1), 2), 3)
    return x[:, patch - 1 :]


def _bands(x: jax.Array, axis: int) -> jax.Array:
    """Sums, then differences of neighbours along `axis`, side by side in the channels."""
    even, odd = (jax.lax.slice_in_dim(x, start, None, 2, axis) for start in range(2))
    return jnp.concatenate([even + odd, even - odd], axis=-1)


def _unbands(x: jax.Array, axis: int) -> jax.Array:
    """Neighbours along `axis` again, from half their sums and differences."""
    total, difference = jnp.split(x, 2, axis=-1)
    pairs = jnp.stack([total + difference, total - difference], axis=axis + 1)
    shape = list(total.shape)
    shape[axis] *= 2
    return pairs.reshape(shape)
