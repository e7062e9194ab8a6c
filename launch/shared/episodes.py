"""Episodes of a policy, played in the real game or in the model and kept one JSON file each.

A file's folder names everything that decides the episode: the world with its code, the airport, the policy
with its parameters and code, the conditions. Letters: E episodes, T decisions, N aircraft.
"""

import copy
import functools
import hashlib
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from collect import GameError, GameFault
from collect.dataset import SEEDS, by_column
from collect.env import OpenScopeEnv, SectorFull
from collect.pictures import ALTITUDE_PAGE, View, palette, palette_indices
from collect.record import acts_in, noop
from collect.server import Server
from collect.slots import slots_of
from collect.store import COLLECTOR_VERSION
from configs.evaluation import EvaluationConfig
from launch.shared import radar, runs, sources
from launch.shared.players import Player
from launch.shared.viewer import flown
from launch.shared.viewer.pack import pack
from rl import evaluate
from wm.cosmos.scope.rollout import Sight
from wm.cosmos.scope.stored import Eyes
from wm.sector import airport as ap
from wm.sector import traffic as tr
from wm.state import bundle, starts
from wm.state import env as simulator
from wm.state import params as state_params
from wm.store import checkpoints
from wm.store.manifest import MANIFEST
from wm.store.provenance import write_json

SHOWN = {low for low, _ in SEEDS.values()}  # seeds whose tracks are kept for a picture and the viewer
PICTURE_PX = 512  # that readers learn from
ATTEMPTS = 3  # of one episode, when the browser crashes
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
            conditions += f"_eyes-{checkpoints.fingerprint(config.eyes / 'reader')[:8]}"
        who = f"{player.name}-{player.digest[:16]}"
        return config.cache / self.folder / config.airport / who / conditions / f"{seed}.json"


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


# The real game


def real_world(config: EvaluationConfig, frame_s: float = tr.FRAME_S) -> World:
    """The game at config.url, `pages` episodes at once, in frames of `frame_s`."""
    timing = "" if frame_s == tr.FRAME_S else f"-{1 / frame_s:g}-fps"
    rules = sources.digest("rl.evaluate", "wm.sector.observe", "wm.sector.reward")
    folder = f"real-v{COLLECTOR_VERSION}-{rules[:8]}{timing}"
    return World("real", folder, lambda *given: _play_pages(config, frame_s, *given))


def _play_pages(config, frame_s: float, player: Player, seeds, on_step) -> Iterator[tuple[int, dict]]:
    """Threads play seeds from one queue; the first error, or a reader that leaves, stops them all."""
    waiting, finished, stop = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
    for seed in seeds:
        waiting.put(seed)

    def page():
        try:
            # On the CPU whatever the machine has, so that figures don't depend on it; one observation at a
            # time is faster there too.
            with jax.default_device(jax.local_devices(backend="cpu")[0]):
                for seed, episode in _play_queue(config, frame_s, player, waiting, stop, on_step):
                    finished.put((seed, episode))
        except BaseException as error:
            finished.put(error)

    threads = [threading.Thread(target=page) for _ in range(min(config.pages, len(seeds)))]
    try:
        for thread in threads:
            thread.start()
        for _ in seeds:
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _play_queue(config, frame_s, player: Player, waiting, stop, on_step) -> Iterator[tuple[int, dict]]:
    """One page's episodes; a crash of its browser costs the episode under way, which is played again."""
    wind = None if config.wind is None else (config.wind.from_deg, config.wind.speed_kt)
    player = copy.copy(player)  # its place in the episode is its own, its compiled code shared
    seen = {} if config.eyes is None else {"view": View(PICTURE_PX), "look": Look(config.eyes)}
    env = OpenScopeEnv(
        Server.of(config), config.airport, config.slots, 60.0 * config.minutes, frame_s,
        traffic=config.traffic, wind=wind, **seen,
    )  # fmt: skip
    if seen:
        env.look.env = env
    try:
        while not stop.is_set():
            try:
                seed = waiting.get_nowait()
            except queue.Empty:
                return
            episode = _play_again(env, player, seed, stop, on_step, config.every)
            if episode is not None:
                yield seed, episode
    finally:
        env.close()


class Look:
    """The traffic of the real game as pictures show it; outside of pictures what it was at the last."""

    env: OpenScopeEnv

    def __init__(self, folder: Path):
        self._eyes, self._sight, self._time_s = Eyes.load(folder / "reader"), None, 0.0

    def __call__(self, scene: tr.Scene, snapshot) -> tr.Scene:
        """The scene [N] of a snapshot with its picture read, if one of altitudes was taken."""
        if self._sight is None or snapshot.time_s < self._time_s:  # another episode
            scale = self.env.game.static["picture_px_per_nm"]
            self._sight = Sight(self._eyes, scale, palette())
        self._time_s = snapshot.time_s
        if not snapshot.pictures or snapshot.picture_pages[-1] != ALTITUDE_PAGE:
            return scene
        return self._sight(scene, snapshot.callsigns, palette_indices(snapshot.picture))


def _play_again(env: OpenScopeEnv, player, seed: int, stop, on_step: Callable, every: int = 1) -> dict | None:
    """`play`, in a fresh browser each time that one crashed.

    {"fault": why} where the game itself fails with this seed; with "again" where it begins and something else
    stops it each time, such as a browser that hangs. A game that doesn't begin raises GameError.
    """
    for attempt in range(ATTEMPTS):
        begin, begun = time.perf_counter(), False
        try:
            start = env.reset(seed=seed)
            begun = True
            episode = play(env, player, seed, start, stop, on_step, every)
            return episode and episode | {"wall_s": round(time.perf_counter() - begin, 1)}
        except (GameFault, SectorFull) as error:
            env.close()
            return {"fault": str(error)}
        except GameError as error:
            env.close()
            if attempt == ATTEMPTS - 1:
                if begun:
                    return {"fault": str(error), "again": True}
                raise
    return None


_look_at_all = jax.jit(jax.vmap(evaluate.tracks_of, (0, None)))  # compiled once, not for every episode


def play(
    env: OpenScopeEnv, player, seed: int, start, stop, on_step: Callable, every: int = 1
) -> dict | None:
    """One episode of the real game, on from what its reset returned; None where `stop` is set.

    The player acts in the decisions that `collect.record.acts_in` says.

    Raises GameFault or SectorFull where the game cannot go on with this seed, GameError where it stops or
    scores other points than its events have.
    """
    steps, tracks, raw, refusals = [], [], Counter(), []
    said, happened = [], []
    observation, info = start
    overflow = [info["overflow"]]
    player.reset(seed)
    truncated = False
    while not truncated:
        if stop.is_set():
            return None
        tracks.append(env.scene.traffic)
        acts, env.pictures = acts_in(len(steps), every), 0
        if env.look is not None and acts_in(len(steps) + 1, every):
            env.pictures = 1
        action = player(observation) if acts else noop(env)
        named = by_column(action[None], slots_of(env.columns, env.slots)[None])[0]
        addressed = int(env.slots[action[0]]) if action[0] < len(env.slots) else -1
        observation, _, _, truncated, info = env.step(action)
        overflow.append(info["overflow"])
        happened.append(info["events"])
        said += [(len(steps), addressed, info["command"])] if info["command"] else []
        raw.update(tr.EVENT_NAMES[code] for code in info["events"][:, 1])
        refusals += info["refusals"] if info["command"] else ()
        commanded = action[0] < len(env.slots)
        illegal = commanded and not info["command"]
        steps.append((info["reward_terms"], info["metrics"], named, commanded, illegal))
        on_step(1)
    terms, metrics, actions, command, illegal = jax.tree.map(lambda *rows: np.asarray(rows), *steps)
    tracks.append(env.scene.traffic)
    widest = max(traffic.valid.shape[-1] for traffic in tracks)  # a full sky gets more columns as it fills
    tracks = [state_params.widened(traffic, widest) for traffic in tracks]
    traffic = jax.tree.map(lambda *rows: np.stack(rows), *tracks)
    looked = jax.tree.map(np.asarray, _look_at_all(traffic, env.airport))
    metrics["overflow"] = np.asarray(overflow)
    trace = evaluate.Trace(terms, metrics, actions, command, illegal, looked)
    episode = evaluate.summarise(trace, env.airport)
    if seed in SHOWN:
        episode["picture"] = radar.picture(looked, env.airport)
        played = flown.of_game(f"{player.name}, seed {seed}", env, traffic, said, happened, terms)
        episode["view"] = pack(played)
    return episode | {
        "raw_events": {name: raw[name] for name in tr.EVENT_NAMES},
        "refusals": refusals,
        "page_score": env.snapshot.score,
        "game_version": env.game.static["version"],
    }


# The model


def model_world(config: EvaluationConfig) -> World:
    """The world model of config.checkpoint at one airport, from cold starts, whole hours.

    Raises as `model_params` does.
    """
    params, directory = model_params(config), directory_of(config)
    limit = _load(directory).disagreement_limit
    step = checkpoints.latest_step(directory)
    manifest = (directory / f"{step:08d}" / MANIFEST).read_bytes()
    code = sources.digest("wm.state.env", "wm.state.bundle", "rl.evaluate")
    identity = hashlib.sha256(manifest + code.encode()).hexdigest()
    play = lambda *given: _play_model(config, params, limit, *given)  # noqa: E731
    how = "model" if config.dynamics == "learned" else config.dynamics
    return World("imagined", f"{how}-{identity[:16]}", play)


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
    return cold_starts(_load(directory), known.index(config.airport), config)


def cold_starts(params, airport_id: int, config: EvaluationConfig):
    """EnvParams whose episodes start empty at one airport, last config.minutes and are never cut short."""
    rows = params.rows
    chosen = np.flatnonzero((rows.airport_id == airport_id) & (rows.scene.time_s == 0.0))
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
    speed, direction = np.asarray(params.own_wind[airport_id])
    if config.wind is not None:
        speed, direction = config.wind.speed_kt, np.deg2rad(config.wind.from_deg)
    scene = scene.replace(
        wind_speed_kt=np.full(STARTS, speed, np.float32),
        wind_from_rad=np.full(STARTS, direction, np.float32),
    )
    ids, rates = np.full(STARTS, airport_id, np.int32), np.full(STARTS, nearest, np.float32)
    rows = state_params.build_rows(scene, ids, params.airports, rates)
    return params.replace(
        rows=rows,
        traffic_low=config.traffic / nearest,
        traffic_high=config.traffic / nearest,
        disagreement_limit=2.0,
        max_steps_in_episode=config.minutes * CHUNK,
    )


@functools.cache
def _load(directory: Path):
    return bundle.load_bundle(directory)


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
        for i, trace in enumerate(evaluate.episodes_of(first, chunks)):
            episode = evaluate.summarise(trace, airport) | {"wall_s": wall}
            if i == shown:
                seen = jax.tree.map(lambda *parts: np.concatenate(parts), *states)
                model = params.replace(disagreement_limit=limit)
                about = f"{player.name}, seed {together[i]}"
                played = flown.of_imagined(about, config.airport, model, seen, trace)
                episode |= {"picture": radar.picture(trace.tracks, airport), "view": pack(played)}
            yield together[i], episode
