"""What every training command does around its loop, so that the same command always goes on.

    size = training.per_device(out, asked, devices, "environments")
    with training.hold(out, record, total, "chunk") as folder:
        state = folder.restore(shapes) if folder.begun else fresh()
        with folder.log(keep, advice) as log:
            for chunk in range(folder.done, total):
                ...
                log.write(line)
                folder.checkpoint(chunk + 1, (chunk + 1) % save_every == 0, lambda: folder.save(...))

A run folder has resume/ (the newest checkpoint), metrics.jsonl, tensorboard/ (the same as an event file) and
what the command itself adds. One process holds it at a time; of several hosts the first does. `record` is
what a later start has to share: it holds no paths but fingerprints, so the same inputs elsewhere are the same
run, and no number of devices.

What a run loses: after SIGTERM or Ctrl-C nothing, since the running chunk is finished and saved (the process
then ends with status 143 or 130); after a kill at most what was done since the last checkpoint.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from launch.shared import boards, runs
from wm.store import checkpoints, lock
from wm.store.provenance import write_json

RESUME, METRICS = "resume", "metrics.jsonl"
ALL_DEVICES = "over_all_devices"  # metadata of a checkpoint: how many of what its devices share


class TrainingError(ValueError):
    """The run can't start or go on; one line with cause and remedy."""


class Stopped(Exception):
    """The run was asked to end and has saved what it did; `status` is the process's."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def ends(*errors: type[Exception]) -> Iterator[None]:
    """Ends the process in one line where the run was stopped or fails with a message for the user."""
    try:
        with runs.one_line_errors(checkpoints.CheckpointError, ValueError, OSError, *errors):
            yield
    except Stopped as stopped:
        print(f"note: {stopped}", file=sys.stderr)
        raise SystemExit(stopped.status) from None


def note(text: str) -> None:
    """A line on stderr; of several hosts the first writes it."""
    if jax.process_index() == 0:
        print(f"note: {text}", file=sys.stderr, flush=True)


# Sizes


def per_device(
    out: Path, asked: int, devices: int, what: str, fits: Callable[[int], bool] = lambda size: True
) -> int:
    """How many of `what` each of `devices` gets: as asked for, or its share of what an earlier start had.

    A run that goes on with other devices keeps its total, so that it goes on learning the same.

    Args:
      out: the run folder.
      asked: for each device of a new run.
      devices: of all hosts.
      what: such as "environments".
      fits: whether a device can have so many.

    Raises:
      TrainingError: the total can't be shared out; the message names numbers of devices that can.
    """
    step = checkpoints.latest_step(out / RESUME)
    total = None if step is None else checkpoints.load_metadata(out / RESUME, step).get(ALL_DEVICES)
    if total is None or total == asked * devices:
        return asked
    able = [n for n in range(1, total + 1) if total % n == 0 and fits(total // n)]
    if devices not in able:
        near = [*[n for n in able if n < devices][-1:], *[n for n in able if n > devices][:1]]
        raise TrainingError(
            f"{out} shares {total} {what} equally between its devices, which {devices} can't: "
            f"use {' or '.join(map(str, near))} (--devices), or another --out"
        )
    if total != asked * devices:
        note(f"{out} has {total} {what}; each of the {devices} devices here takes {total // devices} of them")
    return total // devices


# The run folder


@dataclass(frozen=True)
class Folder:
    """A run folder that this process holds.

    Attributes:
      path: the folder.
      record: what a later start has to share, as plain JSON.
      total, unit: how many of what the run consists of.
      saved: the newest checkpoint's step; None for a new run.
      signals: those that have asked for an end.
    """

    path: Path
    record: dict
    total: int
    unit: str
    saved: int | None
    signals: list[int]

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.saved is not None

    @property
    def done(self) -> int:
        return self.saved or 0

    def restore(self, shapes: Any) -> Any:
        """What the newest checkpoint holds, with the structure of `shapes`."""
        return checkpoints.restore(self.path / RESUME, shapes, self.saved)

    def save(self, step: int, tree: Any, metadata: dict) -> None:
        """Everything that a later start needs to go on as if nothing had happened."""
        checkpoints.save(self.path / RESUME, step, tree, self.record, metadata, keep=1)

    def asked_to_stop(self) -> bool:
        """Whether any host was sent SIGTERM or SIGINT; all hosts call it together."""
        if jax.process_count() == 1:
            return bool(self.signals)
        return bool(np.any(multihost_utils.process_allgather(np.asarray(len(self.signals)))))

    def product(self, name: str, write: Callable[[Path], Any]) -> None:
        """The run's folder `name` as `write` makes it; until that is whole an earlier one stays.

        A run that was finished before keeps what it made: other runs know it by its content.
        """
        final = self.path / name
        if self.done >= self.total and final.exists():
            return
        fresh, old = (final.with_name(f".{name}.{word}") for word in ("new", "old"))
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        write(fresh)
        if final.exists():
            final.replace(old)
        fresh.replace(final)
        shutil.rmtree(old, ignore_errors=True)

    def checkpoint(self, step: int, due: bool, save: Callable[[], Any]) -> None:
        """Calls `save` when it is due, at the end, and when the run was asked to end.

        Raises:
          Stopped: it was asked to end, and there is more to do.
        """
        asked = self.asked_to_stop()
        if due or asked or step >= self.total:
            save()
        if asked and step < self.total:
            self.stop(f"{step:,} of {self.total:,} {self.unit}s are saved")

    def stop(self, kept: str) -> None:
        """Raises Stopped, with what is kept of the run."""
        number = self.signals[0] if self.signals else signal.SIGTERM
        raise Stopped(f"stopped: {kept} in {self.path}; the same command goes on", 128 + number)

    @contextlib.contextmanager
    def log(
        self, keep: Callable[[dict], bool], advice: str, project: str | None = None
    ) -> Iterator["Log"]:
        """metrics.jsonl for appending, without the lines of what was never saved and will be done again.

        While it is open, SIGTERM and SIGINT wait for the next `checkpoint`.

        Args:
          keep: whether a line is of what the newest checkpoint has; a new run keeps none.
          advice: what to do about a metric that isn't a number, for the message.
          project: of Weights & Biases, where the run shall be shown there.

        Raises ValueError where there is a project but no Weights & Biases.
        """
        if jax.process_index() > 0:
            with open(os.devnull, "w") as nowhere, _waiting(self.signals):
                yield Log(nowhere, advice)
            return
        page = boards.page(project, self.path, self.record)
        with runs.reopen_log(self.path / METRICS, keep if self.begun else lambda line: False) as file:
            board = boards.Board(self.path, self.lines(), page)
            with contextlib.closing(board), _waiting(self.signals):
                yield Log(file, advice, board)

    def lines(self) -> list[dict]:
        """What metrics.jsonl holds."""
        return [json.loads(line) for line in (self.path / METRICS).read_text().splitlines()]

    def write_config(self, config: Any) -> None:
        """config.json: what was asked for, as `configs.cli.load` reads it."""
        if jax.process_index() == 0:
            runs.write_config(self.path / "config.json", config)

    def write_results(self, results: dict[str, Any]) -> dict[str, Any]:
        """results.json; a figure that is None, because nothing was timed, stays what it was."""
        path = self.path / "results.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        kept = {name: before.get(name) if value is None else value for name, value in results.items()}
        everything = {**runs.provenance(), **kept}
        write_json(path, everything)
        return everything

    def forget_unsaved(self, name: str) -> None:
        """Removes steps of another folder of checkpoints that are newer than the run's own."""
        if jax.process_index() > 0:
            return
        for path in (self.path / name).glob("[0-9]*"):
            if self.saved is None or int(path.name) > self.saved:
                shutil.rmtree(path)


@dataclass(frozen=True)
class Log:
    """A log of JSON lines, each on disk as soon as it was written."""

    file: TextIO
    advice: str
    board: boards.Board | None = None

    def write(self, line: dict) -> None:
        """Raises TrainingError where a metric isn't a number; no checkpoint then follows."""
        for name, value in line.items():
            if isinstance(value, float) and not math.isfinite(value):
                place = ", ".join(f"{k} {line[k]}" for k in ("chunk", "step") if k in line)
                raise TrainingError(f"{name} is {value} in {place}: {self.advice}")
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board is not None:
            self.board.write(line)


@contextlib.contextmanager
def hold(out: Path, record: dict, total: int, unit: str) -> Iterator[Folder]:
    """The run folder, made where there is none, for as long as the block lasts.

    Args:
      out: the run folder.
      record: what an earlier start must have shared, plain JSON.
      total, unit: how many of what the run consists of.

    Raises:
      TrainingError: another process holds the folder, or it has a run of another configuration.
    """
    with contextlib.ExitStack() as stack:
        _agree(_lock(out, stack) if jax.process_index() == 0 else None)
        saved = checkpoints.latest_step(out / RESUME)
        if saved is not None:
            _compare(out, record, saved)
            finished = f"is finished, {saved:,} of {total:,} {unit}s; its results are written again"
            goes_on = f"goes on after {saved:,} of {total:,} {unit}s"
            note(f"{out} {finished if saved >= total else goes_on}")
        yield Folder(out, record, total, unit, saved, [])


def _lock(out: Path, stack: contextlib.ExitStack) -> str | None:
    """Makes and locks the folder; returns why it can't."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(lock.hold(out))
    except lock.FolderBusy:
        return f"another process trains in {out}: wait for it, or choose another --out"
    except lock.NoLocks as error:
        note(f"{error.args[0]}; going on without")
    except OSError as error:
        return f"{out} can't be written: {error}"
    return None


def _agree(fault: str | None) -> None:
    """Raises TrainingError on all hosts where the first has found a fault."""
    if jax.process_count() > 1:
        bad = bool(multihost_utils.broadcast_one_to_all(np.asarray(int(fault is not None))))
        fault = (fault or "the first host can't begin; see its message") if bad else None
    if fault is not None:
        raise TrainingError(fault)


def _compare(out: Path, record: dict, saved: int) -> None:
    """Raises TrainingError that names the first field in which an earlier start differs."""
    ours = _flat(json.loads(json.dumps(record)))
    theirs = _flat(checkpoints.load_config(out / RESUME, saved))
    for name in [*ours, *theirs]:
        if ours.get(name) != theirs.get(name):
            raise TrainingError(
                f"{out} holds a run with {name} = {theirs.get(name, 'nothing')}, this command has "
                f"{ours.get(name, 'nothing')}: use the same, or another --out"
            )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix.removesuffix("."): value}
    return {k: v for key, child in value.items() for k, v in _flat(child, f"{prefix}{key}.").items()}


@contextlib.contextmanager
def _waiting(received: list[int]) -> Iterator[None]:
    """Puts a signal that asks for an end into a list; a second one does what it did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number, frame):
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:  # not the main thread, which alone may handle signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

