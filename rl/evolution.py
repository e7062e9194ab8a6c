"""Evolution strategies: climb a return that is only known from episodes, by playing nearby parameters.

All candidates of a generation play the same episodes, so what they differ in is what their parameters do.
Source: Salimans et al. 2017, arXiv 1703.03864; the gradient by least squares instead of a weighted sum, since
there are fewer parameters than candidates. Letters: P parameters, K pairs of candidates.
"""

import jax
import jax.numpy as jnp
import numpy as np


def mirrored(key: jax.Array, pairs: int, size: int) -> jax.Array:
    """Normal directions `[2 K, P]`; the second half is the first, turned round."""
    one = jax.random.normal(key, (pairs, size), jnp.float32)
    return jnp.concatenate([one, -one])


def gradient(directions, returns, spread: float) -> np.ndarray:
    """The slope `[P]` of the mean return at the centre.

    directions `[2 K, P]` as `mirrored` gives them, in units of `spread`; returns `[2 K]` of the candidates
    there. What is even about the centre cancels within a pair. Fewer pairs than parameters leave some of
    them unknown, for which the smallest slope is taken.
    """
    half = np.asarray(directions, np.float64)[: len(directions) // 2]
    returns = np.asarray(returns, np.float64)
    difference = (returns[: len(half)] - returns[len(half) :]) / (2.0 * spread)
    return np.linalg.lstsq(half, difference, rcond=None)[0]


def ascended(centre, slope, length: float) -> np.ndarray:
    """The centre `[P]` moved by `length` up the slope; where there is none it stays."""
    norm = np.linalg.norm(slope)
    return np.asarray(centre, np.float64) + (length / norm * np.asarray(slope) if norm > 0 else 0.0)
