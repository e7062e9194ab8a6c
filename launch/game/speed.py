"""How many decisions a second one page of the real game makes on one core, browser and driver together.

The hours are played once with the policy; their commands are then typed again in a process that,
with every process and thread below it, may use one core only. Four ways are timed, in turn: the
whole state after every decision, the same with a picture, the same without the shortcuts of
collect/idle.js, and the gymnasium environment (whole state, observation, mask, events and reward). Then
the hour is played twice at once on two cores: by two pages of one browser and process, as with --pages of
a recording, and by two processes with a browser each, as with its --workers.
"""

import dataclasses
import functools
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
from collect.game import Game, PlainGame
from collect.pictures import View
from collect.server import Server
from configs.game_checks import Speed
from launch.game.hours import Hour, drive
from launch.shared import players, runs
from launch.shared.processes import allowed_cores, bind, cpu_seconds
from launch.shared.records import Figure, bootstrap
from wm.sector.traffic import STEP_S

SLOTS = 32
WAYS = {
    "": "state",
    "_frames": "state and picture",
    "_plain": "state, without shortcuts",
    "_environment": "gymnasium environment",
}
TWO_PAGES = "two pages on two cores"
TWO_WORKERS = "two processes on two cores"
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
    with runs.progress((3 + len(WAYS)) * decisions * config.hours, "decision") as line:
        for seed in range(config.first_seed, config.first_seed + config.hours):
            line.set_postfix_str(f"seed {seed}, playing")
            hours[seed] = drive(Server.of(config), config.airport, seed, player, config.minutes, line.update)
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
            line.set_postfix_str(f"seed {seed}, timing two processes")
            rows.append({"seed": seed, "way": TWO_WORKERS, **two_workers(config, cores, seed, hour)})
            line.update(decisions)
    about = {
        "drawing": "as the game draws; nothing is left out",
        "sky": f"filled by the commands of {config.policy}",
        "aircraft_mean": {seed: float(np.mean(hour.aircraft)) for seed, hour in hours.items()},
        "aircraft_most": {seed: max(hour.aircraft) for seed, hour in hours.items()},
    }
    return {"about": about, "hours": rows}, figures(rows, config), faults(rows)


def figures(rows: list[dict], config: Speed) -> dict[str, Figure]:
    """Decisions a second by way (n windows), what one costs by part, the gain of two at once (n hours)."""
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
    for name, title in (("pages", TWO_PAGES), ("workers", TWO_WORKERS)):
        gains = [2 * alone[row["seed"]] / row["wall_s"] for row in rows if row["way"] == title]
        found[f"{name}_2_speedup"] = bootstrap(gains, "", seed=0)
    return found


def faults(rows: list[dict]) -> list[str]:
    """A line per timed hour that was not the hour that had been played."""
    return [
        f"seed {row['seed']}, {row['way']}: the timed hour ended differently from the one played before"
        for row in rows
        if not row["same_end"]
    ]


class PartnerFailed(GameError):
    """The page or process that was to be timed at the same time has failed; its own error says why."""


def apart(play: Callable, cores: set[int], *arguments) -> dict:
    """Time in a process of its own that is bound to `cores` from its first instruction.

    Raises GameError where that fails, PartnerFailed where it fails because another process has.
    """
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
    if isinstance(answer, Exception):
        raise answer
    return answer


def _answer(play: Callable, arguments: tuple, answers) -> None:
    try:
        answers.put(play(*arguments))
    except threading.BrokenBarrierError:
        answers.put(PartnerFailed("the other process did not get ready"))
    except (GameError, ValueError, OSError) as error:
        answers.put(GameError(str(error)))


def timed(config: Speed, seed: int, hour: Hour, way: str, ready=None) -> dict:
    """Play an hour again in this process; times are of whole windows, loading left out.

    A barrier `ready` makes it begin together with another process.
    Raises GameError where a process or thread of browser or driver may use another core.
    """
    moves = hour.actions if way == "_environment" else hour.commands
    with _opened(config, way) as (begin, step, end):
        begin(seed + 1)
        for move in moves[:WARM_UP]:
            step(move)
        begin(seed)
        bind(os.getpid(), config.core)
        if ready is not None:
            ready.wait(ANSWER_TIMEOUT_S)
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


def together(calls: list[Callable], ready) -> list:
    """What calls return that run at once and begin at the barrier `ready`.

    Where one fails the others do not wait for it, and its error is raised rather than theirs.
    """

    def guarded(call: Callable):
        try:
            return call()
        except BaseException:
            ready.abort()
            raise

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(guarded, call) for call in calls]
    errors = [error for one in running if (error := one.exception()) is not None]
    own = [e for e in errors if not isinstance(e, PartnerFailed | threading.BrokenBarrierError)]
    for error in (*own, *errors):
        raise error
    return [one.result() for one in running]


def two_pages(config: Speed, seed: int, hour: Hour) -> dict:
    """Play an hour twice at once in this process, in two pages of one browser."""
    with Browser() as browser:
        server = Server.of(config)
        games = [Game(server, config.airport, seed + 1, browser=browser) for _ in range(2)]
        ready = threading.Barrier(3)

        def page(game: Game) -> None:
            with game:
                for command in hour.commands[:WARM_UP]:
                    game.step(command)
                game.reset(seed=seed)
                ready.wait(ANSWER_TIMEOUT_S)
                for command in hour.commands:
                    game.step(command)

        def clock() -> float:
            ready.wait(ANSWER_TIMEOUT_S)
            return time.perf_counter()

        start, *_ = together([clock, *(functools.partial(page, game) for game in games)], ready)
        wall = time.perf_counter() - start
        same_end = all(game.snapshot.digests() == hour.digests[-1] for game in games)
    return {"decisions": 2 * len(hour.commands), "wall_s": wall, "same_end": same_end}


def two_workers(config: Speed, cores: set[int], seed: int, hour: Hour) -> dict:
    """Play an hour twice at once in processes of their own, each with a browser and a core of its own."""
    ready = multiprocessing.get_context("spawn").Barrier(2)

    def worker(core: int) -> dict:
        return apart(timed, {core}, dataclasses.replace(config, core=core), seed, hour, "", ready)

    found = together([functools.partial(worker, core) for core in sorted(cores)], ready)
    return {
        "decisions": sum(one["decisions"] for one in found),
        "wall_s": max(one["wall_s"] for one in found),
        "same_end": all(one["same_end"] for one in found),
    }


@contextmanager
def _opened(config: Speed, way: str) -> Iterator[tuple[Callable, Callable, Callable]]:
    """(begin(seed), step(command or action), end() -> Snapshot) of an open game."""
    server = Server.of(config)
    if way == "_environment":
        env = OpenScopeEnv(server, config.airport, episode_s=60.0 * config.minutes)
        try:
            yield lambda seed: env.reset(seed=seed), env.step, lambda: env.snapshot
        finally:
            env.close()
    else:
        pictures = way == "_frames"
        view = View(config.picture_px) if pictures else None
        with (PlainGame if way == "_plain" else Game)(server, config.airport, view=view) as game:
            yield (
                lambda seed: game.reset(seed=seed),
                lambda command: game.step(command, pictures),
                lambda: game.snapshot,
            )
