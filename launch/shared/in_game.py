"""Episodes of a policy in the real game, on several pages of browsers at once. Letter: N aircraft."""

import copy
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from collect import GameError, GameFault
from collect.dataset import by_column
from collect.env import OpenScopeEnv, SectorFull
from collect.pictures import ALTITUDE_PAGE, View, palette, palette_indices
from collect.record import acts_in, noop
from collect.server import Server
from collect.slots import slots_of
from collect.store import COLLECTOR_VERSION
from configs.evaluation import EvaluationConfig
from launch.shared import radar, sources
from launch.shared.episodes import SHOWN, World
from launch.shared.players import Player
from launch.shared.viewer import flown
from launch.shared.viewer.pack import pack
from rl import evaluate
from wm.cosmos.scope.rollout import Sight
from wm.cosmos.scope.stored import Eyes
from wm.sector import traffic as tr
from wm.state import params as state_params

PICTURE_PX = 512  # that readers learn from
ATTEMPTS = 3  # of one episode, when the browser crashes


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
