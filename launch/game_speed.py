"""How many decisions a second one page of the real game makes on one core, browser and driver together.

The hours are played once with the policy; their commands are then typed again in a process that,
with every process and thread below it, may use one core only. Three ways are timed, in turn:
the whole state after every decision, the same with a picture, and the gymnasium environment
(whole state, observation, mask, events and reward).
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from collect import GameError
from collect.env import OpenScopeEnv
from collect.game import Game
from configs.game_checks import Speed
from launch import players, runs
from launch.game_hours import Hour, drive
from launch.records import Figure, bootstrap
from wm.traffic import STEP_S

SLOTS = 32
WAYS = {"": "state", "_frames": "state and picture", "_environment": "gymnasium environment"}
WARM_UP = 10  # decisions of another episode before anything is timed
ANSWER_TIMEOUT_S = 1800.0


def run(config: Speed, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Play and time the hours; returns (results, figures, faults)."""
    if config.core not in os.sched_getaffinity(0):
        raise ValueError(f"core is {config.core}, must be one of {sorted(os.sched_getaffinity(0))}")
    player = players.make(config.policy, SLOTS)
    decisions = round(60.0 * config.minutes / STEP_S)
    hours, rows = {}, []
    with runs.progress((1 + len(WAYS)) * decisions * config.hours, "decision") as line:
        for seed in range(config.first_seed, config.first_seed + config.hours):
            line.set_postfix_str(f"seed {seed}, playing")
            hours[seed] = drive(config.url, config.airport, seed, player, config.minutes, line.update)
        for seed, hour in hours.items():
            for way in WAYS:
                line.set_postfix_str(f"seed {seed}, timing the {WAYS[way]}")
                rows.append({"seed": seed, "way": WAYS[way], **on_one_core(config, seed, hour, way)})
                line.update(decisions)
    about = {
        "drawing": "as the game draws; nothing is left out",
        "sky": f"filled by the commands of {config.policy}",
        "aircraft_mean": {seed: float(np.mean(hour.aircraft)) for seed, hour in hours.items()},
        "aircraft_most": {seed: max(hour.aircraft) for seed, hour in hours.items()},
    }
    return {"about": about, "hours": rows}, figures(rows, config), faults(rows)


def figures(rows: list[dict], config: Speed) -> dict[str, Figure]:
    """Decisions per second by way; n is the number of windows."""
    found = {}
    for way, title in WAYS.items():
        seconds = [s for row in rows if row["way"] == title for s in row["window_s"]]
        rate = bootstrap(seconds, "decisions/s", seed=0, statistic=lambda s: config.window / np.mean(s))
        found[f"decisions_per_s_{config.airport.lower()}{way}"] = rate
    return found


def faults(rows: list[dict]) -> list[str]:
    """A line per timed hour that was not the hour that had been played."""
    return [
        f"seed {row['seed']}, {row['way']}: the timed hour ended differently from the one played before"
        for row in rows
        if not row["same_end"]
    ]


def on_one_core(config: Speed, seed: int, hour: Hour, way: str) -> dict:
    """Time an hour in a process of its own that is bound to one core from its first instruction."""
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_answer, args=(config, seed, hour, way, answers))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {config.core})
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


def _answer(config: Speed, seed: int, hour: Hour, way: str, answers) -> None:
    try:
        answers.put(timed(config, seed, hour, way))
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
        cpu = cpu_seconds(os.getpid()) - cpu
        cores = allowed_cores(os.getpid())
        same_end = end().digests() == hour.digests[-1]
    if cores != {config.core}:
        raise GameError(f"the browser uses the cores {sorted(cores)}, so one core's speed cannot be measured")
    return {
        "window_s": np.diff([start, *marks]).tolist(),
        "decisions": len(moves),
        "wall_s": wall,
        "cpu_s": cpu,  # of browser and driver; far below wall_s, something else used the core
        "same_end": same_end,
    }


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
        with Game(config.url, config.airport, picture_px=picture_px) as game:
            yield (
                lambda seed: game.reset(seed=seed),
                lambda command: game.step(command, pictures),
                lambda: game.snapshot,
            )


# Processes


def family(pid: int) -> list[Path]:
    """Folders in /proc of a process and all processes below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(folder.name)] = int(_stat(folder)[1])
    members, found = {pid}, True
    while found:
        found = {child for child, parent in parents.items() if parent in members} - members
        members |= found
    return [Path("/proc") / str(member) for member in sorted(members)]


def _stat(folder: Path) -> list[str]:
    """Fields of /proc/<pid>/stat from the third, the state, on; the name before them may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def threads(pid: int) -> list[int]:
    """Threads of a process and of those below it."""
    return [int(thread.name) for folder in family(pid) for thread in folder.glob("task/[0-9]*")]


def bind(pid: int, core: int) -> None:
    """Bind a process and those below it to one core; left alone, threads that draw choose theirs."""
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {core})


def allowed_cores(pid: int) -> set[int]:
    """Cores that any thread of a process or of those below it may use."""
    cores = set()
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError):
            cores |= os.sched_getaffinity(thread)
    return cores


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and those below it have used so far."""
    ticks = 0
    for folder in family(pid):
        with contextlib.suppress(OSError):
            ticks += sum(int(field) for field in _stat(folder)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")
