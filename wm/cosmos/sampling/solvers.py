"""Solving the sampling equation: schedules of noise levels, Euler's method and UniPC.

A state x = alpha c + s n mixes a clean clip c and noise n at level s. Rectified flow has alpha = 1 - s and
s from 1 to 0; EDM has alpha = 1 and s from sigma_max to 0. A solver asks a denoiser to
predict the clean clip from x, and moves from level to level. The denoiser knows what the network's answer
means, and which frames are given.

UniPC is the multistep predictor-corrector of Zhao et al. (2023), B2(h), second order, predicting the clean
clip. Its coefficients depend on the schedule alone: they are computed beforehand in float64, and the steps
run in one compiled loop.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.training.flow import Denoiser

Solver = Literal["euler", "unipc"]


# Schedules: levels [steps + 1] float64, falling, the last of them 0


def shifted_levels(steps: int, shift: float) -> np.ndarray:
    """Rectified flow: equal steps from 1, pushed toward noise by `shift`."""
    even = np.linspace(1.0, 1e-3, steps + 1)[:-1]
    return np.append(shift * even / (1 + (shift - 1) * even), 0.0)


def even_levels(steps: int) -> np.ndarray:
    """Rectified flow: equal steps from 1 to 0, as a model that knows its step size is trained."""
    return np.linspace(1.0, 0.0, steps + 1)


def karras_levels(steps: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> np.ndarray:
    """EDM (Karras et al., 2022): from `high` to `low`, evenly spaced in the power 1 / rho."""
    ramp = np.linspace(0.0, 1.0, steps)
    return np.append((high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho, 0.0)


def to_flow(levels: np.ndarray) -> np.ndarray:
    """EDM levels as those of rectified flow: sigma / (1 + sigma)."""
    return levels / (1 + levels)


# Solvers


def solve(
    denoise: Denoiser,
    x: jax.Array,
    levels: np.ndarray,
    key: jax.Array,
    solver: Solver = "unipc",
    rectified: bool = True,
) -> jax.Array:
    """Moves x from the first level to the last; one call of `denoise` per step.

    Args:
      denoise: see above.
      x: (B, ...) float32 at levels[0].
      levels: [steps + 1], falling to 0.
      key: split into one per step for denoisers that draw.
      solver: "euler" or "unipc".
      rectified: alpha = 1 - s; otherwise 1.
    """
    coefficients = euler_coefficients(levels) if solver == "euler" else unipc_coefficients(levels, rectified)
    falls = levels[:-1] - levels[1:]
    rows = (
        jnp.asarray(levels[:-1], jnp.float32),
        jnp.asarray(falls, jnp.float32),
        jnp.asarray(coefficients, jnp.float32),
        jax.random.split(key, len(falls)),
    )

    def step(carry, row):
        x, start, before, earlier = carry
        level, fall, (correct, predict), own_key = row
        clean = denoise(x, level, fall, own_key)
        terms = (x, start, earlier, before, clean)
        x = sum(weight * term for weight, term in zip(correct, terms, strict=True))
        terms = (x, x, earlier, before, clean)
        moved = sum(weight * term for weight, term in zip(predict, terms, strict=True))
        return (moved, x, clean, before), None

    blank = jnp.zeros_like(x)
    return jax.lax.scan(step, (x, x, blank, blank), rows)[0][0]


def euler_coefficients(levels: np.ndarray) -> np.ndarray:
    """[steps, 2, 5] of `solve`'s two sums: no correction, then a step along (x - clean) / level."""
    ratio = levels[1:] / levels[:-1]
    rows = np.zeros((len(ratio), 2, 5))
    rows[:, 0, 0] = 1.0
    rows[:, 1, 0] = ratio
    rows[:, 1, 4] = 1 - ratio
    return rows


def unipc_coefficients(levels: np.ndarray, rectified: bool) -> np.ndarray:
    """[steps, 2, 5] of `solve`'s two sums.

    The first corrects x, which was predicted before its denoised clip was known: weights of x, of the state
    that the last step began from, of the clean clips two steps ago, one step ago, and now. The second
    predicts the next state, from the corrected x in place of the second. Steps are of second order but the
    first and the last prediction.
    """
    with np.errstate(divide="ignore"):
        signal = 1 - levels if rectified else np.ones_like(levels)
        if rectified and levels[0] == 1.0:
            signal[0] = 1e-6  # its logarithm has to be finite
        half_snr = np.log(signal) - np.log(levels)
    steps = len(levels) - 1
    rows = np.zeros((steps, 2, 5))
    for i in range(steps):
        if i == 0:
            rows[i, 0, 0] = 1.0
        else:
            order = 2 if i > 1 else 1
            rows[i, 0] = _correction(levels, signal, half_snr, i, order)
        order = 2 if 0 < i < steps - 1 else 1
        rows[i, 1] = _prediction(levels, signal, half_snr, i, order)
    return rows


def _prediction(levels, signal, half_snr, i, order):
    """Weights of (x, -, clean two steps ago, one step ago, now) for the state at level i + 1."""
    h = half_snr[i + 1] - half_snr[i]
    growth = signal[i + 1] * -np.expm1(-h)
    weights = np.array([levels[i + 1] / levels[i], 0.0, 0.0, 0.0, growth])
    if order == 2:
        slope = 0.5 * growth / ((half_snr[i - 1] - half_snr[i]) / h)
        weights += [0.0, 0.0, 0.0, slope, -slope]
    return weights


def _correction(levels, signal, half_snr, i, order):
    """Weights of (x, start, clean two steps ago, one step ago, now) for the corrected state at level i."""
    h = half_snr[i] - half_snr[i - 1]
    growth = signal[i] * -np.expm1(-h)
    weights = np.array([0.0, levels[i] / levels[i - 1], 0.0, growth, 0.0])
    if order == 1:
        return weights + np.array([0.0, 0.0, 0.0, -0.5, 0.5]) * growth
    ratio = (half_snr[i - 2] - half_snr[i - 1]) / h
    unit = np.expm1(-h)
    first = unit / -h - 1
    second = first / -h - 0.5
    earlier, now = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], np.array([first, 2 * second]) / unit)
    earlier *= growth / ratio
    now *= growth
    return weights + np.array([0.0, 0.0, earlier, -earlier - now, now])
