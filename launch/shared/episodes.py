"""Episodes of a policy, kept one JSON file each; the model plays them here, the real game in in_game.py.

A file's folder names everything that decides the episode: the world with its code, the airport, the policy
with its parameters and code, the conditions. Letters: E episodes, T decisions, N aircraft.
"""

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from collect.dataset import SEEDS
from configs import cli
from configs.evaluation import EvaluationConfig
from launch.shared import radar, runs, sources
from launch.shared.players import Player
from launch.shared.viewer import flown
from launch.shared.viewer.pack import pack
from rl import evaluate
from wm.sector import airport as ap
from wm.sector import traffic as tr
from wm.state import bundle, network, starts
from wm.state import env as simulator
from wm.state import params as state_params
from wm.store import checkpoints
from wm.store.manifest import MANIFEST
from wm.store.provenance import write_json

SHOWN = {low for low, _ in SEEDS.values()}  # seeds whose tracks are kept for a picture and the viewer
TOGETHER = 256  # episodes of one rollout
STARTS = 512  # cold starts of an evaluation, mixed from the recorded ones
CHUNK = round(60.0 / tr.STEP_S)  # decisions of one call, a minute


class EvaluationError(Exception):
    """The evaluation can't start or go on; one line with cause and remedy."""


@dataclass(frozen=True)
class World:
    """Where episodes are played. play(player, seeds, on_step) yields (seed, episode).

    An episode is that of rl.evaluate.summarise, or {"fault": why} of a seed that the game fails with; with
    "again" where another run should try it again.
    """

    name: str  # "real" or "imagined"
    folder: str  # of the cache; tells apart what plays differently
    play: Callable

    def path(self, config: EvaluationConfig, player: Player, seed: int) -> Path:
        """The file of an episode."""
        wind = "own" if config.wind is None else f"{config.wind.from_deg}-{config.wind.speed_kt}"
        conditions = f"traffic-{config.traffic:g}_wind-{wind}_{config.minutes}-min_{config.slots}-slots"
        if config.every > 1:
            conditions += f"_every-{config.every}"
        if config.eyes is not None:
            reader = checkpoints.fingerprint(config.eyes / "reader")
            conditions += f"_eyes-{reader[:8]}-{seeing()[:8]}"
        who = f"{player.name}-{player.digest[:16]}"
        return config.cache / self.folder / config.airport / who / conditions / f"{seed}.json"


@functools.cache
def seeing() -> str:
    """SHA-256 of all code that makes traffic of a picture, as it was at the first call."""
    return sources.digest("wm.cosmos.scope.rollout")


def read(path: Path) -> dict | None:
    """A finished episode; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise EvaluationError(f"{path} isn't JSON ({error}): delete it and run again") from error


def _finished(path: Path) -> bool:
    """Whether an episode needs no playing: it was played, or the game itself fails with its seed."""
    return path.exists() and "again" not in (read(path) or ())


def play_all(config: EvaluationConfig, worlds: dict[str, World], chosen: list[Player], seeds) -> None:
    """Play everybody's seeds that have no file yet, in every world, with a progress line that names it."""
    missing = sum(
        not _finished(world.path(config, player, seed))
        for world in worlds.values() for player in chosen for seed in seeds
    )  # fmt: skip
    with runs.progress(missing * round(60.0 * config.minutes / tr.STEP_S), "decision") as line:
        for name, world in worlds.items():
            for player in chosen:
                line.set_postfix_str(f"{name} {player.name}")
                for note in play_missing(config, world, player, seeds, line.update):
                    line.write(f"note: {note}", sys.stderr)


def play_missing(config: EvaluationConfig, world: World, player: Player, seeds, on_step) -> Iterator[str]:
    """Play the seeds that have no file yet; each is written whole as soon as it is finished.

    Yields a line for each seed that the game fails with. It is left out, and from then on too where the game
    itself was the reason.
    """
    missing = [seed for seed in seeds if not _finished(world.path(config, player, seed))]
    for seed, episode in world.play(player, missing, on_step):
        path = world.path(config, player, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"policy": player.name, "hash": player.digest, "airport": config.airport, "seed": seed}
        write_json(path, {**about, "world": world.folder, **episode})
        if "fault" in episode:
            yield f"seed {seed} of {player.name} is left out: {episode['fault']}"


# The model


def model_world(config: EvaluationConfig) -> World:
    """The world model of config.checkpoint at one airport, from cold starts, whole hours.

    Raises as `model_params` does.
    """
    params, directory = model_params(config), directory_of(config)
    limit = _load(directory, config.airport).disagreement_limit
    step = checkpoints.latest_step(directory)
    manifest = (directory / f"{step:08d}" / MANIFEST).read_bytes()
    code = sources.digest("wm.state.env", "wm.state.bundle", "rl.evaluate")
    identity = hashlib.sha256(manifest + code.encode()).hexdigest()
    play = lambda *given: _play_model(config, params, limit, *given)  # noqa: E731
    how = "model" if config.dynamics == "learned" else config.dynamics
    return World("imagined", f"{how}-{identity[:16]}", play)


def asked_of(config, *free: str) -> dict:
    """What every start of a run in the model has to share: all options but `free`, and the model itself."""
    asked = {name: value for name, value in cli.to_json(config).items() if name not in free}
    return asked | {"checkpoint": checkpoints.fingerprint(directory_of(config))}


def directory_of(config: EvaluationConfig) -> Path:
    """Where the world model lies."""
    return bundle.PACKAGED if config.checkpoint is None else config.checkpoint


def model_params(config: EvaluationConfig):
    """EnvParams of the world model of config.checkpoint at config.airport, from cold starts.

    Raises EvaluationError where it doesn't know the airport or has no cold start there, CheckpointError where
    there is no model.
    """
    directory = directory_of(config)
    known = checkpoints.load_config(directory).get("training", {}).get("airports", ())
    if config.airport not in known:
        raise EvaluationError(
            f"the world model in {directory} knows {', '.join(known) or 'no airport by name'}, "
            f"not {config.airport!r}: choose one of its airports or train it on that one"
        )
    return cold_starts(_load(directory, config.airport), config)


def cold_starts(params, config: EvaluationConfig):
    """EnvParams of one airport whose episodes start empty, last config.minutes and are never cut short."""
    rows = params.rows
    chosen = np.flatnonzero(rows.scene.time_s == 0.0)
    if not len(chosen):
        raise EvaluationError(
            f"the world model has no cold start at {config.airport}: train it with more --rows"
        )
    # The game fills its sky before the first frame by the traffic rate: take the starts of the nearest one.
    recorded = np.asarray(rows.traffic_rate)[chosen]
    nearest = recorded[np.argmin(np.abs(recorded - config.traffic))]
    chosen = chosen[recorded == nearest]
    first = jax.tree.map(lambda leaf: np.asarray(leaf[chosen]), rows.scene)
    first = first.replace(traffic=state_params.widened(first.traffic, config.slots))
    scene = starts.mixed(first, STARTS)
    speed, direction = np.asarray(params.own_wind[0])
    if config.wind is not None:
        speed, direction = config.wind.speed_kt, np.deg2rad(config.wind.from_deg)
    scene = scene.replace(
        wind_speed_kt=np.full(STARTS, speed, np.float32),
        wind_from_rad=np.full(STARTS, direction, np.float32),
    )
    ids, rates = np.zeros(STARTS, np.int32), np.full(STARTS, nearest, np.float32)
    rows = state_params.build_rows(scene, ids, params.airports, rates)
    return params.replace(
        rows=rows,
        traffic_low=config.traffic / nearest,
        traffic_high=config.traffic / nearest,
        disagreement_limit=2.0,
        max_steps_in_episode=config.minutes * CHUNK,
    )


@functools.cache
def _load(directory: Path, airport: str):
    return bundle.load_bundle(directory, airport)


def _look(env_params, state):
    tracks = evaluate.tracks_of(state.scene.traffic, ap.select(env_params.airports, state.airport_id))
    return tracks | {"state": (state.scene, state.member)}


def _without_states(tracks: dict, shown: int | None, axis: int):
    """Tracks on the host, and of their large states those of episode `shown` along `axis`, if any."""
    states = tracks.pop("state")
    kept = None if shown is None else jax.tree.map(lambda leaf: np.asarray(leaf.take(shown, axis)), states)
    return jax.tree.map(np.asarray, tracks), kept


@functools.cache
def _rollout(policy, dynamics: simulator.Dynamics) -> evaluate.Rollout:
    """Compiled once for each policy, whatever the airport."""
    return evaluate.rollout(simulator.OpenScopeWorldModel(None, dynamics=dynamics), policy, _look, CHUNK)


def _play_model(config, params, limit, player: Player, seeds, on_step) -> Iterator[tuple[int, dict]]:
    if not seeds:
        return
    airport = ap.select(params.airports, int(params.rows.airport_id[0]))
    game = _rollout(player.policy, config.dynamics)
    for some in range(0, len(seeds), TOGETHER):
        begin, together = time.perf_counter(), seeds[some : some + TOGETHER]
        shown = next((i for i, seed in enumerate(together) if seed in SHOWN), None)
        carry, tracks = game.start(params, jax.vmap(jax.random.key)(np.asarray(together)))
        first, state = _without_states(tracks, shown, 0)
        chunks, states = [], [jax.tree.map(lambda leaf: leaf[None], state)]
        for _ in range(config.minutes):
            carry, chunk = game.advance(params, player.params, carry)
            tracks, more = _without_states(chunk.tracks, shown, 1)
            states.append(more)
            chunks.append(jax.tree.map(np.asarray, chunk._replace(tracks=tracks)))
            on_step(CHUNK * len(together))
        wall = round((time.perf_counter() - begin) / len(together), 2)
        members = network.moving(params.weights, carry[1].member)
        for i, trace in enumerate(evaluate.episodes_of(first, chunks)):
            episode = evaluate.summarise(trace, airport) | {"wall_s": wall}
            if config.dynamics == "learned":
                episode["member"] = int(members[i])
            if i == shown:
                seen = jax.tree.map(lambda *parts: np.concatenate(parts), *states)
                model = params.replace(disagreement_limit=limit)
                about = f"{player.name}, seed {together[i]}"
                played = flown.of_imagined(about, config.airport, model, seen, trace)
                episode |= {"picture": radar.picture(trace.tracks, airport), "view": pack(played)}
            yield together[i], episode
