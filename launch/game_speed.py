"""How many decisions a second one page of the real game makes on one core, browser and driver together.

The hours are played once with the policy; their commands are then typed again in a process that,
with every process and thread below it, may use one core only. Four ways are timed, in turn: the
whole state after every decision, the same with a picture, the same with nothing spared that
collect/idle.js spares the game, and the gymnasium environment (whole state, observation, mask, events
and reward). Then two pages of one browser play the hour at once on two cores.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from collect import GameError
from collect.browser import Browser
from collect.env import OpenScopeEnv
from collect.game import Game
from configs.game_checks import Speed
from launch import players, runs
from launch.game_hours import Hour, drive
from launch.processes import allowed_cores, bind, cpu_seconds
from launch.records import Figure, bootstrap
from wm.traffic import STEP_S

SLOTS = 32
WAYS = {
    "": "state",
    "_frames": "state and picture",
    "_plain": "state, nothing spared",
    "_environment": "gymnasium environment",
}
TWO_PAGES = "two pages on two cores"
WARM_UP = 10  # decisions of another episode before anything is timed
ANSWER_TIMEOUT_S = 1800.0


def run(config: Speed, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Play and time the hours; returns (results, figures, faults)."""
    allowed = os.sched_getaffinity(0)
    if config.core not in allowed:
        raise ValueError(f"core is {config.core}, must be one of {sorted(allowed)}")
    if len(allowed) < 2:
        raise ValueError(f"only core {config.core} may be used; two pages need two: start it with more")
    player = players.make(config.policy, SLOTS)
    decisions = round(60.0 * config.minutes / STEP_S)
    hours, rows = {}, []
    with runs.progress((2 + len(WAYS)) * decisions * config.hours, "decision") as line:
        for seed in range(config.first_seed, config.first_seed + config.hours):
            line.set_postfix_str(f"seed {seed}, playing")
            hours[seed] = drive(config.url, config.airport, seed, player, config.minutes, line.update)
        for seed, hour in hours.items():
            for way in WAYS:
                line.set_postfix_str(f"seed {seed}, timing the {WAYS[way]}")
                found = apart(timed, {config.core}, config, seed, hour, way)
                rows.append({"seed": seed, "way": WAYS[way], **found})
                line.update(decisions)
            line.set_postfix_str(f"seed {seed}, timing two pages")
            cores = {config.core, min(allowed - {config.core})}
            rows.append({"seed": seed, "way": TWO_PAGES, **apart(two_pages, cores, config, seed, hour)})
            line.update(decisions)
    about = {
        "drawing": "as the game draws; nothing is left out",
        "sky": f"filled by the commands of {config.policy}",
        "aircraft_mean": {seed: float(np.mean(hour.aircraft)) for seed, hour in hours.items()},
        "aircraft_most": {seed: max(hour.aircraft) for seed, hour in hours.items()},
    }
    return {"about": about, "hours": rows}, figures(rows, config), faults(rows)


def figures(rows: list[dict], config: Speed) -> dict[str, Figure]:
    """Decisions per second by way (n windows), what a decision costs by part, gain of two pages (n hours)."""
    found = {}
    for way, title in WAYS.items():
        timed_rows = [row for row in rows if row["way"] == title]
        seconds = [s for row in timed_rows for s in row["window_s"]]
        rate = bootstrap(seconds, "decisions/s", seed=0, statistic=lambda s: config.window / np.mean(s))
        found[f"decisions_per_s_{config.airport.lower()}{way}"] = rate
        for kind in sorted({kind for row in timed_rows for kind in row["cpu_s"]}):
            spent = [1e3 * row["cpu_s"].get(kind, 0.0) / row["decisions"] for row in timed_rows]
            found[f"decision_cpu_ms_{kind}{way}"] = bootstrap(spent, "ms", seed=0)
    alone = {row["seed"]: row["wall_s"] for row in rows if row["way"] == WAYS[""]}
    gains = [2 * alone[row["seed"]] / row["wall_s"] for row in rows if row["way"] == TWO_PAGES]
    return found | {"pages_2_speedup": bootstrap(gains, "", seed=0)}


def faults(rows: list[dict]) -> list[str]:
    """A line per timed hour that was not the hour that had been played."""
    return [
        f"seed {row['seed']}, {row['way']}: the timed hour ended differently from the one played before"
        for row in rows
        if not row["same_end"]
    ]


def apart(play: Callable, cores: set[int], *arguments) -> dict:
    """Time in a process of its own that is bound to `cores` from its first instruction."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_answer, args=(play, arguments, answers))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        process.start()
    finally:
        os.sched_setaffinity(0, before)
    process.join(ANSWER_TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
    if process.exitcode != 0 or answers.empty():
        raise GameError(f"the timed process ended early (status {process.exitcode}): try again")
    answer = answers.get()
    if isinstance(answer, str):
        raise GameError(answer)
    return answer


def _answer(play: Callable, arguments: tuple, answers) -> None:
    try:
        answers.put(play(*arguments))
    except (GameError, ValueError, OSError) as error:
        answers.put(str(error))


def timed(config: Speed, seed: int, hour: Hour, way: str) -> dict:
    """Play an hour again in this process; times are of whole windows, loading left out.

    Raises GameError where a process or thread of browser or driver may use another core.
    """
    moves = hour.actions if way == "_environment" else hour.commands
    with _opened(config, way) as (begin, step, end):
        begin(seed + 1)
        for move in moves[:WARM_UP]:
            step(move)
        begin(seed)
        bind(os.getpid(), config.core)
        cpu, start, marks = cpu_seconds(os.getpid()), time.perf_counter(), []
        for decision, move in enumerate(moves, 1):
            step(move)
            if decision % config.window == 0:
                marks.append(time.perf_counter())
        wall = time.perf_counter() - start
        cpu = cpu_seconds(os.getpid()) - cpu  # drops what used none
        cores = allowed_cores(os.getpid())
        same_end = end().digests() == hour.digests[-1]
    if cores != {config.core}:
        raise GameError(f"the browser uses the cores {sorted(cores)}, so one core's speed cannot be measured")
    return {
        "window_s": np.diff([start, *marks]).tolist(),
        "decisions": len(moves),
        "wall_s": wall,
        "cpu_s": dict(cpu),  # if their sum is far below wall_s, something else used the core
        "same_end": same_end,
    }


def two_pages(config: Speed, seed: int, hour: Hour) -> dict:
    """Play an hour twice at once in this process, in two pages of one browser."""
    with Browser() as browser:
        games = [Game(config.url, config.airport, seed + 1, browser=browser) for _ in range(2)]
        ready = threading.Barrier(3)

        def page(game: Game) -> None:
            with game:
                for command in hour.commands[:WARM_UP]:
                    game.step(command)
                game.reset(seed=seed)
                ready.wait()
                for command in hour.commands:
                    game.step(command)

        with ThreadPoolExecutor(2) as pool:
            pages = [pool.submit(page, game) for game in games]
            ready.wait(ANSWER_TIMEOUT_S)
            start = time.perf_counter()
            for one in pages:
                one.result()
            wall = time.perf_counter() - start
        same_end = all(game.snapshot.digests() == hour.digests[-1] for game in games)
    return {"decisions": 2 * len(hour.commands), "wall_s": wall, "same_end": same_end}


@contextmanager
def _opened(config: Speed, way: str) -> Iterator[tuple[Callable, Callable, Callable]]:
    """(begin(seed), step(command or action), end() -> Snapshot) of an open game."""
    if way == "_environment":
        env = OpenScopeEnv(config.url, config.airport, episode_s=60.0 * config.minutes)
        try:
            yield lambda seed: env.reset(seed=seed), env.step, lambda: env.snapshot
        finally:
            env.close()
    else:
        pictures = way == "_frames"
        picture_px = config.picture_px if pictures else None
        plain = way == "_plain"
        with Game(config.url, config.airport, picture_px=picture_px, plain=plain) as game:
            yield (
                lambda seed: game.reset(seed=seed),
                lambda command: game.step(command, pictures),
                lambda: game.snapshot,
            )
