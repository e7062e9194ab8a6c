"""Generalised advantage estimation with correct truncation.

Shapes: T time, E environments. A step t goes from obs_t to the true next observation, final_t. gymnax resets
automatically, so obs_{t+1} is final_t except where the episode ended at t; there it belongs to a new episode.

Source: Schulman et al. 2016, arXiv 1506.02438, with the bootstrap rule of Pardo et al. 2018, arXiv
1712.00378.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def gae(reward, value, next_value, terminated, truncated, gamma: float, lam: float):
    """Advantages (T, E) float32.

    delta_t = r_t + gamma (1 - terminated_t) V(final_t) - V(obs_t)
    A_t     = delta_t + gamma lam (1 - (terminated_t or truncated_t)) A_{t+1}

    A time limit cuts the trace but keeps the bootstrap; where both flags are set, termination wins.
    Arguments are (T, E); `next_value` is V(final_t), see `next_values`.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    keep = gamma * lam * (1.0 - (terminated | truncated))

    def backwards(later, step):
        delta_t, keep_t = step
        advantage = delta_t + keep_t * later
        return advantage, advantage

    _, advantages = jax.lax.scan(backwards, jnp.zeros_like(delta[0]), (delta, keep), reverse=True)
    return advantages


def next_values(value, last_value, final_value, truncated):
    """V(final_t), (T, E), from what a rollout has anyway.

    value (T, E) is V(obs_t), last_value (E,) is V(obs_T), final_value (T, E) is right only where `truncated`.
    Rows that only terminated get the value of the next episode's start, which `gae` multiplies by zero.
    """
    following = jnp.concatenate([value[1:], last_value[None]])
    return jnp.where(truncated, final_value, following)


def final_values(
    value_of: Callable[[Any], jax.Array], final_observation: Any, needed: jax.Array, capacity: int
):
    """V(final_observation) (E,) where `needed` (E,) is set, zero elsewhere.

    Few of thousands of environments end on the same step, as a rule. The critic then runs on their rows
    alone, gathered into a batch of `capacity`. Where more end together, it runs on all rows. Both ways give
    the same values. Do not vmap this function: both would then be computed.
    """

    def few(observation):
        rows = jnp.nonzero(needed, size=capacity, fill_value=0)[0]
        values = value_of(jax.tree.map(lambda leaf: leaf[rows], observation))
        return jnp.zeros(needed.shape, values.dtype).at[rows].set(values)

    many = needed.sum() > capacity
    values = jax.lax.cond(many, value_of, few, final_observation)
    return jnp.where(needed, values, 0.0)
