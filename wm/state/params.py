"""What the environment's step needs, and what it carries: EnvParams, EnvState and the rows to reset to.

Letters: A airports, B reset rows, M ensemble members, N aircraft, S streams.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from wm.sector import airport as ap
from wm.sector import observe, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import Scene, Traffic
from wm.state import spawn as sp

SLOTS = 32
HOUR_STEPS = round(3600.0 / tr.STEP_S)


@struct.dataclass
class ResetRows:
    """Recorded states to start from, with their observations; leaves `[B, ...]`."""

    scene: Scene
    airport_id: jax.Array
    next_id: jax.Array
    traffic_rate: jax.Array  # of the hour that the row is from, as a multiple of the airport's own
    potential: jax.Array
    observation: Any


@struct.dataclass
class EnvParams(environment.EnvParams):
    """One unbatched struct; weights lead with M, airports and spawn tables with A, reset rows with B."""

    weights: Any = None
    airports: Airport = None
    spawns: sp.SpawnTable = None
    rows: ResetRows = None
    own_wind: jax.Array = None  # [A, 2] speed (kt) and direction (rad) where the game sets none
    traffic_low: float = 1.0  # factor on the traffic rate of the reset row, drawn uniformly
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


def widened(traffic: Traffic, slots: int) -> Traffic:
    """Traffic `[..., N]` with empty slots added up to `slots`; as it is where it has as many already."""
    more = slots - traffic.valid.shape[-1]
    if more <= 0:
        return traffic
    blank = tr.empty(Traffic, (*traffic.valid.shape[:-1], more), np)
    return jax.tree.map(lambda x, b: np.concatenate([x, b.astype(x.dtype)], -1), traffic, blank)


def build_rows(scenes: Scene, airport_id, airports: Airport, traffic_rate) -> ResetRows:
    """Reset rows from recorded scenes `[B, ...]` (slots as in play) of airports `airport_id [B]`.

    `traffic_rate [B]` is that of each scene's hour.
    """
    ids = jnp.asarray(airport_id, jnp.int32)

    def view(scene, i):
        place = ap.select(airports, i)
        return observe.observe(scene, place), reward.potential(scene.traffic, place)

    observation, potential = jax.jit(jax.vmap(view))(scenes, ids)
    return ResetRows(
        scene=scenes,
        airport_id=ids,
        next_id=jnp.max(scenes.traffic.id, -1).astype(jnp.int32) + 1,
        traffic_rate=jnp.asarray(traffic_rate, jnp.float32),
        potential=potential,
        observation=observation,
    )
