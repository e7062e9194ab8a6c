"""Record the real game.

    python -m launch.record --out runs/recordings --episodes 200 --workers 16
    python -m launch.record seed --workers 16        # a plan; world-model is another

Each worker is a process with a browser of its own and writes a directory of its own below --out.
The same command goes on where it stopped, whatever stopped it; see configs/recording.py.
"""

import contextlib
import copy
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from configs import cli
from configs.recording import PLANS, RecordingConfig

CPU_ONLY = {
    # The game takes most of the time, and workers must not share a GPU's memory.
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "OMP_NUM_THREADS": "1",
}

ORPHAN_PATIENCE_S = 60.0  # for workers of a killed recorder to notice that they are alone


def jobs_of(config: RecordingConfig, hashes: dict[str, str]) -> Iterator:
    """The episodes a configuration asks for, in order; `hashes` are those of its policies."""
    from collect.record import Job

    airports, policies = len(config.airports), len(config.policies)
    for i in range(config.episodes):
        turn, airport = divmod(i, airports)
        rest, policy = divmod(turn, policies)
        wind_turn, rate = divmod(rest, len(config.traffic))
        wind = config.winds[wind_turn % len(config.winds)]
        name = config.policies[policy]
        yield Job(
            airport=config.airports[airport].lower(),
            seed=config.first_seed + turn,
            policy=name,
            policy_hash=hashes[name],
            traffic=config.traffic[rate],
            wind=None if wind is None else (wind.from_deg, wind.speed_kt),
            episode_s=60.0 * config.minutes,
            slots=config.slots,
        )


def work(config: RecordingConfig, jobs: list, directory: Path, reports, parent: int) -> None:
    """One worker: play `jobs` into `directory`; `reports` gets (kind, value) pairs; ends with its parent."""
    from collect import GameError
    from collect.record import SharedBrowser, View, record
    from collect.store import DataError, EpisodeWriter
    from launch.shared import players

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers

    stop = threading.Event()

    def on_step():
        if os.getppid() != parent or stop.is_set():  # the parent was killed, or another page failed
            raise SystemExit(1)
        reports.put(("step", 1))

    view = View(config.picture_px, config.pictures, config.palette) if config.picture_px else None
    browsers = SharedBrowser()

    def page(own: list, made: dict, writer: EpisodeWriter) -> None:
        """Play some of the jobs, with policies of its own: they remember where they are in an episode."""
        policies = {name: copy.copy(player) for name, player in made.items()}
        try:
            for job in record(
                own, policies, writer, config.url, view, on_step, browsers, on_lost, on_fault
            ):
                reports.put(("episode", job.key))
        finally:
            if sys.exc_info()[0] is not None:
                stop.set()

    def on_lost(why: str) -> None:
        reports.put(("lost", why))

    def on_fault(why: str) -> None:
        reports.put(("refused", why))

    try:
        made = {name: players.make(name, config.slots) for name in config.policies}
        with (
            EpisodeWriter(directory, config.picture_px, config.pictures) as writer,
            contextlib.closing(browsers),
            ThreadPoolExecutor(config.pages) as pool,
        ):
            pages = [pool.submit(page, jobs[i :: config.pages], made, writer) for i in range(config.pages)]
            errors = [error for error in (one.exception() for one in pages) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, SystemExit)):
            raise error
        reports.put(("done", None))
    except (GameError, DataError, OSError, ValueError) as error:
        reports.put(("error", " ".join(str(error).split())))


def root_of(config: RecordingConfig) -> Path:
    """Where this command writes: --out, or the directory of one task of an array below it."""
    return config.out if config.share is None else config.out / f"task-{config.share[0]:03d}"


class Stopped(Exception):
    """Recording ended before its end; the message says why."""


def watch(workers: list, reports, line, total: int) -> int:
    """Follow the workers to their end; returns how many seeds the game could not start.

    Raises Stopped where a worker fails.
    """
    running, stored, lost, refused = len(workers), 0, 0, 0
    each = line.total // total
    while running:
        try:
            kind, value = reports.get(timeout=1.0)
        except queue.Empty:
            dead = [w.exitcode for w in workers if w.exitcode not in (None, 0)]
            if dead:
                raise Stopped(f"a worker was ended from outside (status {dead[0]})") from None
            continue
        if kind == "step":
            line.update(value)
        elif kind == "episode":
            stored += 1
            line.set_postfix_str(f"{stored}/{total} episodes, {lost} begun again")
        elif kind == "lost":
            lost += 1
            line.write(f"note: {value}; its episode is begun again", sys.stderr)
        elif kind == "refused":
            refused += 1
            line.total -= each
            line.write(f"note: {value}; its episode is left out", sys.stderr)
        elif kind == "done":
            running -= 1
        else:
            raise Stopped(value)
    return refused


def record_all(config: RecordingConfig) -> tuple[int, int, int, str | None]:
    """Record what is missing.

    Returns (episodes stored, episodes asked for, those the game could not start, why it stopped or None).
    """
    from collect import store
    from launch.shared import players, runs
    from wm.sector.traffic import STEP_S

    hashes = {name: players.make(name, config.slots).hash for name in config.policies}
    jobs = list(jobs_of(config, hashes))
    first, of = config.share or (0, 1)
    jobs = jobs[first::of]

    def shards() -> int:
        """Files here, of one episode each; reading what is in gigabytes of them takes minutes."""
        return sum(len(store.shards(path)) for path in store.written_directories(root_of(config)))

    for directory in store.written_directories(root_of(config)):
        store.wait_until_free(directory, ORPHAN_PATIENCE_S)
    have = store.stored_keys(store.written_directories(config.out)) & {job.key for job in jobs}
    before = shards()
    missing = [job for job in jobs if job.key not in have]
    if not missing:
        return len(have), len(jobs), 0, None
    number = min(config.workers, len(missing))
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    workers = [
        context.Process(
            target=work,
            args=(config, missing[i::number], root_of(config) / f"worker-{i:03d}", reports, os.getpid()),
        )
        for i in range(number)
    ]
    refused, why = 0, None
    try:
        for worker in workers:
            worker.start()
        decisions = len(missing) * round(60.0 * config.minutes / STEP_S)
        with runs.progress(decisions, "decision") as line:
            refused = watch(workers, reports, line, len(missing))
    except Stopped as stop:
        why = str(stop)
    except KeyboardInterrupt:
        why = "interrupted"
    finally:
        for worker in workers:
            if worker.pid:
                worker.join(timeout=0.0 if why else 10.0)
                worker.kill()
                worker.join()
    return len(have) + shards() - before, len(jobs), refused, why


def terminate(signum, frame):
    """SIGTERM (a batch system's time limit) ends like Ctrl-C, and once is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def configuration(argv: list[str]) -> RecordingConfig:
    """The configuration of a command line, which may begin with the name of a plan."""
    if argv and not argv[0].startswith("-"):
        if argv[0] not in PLANS:
            print(f"error: plan {argv[0]!r} must be one of {', '.join(PLANS)}", file=sys.stderr)
            raise SystemExit(2)
        return cli.parse(RecordingConfig, argv[1:], PLANS[argv[0]])
    return cli.parse(RecordingConfig, argv)


def main() -> int:
    """Record, and say what is stored."""
    config = configuration(sys.argv[1:])
    os.environ.update(CPU_ONLY)
    signal.signal(signal.SIGTERM, terminate)
    from collect.store import DataError
    from launch.shared.runs import fail, one_line_errors
    from wm.store.checkpoints import CheckpointError

    with one_line_errors(DataError, CheckpointError, ValueError, OSError):
        config.out.mkdir(parents=True, exist_ok=True)
        try:
            stored, wanted, refused, why = record_all(config)
        except KeyboardInterrupt:  # while it looked for what is stored
            fail(f"interrupted before recording began; {config.out} is as it was")
    if refused and not stored:
        why = "the game starts with none of these seeds"
    if why is not None:
        print(
            f"error: {why}; {stored} of {wanted} episodes are stored in {config.out}, "
            "the same command goes on from there",
            file=sys.stderr,
        )
        return 1
    left_out = f"; the game cannot start {refused}, see the notes above" if refused else ""
    print(f"{stored} of {wanted} episodes are stored in {config.out}{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
