"""Hours that a policy plays in the world model, beside recorded ones."""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from configs.evaluation import SLOTS, EvaluationConfig
from configs.recording import Wind
from launch.shared import episodes, players
from launch.shared.players import Player
from rl import evaluate
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.sector.traffic import Scene
from wm.state import env as simulator


class Hour(NamedTuple):
    """What exports read of a Recording, of an hour that the model imagined."""

    scene: Scene  # numpy leaves [T + 1, ...]
    static: dict[str, Any]
    routes: list[dict[str, Any]]
    callsigns: dict[int, str] | None = None


def instead_of(recorded: Recording, policy: str, checkpoint: Path | None = None) -> Hour:
    """The hour that a policy plays in the model at the airport and in the conditions of a recorded one.

    Raises CheckpointError or ValueError where the model or the policy cannot play it.
    """
    key = recorded.metadata["key"]
    config = EvaluationConfig(
        policies=(policy,), where="model", airport=recorded.icao, traffic=key["traffic"],
        wind=key["wind"] and Wind(*key["wind"]), minutes=math.ceil(key["episode_s"] / 60.0),
        slots=SLOTS.get(recorded.icao, 32), checkpoint=checkpoint,
    )  # fmt: skip
    player, game = _game(policy, config.slots)
    try:
        params = episodes.model_params(config)
    except episodes.EvaluationError as error:
        raise ValueError(str(error)) from error
    airport = jax.tree.map(lambda x: np.asarray(x[params.rows.airport_id[0]]), params.airports)
    steps = round(key["episode_s"] / tr.STEP_S)
    scenes = _scenes(game, params, player.params, recorded.seed, config.minutes)
    scene = jax.tree.map(lambda x: x[: steps + 1], scenes)
    return Hour(scene, recorded.static, routes_of(airport))


def _scenes(game: evaluate.Rollout, params, player_params, seed: int, minutes: int) -> Scene:
    """The scenes of one episode, numpy leaves `[T + 1, ...]`."""
    carry, first = game.start(params, jax.random.key(seed)[None])
    parts = [first]
    for _ in range(minutes):
        carry, trace = game.advance(params, player_params, carry)
        parts.append(jax.tree.map(lambda x: np.asarray(x)[:, 0], trace.tracks))
    return jax.tree.map(lambda one, *rest: np.concatenate([np.asarray(one), *rest]), *parts)


@functools.cache
def _game(policy: str, slots: int) -> tuple[Player, evaluate.Rollout]:
    """A policy and its play in the model, compiled once."""
    player = players.make(policy, slots)
    env = simulator.OpenScopeWorldModel(None)
    return player, evaluate.rollout(env, player.policy, lambda _, state: state.scene, episodes.CHUNK)


def routes_of(airport: Airport) -> list[dict[str, Any]]:
    """The routes of an airport's table (numpy leaves), as much of a recording's as exports read."""
    found = []
    for xy, vector, legs in zip(
        airport.route_xy_nm, airport.route_vector_rad, airport.route_legs, strict=True
    ):
        fixes = [
            {"x_nm": float(x), "y_nm": float(y)} if heading < 0 else {"x_nm": None, "y_nm": None}
            for (x, y), heading in zip(xy[:legs], vector[:legs], strict=True)
        ]
        found.append({"waypoints": fixes})
    return found
