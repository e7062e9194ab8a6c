"""What the environment's step needs, and what it carries: EnvParams, EnvState and the rows to reset to.

Letters: A airports, B reset rows, M ensemble members, N aircraft, S streams.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from wm.sector import airport as ap
from wm.sector import observe, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import Scene
from wm.state import spawn as sp

SLOTS = 32
HOUR_STEPS = round(3600.0 / tr.STEP_S)


@struct.dataclass
class ResetRows:
    """Recorded states to start from, with their observations; leaves `[B, ...]`."""

    scene: Scene
    airport_id: jax.Array
    next_id: jax.Array
    potential: jax.Array
    observation: Any


@struct.dataclass
class EnvParams(environment.EnvParams):
    """One unbatched struct; weights lead with M, airports and spawn tables with A, reset rows with B."""

    weights: Any = None
    hazard: Any = None
    airports: Airport = None
    spawns: sp.SpawnTable = None
    rows: ResetRows = None
    traffic_low: float = 1.0  # traffic rate, drawn uniformly at reset
    traffic_high: float = 1.0
    disagreement_limit: float = 2.0  # above 1 never truncates
    max_steps_in_episode: int = HOUR_STEPS


@struct.dataclass
class EnvState(environment.EnvState):
    """State of one sector; `time` counts the decisions since the episode's first frame."""

    scene: Scene
    ledger: reward.Ledger
    airport_id: jax.Array
    next_id: jax.Array
    member: jax.Array
    traffic_rate: jax.Array
    potential: jax.Array  # reward.potential of the scene
    disagreement: jax.Array  # of the last step, 0 where it was not probed


def build_rows(scenes: Scene, airport_id, airports: Airport) -> ResetRows:
    """Reset rows from recorded scenes `[B, ...]` (slots as in play) of airports `airport_id [B]`."""
    ids = jnp.asarray(airport_id, jnp.int32)

    def view(scene, i):
        place = ap.select(airports, i)
        return observe.observe(scene, place), reward.potential(scene.traffic, place)

    observation, potential = jax.jit(jax.vmap(view))(scenes, ids)
    return ResetRows(
        scene=scenes,
        airport_id=ids,
        next_id=jnp.max(scenes.traffic.id, -1).astype(jnp.int32) + 1,
        potential=potential,
        observation=observation,
    )
