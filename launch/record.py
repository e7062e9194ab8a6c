"""Record the real game.

    python -m launch.record --out runs/recordings --episodes 200 --workers 16
    python -m launch.record seed --workers 16        # a plan; world-model is another

Each worker is a process with a browser of its own and writes a directory of its own below --out.
The same command goes on where it stopped, whatever stopped it; see configs/recording.py.
"""

import contextlib
import copy
import dataclasses
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
        # Every mix comes in its turn, and neighbours in the order differ in all of it.
        wind_turn, rate_turn = divmod(rest, len(config.traffic))
        rate = (rate_turn + policy + airport) % len(config.traffic)
        wind = config.winds[(wind_turn + rate_turn + policy + airport) % len(config.winds)]
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
            every=config.every,
        )


class Worker:
    """One worker: plays jobs into a directory and reports (kind, value) pairs; ends with its parent."""

    def __init__(self, config: RecordingConfig, directory: Path, reports, parent: int):
        from collect.pictures import View
        from collect.record import SharedBrowser

        self._config, self._directory, self._reports, self._parent = config, directory, reports, parent
        self._stop = threading.Event()  # set where a page fails: the others end at their next decision
        self._browsers = SharedBrowser()
        px = config.picture_px
        self._view = None if px is None else View(px, config.pictures, config.palette)

    def play(self, jobs: list) -> None:
        """Play `jobs` on all pages; raises the error of the page that failed first."""
        from collect.store import EpisodeWriter
        from launch.shared import players

        config = self._config
        made = {name: players.make(name, config.slots) for name in config.policies}
        with (
            EpisodeWriter(self._directory, config.picture_px, config.pictures) as writer,
            contextlib.closing(self._browsers),
            ThreadPoolExecutor(config.pages) as pool,
        ):
            shares = [jobs[i :: config.pages] for i in range(config.pages)]
            pages = [pool.submit(self._page, share, made, writer) for share in shares]
            errors = [error for error in (one.exception() for one in pages) if error is not None]
        for error in sorted(errors, key=lambda error: isinstance(error, SystemExit)):
            raise error

    def _page(self, jobs: list, made: dict, writer) -> None:
        """Play some of the jobs, with players of its own: they remember where they are in an episode."""
        from collect.record import Listener, record
        from collect.server import Server

        own = {name: copy.copy(player) for name, player in made.items()}
        listener = Listener(
            self._on_step, self._report("lost"), self._report("refused"), self._report("moved")
        )
        server = Server.of(self._config)
        try:
            for job in record(jobs, own, writer, server, self._view, listener, self._browsers):
                self._reports.put(("episode", job.key))
        finally:
            if sys.exc_info()[0] is not None:
                self._stop.set()

    def _on_step(self) -> None:
        if os.getppid() != self._parent or self._stop.is_set():  # the parent was killed, or a page failed
            raise SystemExit(1)
        self._reports.put(("step", 1))

    def _report(self, kind: str):
        return lambda value: self._reports.put((kind, value))


def work(config: RecordingConfig, jobs: list, directory: Path, reports, parent: int) -> None:
    """The process of one worker. Its last report is "done", or why it ended: "error" where the same command
    may go on, "unfit" where it cannot."""
    from collect import GameError
    from launch.shared.runs import in_one_line
    from wm.store.lock import NoLocks

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its workers
    try:
        Worker(config, directory, reports, parent).play(jobs)
    except (NoLocks, ValueError) as error:  # such as a recording of another layout
        reports.put(("unfit", in_one_line(error)))
    except (GameError, OSError) as error:
        reports.put(("error", in_one_line(error)))
    else:
        reports.put(("done", None))


def root_of(config: RecordingConfig) -> Path:
    """Where this command writes: --out, or the directory of one task of an array below it."""
    return config.out if config.share is None else config.out / f"task-{config.share[0]:03d}"


class Stopped(Exception):
    """Recording ended before its end; the message says why."""

    def __init__(self, why: str, goes_on: bool = True):
        super().__init__(why)
        self.goes_on = goes_on  # with the same command


def watch(workers: list, reports, line, total: int) -> int:
    """Follow the workers to their end; returns how many seeds the game could not start.

    Raises Stopped where a worker fails.
    """
    running, stored, lost, refused, moved = len(workers), 0, 0, 0, set()
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
        elif kind == "moved":
            if value not in moved:
                line.write(f"note: the server leads to {value}, which is played", sys.stderr)
            moved.add(value)
        elif kind == "done":
            running -= 1
        else:
            raise Stopped(value, goes_on=kind == "error")
    return refused


@dataclasses.dataclass
class Outcome:
    """What a recording came to.

    Attributes:
      stored, wanted: episodes.
      refused: those that the game could not start.
      why: it stopped early; None where it did not.
      goes_on: the same command may go on from there.
    """

    stored: int
    wanted: int
    refused: int = 0
    why: str | None = None
    goes_on: bool = True


def wanted_jobs(config: RecordingConfig) -> list:
    """The episodes that this command is to record, whether they are stored or not."""
    from launch.shared import players

    hashes = {name: players.make(name, config.slots).hash for name in config.policies}
    first, of = config.share or (0, 1)
    return list(jobs_of(config, hashes))[first::of]


def record_all(config: RecordingConfig) -> Outcome:
    """Record what is missing."""
    from collect import store

    root, jobs = root_of(config), wanted_jobs(config)

    def shards() -> int:
        """Files here, of one episode each; reading what is in gigabytes of them takes minutes."""
        return sum(len(store.shards(path)) for path in store.written_directories(root))

    for directory in store.written_directories(root):
        store.wait_until_free(directory, ORPHAN_PATIENCE_S)
    have = store.stored_keys(store.written_directories(config.out)) & {job.key for job in jobs}
    before, missing = shards(), [job for job in jobs if job.key not in have]
    outcome = Outcome(len(have), len(jobs))
    if not missing:
        return outcome
    directories = [root / f"worker-{i:03d}" for i in range(min(config.workers, len(missing)))]
    for directory in directories:  # before anything is started: who cannot write there cannot record
        directory.mkdir(parents=True, exist_ok=True)
        store.hold(directory).close()
    run_workers(config, missing, directories, outcome)
    outcome.stored += shards() - before
    return outcome


def run_workers(config: RecordingConfig, jobs: list, directories: list[Path], outcome: Outcome) -> None:
    """Share `jobs` out to a process for each directory, follow them and say in `outcome` how they ended."""
    from launch.shared import runs
    from wm.sector.traffic import STEP_S

    context = multiprocessing.get_context("spawn")
    reports, number = context.Queue(), len(directories)
    workers = [
        context.Process(target=work, args=(config, jobs[i::number], directory, reports, os.getpid()))
        for i, directory in enumerate(directories)
    ]
    try:
        for worker in workers:
            worker.start()
        decisions = len(jobs) * round(60.0 * config.minutes / STEP_S)
        with runs.progress(decisions, "decision") as line:
            outcome.refused = watch(workers, reports, line, len(jobs))
    except Stopped as stop:
        outcome.why, outcome.goes_on = str(stop), stop.goes_on
    except KeyboardInterrupt:
        outcome.why = "interrupted"
    finally:
        for worker in workers:
            if worker.pid:
                worker.join(timeout=0.0 if outcome.why else 10.0)
                worker.kill()
                worker.join()


def terminate(signum, frame):
    """SIGTERM (a batch system's time limit) ends like Ctrl-C, and once is enough."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Record, and say what is stored."""
    config = cli.parse_preset(RecordingConfig, PLANS, kind="plan")
    os.environ.update(CPU_ONLY)
    signal.signal(signal.SIGTERM, terminate)
    from launch.shared.runs import fail, one_line_errors
    from wm.store.checkpoints import CheckpointError

    with one_line_errors(CheckpointError, ValueError, OSError):
        config.out.mkdir(parents=True, exist_ok=True)
        try:
            found = record_all(config)
        except KeyboardInterrupt:  # while it looked for what is stored
            fail(f"interrupted before recording began; {config.out} is as it was")
    if found.refused and not found.stored:
        found.why = "the game starts with none of these seeds"
        found.goes_on = False
    stored = f"{found.stored} of {found.wanted} episodes are stored in {config.out}"
    if found.why is not None:
        promise = ", the same command goes on from there" if found.goes_on else ""
        print(f"error: {found.why}; {stored}{promise}", file=sys.stderr)
        return 1
    left_out = f"; the game cannot start {found.refused}, see the notes above" if found.refused else ""
    print(f"{stored}{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
