"""What every command needs around its work: a run folder, its results, progress, and an end in one line."""

import functools
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

import jax
from tqdm import tqdm

from configs import cli
from wm.store.provenance import ROOT, git_commit, library_versions, write_json

Item = TypeVar("Item")
LONGEST = 4000  # characters of a message: what a file or a page says of itself may be of any length


def create(name: str, root: Path | str = "runs") -> Path:
    """Makes `<root>/<name>-<stamp>`, new even when two runs start in the same second.

    Raises:
      ValueError: `name` isn't letters, digits, dots, dashes and underscores.
    """
    if not re.fullmatch(r"\w[\w.-]*", name, flags=re.ASCII):
        raise ValueError(f"run name {name!r} must be letters, digits, dots, dashes and underscores")
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = Path(root) / f"{name}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ValueError(f"no free name for a run {name!r} in {root}")


def write_results(folder: Path, results: dict[str, Any]) -> Path:
    """Writes `<folder>/results.json`: `results` with command, commit, date, device and versions."""
    path = folder / "results.json"
    write_json(path, {**provenance(), **results})
    return path


def write_config(path: Path, config: Any) -> None:
    """Writes a configuration dataclass as JSON, which `configs.cli.load` reads."""
    write_json(path, cli.to_json(config))


def provenance() -> dict[str, Any]:
    """What makes a figure repeatable: {"command", "commit", "date", "device", "versions"}."""
    return {
        "command": command(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device(),
        "versions": library_versions(),
    }


@functools.cache
def commit() -> str | None:
    """Commit of this code as it was when a command first asked: before its long work, not after it."""
    return git_commit()


def command() -> str:
    """This process's command line as it can be typed again in the repository."""
    program = Path(sys.argv[0]).resolve()
    start = [program.name]
    if any(program.is_relative_to(ROOT / room) for room in ("launch", "tests")):
        module = program.relative_to(ROOT).with_suffix("").parts
        start = ["python", "-m", ".".join(part for part in module if part != "__main__")]
    return shlex.join([*start, *sys.argv[1:]])


def device() -> str:
    """The devices that jax computes on, such as "8 x NVIDIA H100" or "x86_64 CPU, 2 cores"."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return f"{platform.machine()} CPU, {os.cpu_count()} cores"
    return f"{len(devices)} x {devices[0].device_kind}"


def reopen_log(path: Path, keep: Callable[[dict], bool]) -> TextIO:
    """A log of JSON lines for appending by a run that goes on, without those that `keep` doesn't want.

    Those are of what was done after the last checkpoint and will be done again. A line that was cut off
    when the run was killed goes too.
    """
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            if keep(json.loads(line)):
                kept.append(f"{line}\n")
    fresh = path.with_name(f".{path.name}.new")  # the old one stays whole until the new one is
    fresh.write_text("".join(kept), encoding="utf-8")
    fresh.replace(path)
    return path.open("a", encoding="utf-8")


@contextmanager
def progress(total: float, unit: str, done: float = 0) -> Iterator[tqdm]:
    """A progress line on stderr with rate and time left; `line.update(n)` moves it on.

    `done` of `total` were done before, by a run that is resumed.

    with progress(config.total_steps, "step") as line:
        line.set_postfix(reward=..., refresh=False)  # shown at the next update that is due
        line.update(steps_per_chunk)
    """
    # Many a second on a terminal; in the log of a batch job, where every one stays, one a minute.
    seconds = 0.1 if sys.stderr.isatty() else 60.0
    line = tqdm(
        total=total,
        initial=done,
        unit=unit,
        unit_scale=total >= 1000,
        mininterval=seconds,
        maxinterval=seconds,
        dynamic_ncols=True,
    )
    with line:
        yield line


def track(items: Iterable[Item], unit: str, total: int | None = None) -> Iterator[Item]:
    """The items one by one, with a progress line."""
    if total is None:
        items = list(items)
        total = len(items)
    with progress(total, unit) as line:
        for item in items:
            yield item
            line.update()


def fail(message: object, status: int = 1) -> NoReturn:
    """Ends the process with one line on stderr: what was wrong and what would be right."""
    print(f"error: {in_one_line(message)}", file=sys.stderr)
    raise SystemExit(status)


def in_one_line(message: object) -> str:
    """A message, or an error's, in one line; errors of the system name the file before the reason."""
    if isinstance(message, OSError) and message.strerror:
        where = f"{message.filename}: " if message.filename else ""
        message = f"{where}{message.strerror}"
    line = " ".join(str(message).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


@contextmanager
def one_line_errors(*errors: type[Exception]) -> Iterator[None]:
    """Ends the process through `fail` on errors whose messages are meant for the user; others pass."""
    try:
        yield
    except errors as error:
        fail(error)
