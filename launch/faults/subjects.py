"""Small runs of the commands that are broken on purpose, and what each of them leaves behind.

A subject's product is a dictionary from names to digests; what a run has written once must never change.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from collect import export, store
from launch import check_training
from launch.faults import models
from launch.faults.digests import digest
from launch.shared.processes import cpu_seconds
from wm.store import checkpoints
from wm.store.provenance import ROOT

SHIPPED = ROOT / "collect" / "data" / "shipped"
PATIENCE_S = 900.0  # for one run on a busy machine


@dataclass(frozen=True)
class Subject:
    """A command.

    Attributes:
      words: words(inputs, out), what follows `python -m`.
      product: product(out), what the run has left so far, by name.
      room: bytes that a file may have where the disk is "full".
    """

    name: str
    words: Callable[[Path, Path], str]
    product: Callable[[Path], dict[str, str]]
    room: int


def _packed(out: Path) -> dict[str, str]:
    """What packed episodes hold; the order of their parts is another in every process."""
    return {path.name: digest(export.read(path)) for path in export.find(out)}


def _exported(out: Path) -> dict[str, str]:
    """Tensors of whole parts; the order of the notes beside them is another in every process."""
    files = sorted(path for path in out.glob("[!.]*/*") if path.suffix == ".safetensors")
    return {str(path.relative_to(out)): digest(load_file(path)) for path in files}


def _videos(out: Path) -> dict[str, str]:
    """Their lengths: an encoder writes the time of day into each."""
    return {
        path.name: str(path.stat().st_size)
        for path in sorted(out.glob("[!.]*-*.mp4"))
        if ".part." not in path.name
    }


def _episodes(out: Path) -> dict[str, str]:
    """Finished episodes of an evaluation; how long playing took is nobody's result."""
    found = {}
    for path in sorted((out / "cache").rglob("*.json")):
        if not path.name.startswith("."):
            episode = {
                name: value for name, value in json.loads(path.read_text()).items() if name != "wall_s"
            }
            found[str(path.relative_to(out))] = digest(episode)
    return found


def _records(out: Path) -> dict[str, str]:
    """Stored episodes by their keys."""
    found = {}
    for directory in store.written_directories(out):
        builder = store.open_directory(directory)
        for path in store.shards(directory):
            (record,) = store.read_records(path)
            example = store.parse_record(record, builder)
            found[example["episode_metadata"]["key"].decode()] = digest(example)
    return found


def _steps(*parts: str) -> Callable[[Path], dict[str, str]]:
    """The checkpoints in parts of a folder."""

    def product(out: Path) -> dict[str, str]:
        whole = [part for part in parts if checkpoints.latest_step(out / part) is not None]
        return {part: digest(checkpoints.load_leaves(out / part)) for part in whole}

    return product


def _words(text: str) -> Callable[[Path, Path], str]:
    return lambda inputs, out: text.format(i=inputs, o=out)


def _training(name: str) -> Callable[[Path, Path], str]:
    def words(inputs: Path, out: Path) -> str:
        return " ".join(check_training.command_line(name, inputs, out)[2:])

    return words


EVALUATION = (
    "launch.eval_policy --policies noop random --airport kabq --split select "
    "--cache {o}/cache --out {o}/report"
)
SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "evaluation",
            _words(f"{EVALUATION} --where model --minutes 1 --episodes 4"),
            _episodes, 300,
        ),
        Subject(
            "pack", _words(f"launch.export pack --data {SHIPPED} --out {{o}}"),
            _packed, 50_000,
        ),
        Subject("unpack", _words("launch.export unpack --data {i}/packed --out {o}"), _records, 50_000),
        Subject("video", _words(f"launch.export video --data {SHIPPED}/clips --out {{o}}"), _videos, 1000),
        Subject(
            "convert", _words("launch.cosmos convert --source {i}/weights --out {o}"),
            _steps("transformer", "vae"), 3000,
        ),
        Subject(
            "export", _words("launch.cosmos export --model {i}/converted --out {o}"),
            _exported, 3000,
        ),
        Subject("train_wm", _training("train_wm"), _steps("model"), 20_000),
        Subject("train_ppo", _training("train_ppo"), _steps("policy"), 3000),
        Subject("finetune", _training("finetune"), _steps("model"), 3000),
    )
}  # fmt: skip


def make_inputs(inputs: Path) -> None:
    """What the subjects read, made once in a folder."""
    if (inputs / "made").exists():
        return
    shutil.rmtree(inputs, ignore_errors=True)
    inputs.mkdir(parents=True)
    check_training.make_inputs(inputs)
    models.prepare_weights(inputs / "weights")
    for name, words in (("packed", SUBJECTS["pack"].words), ("converted", SUBJECTS["convert"].words)):
        done = run(words(inputs, inputs / name).split(), inputs / "programs")
        if done.returncode:
            raise ValueError(f"{name} could not be made: {done.stderr[-300:]}")
    (inputs / "made").touch()


def environment(programs: Path) -> dict[str, str]:
    """On the CPU, with compiled programs kept for the next start."""
    kept = {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return os.environ | kept | {"JAX_PLATFORMS": "cpu"}


def start(words: list[str], programs: Path) -> subprocess.Popen:
    """A command in a session of its own, what it says in pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment(programs), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def run(words: list[str], programs: Path, room: int | None = None) -> subprocess.CompletedProcess:
    """A command to its end; with `room`, none of its files may have more bytes."""
    process = start(words, programs)
    if room is not None:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, hard))
    try:
        said = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()
        raise ValueError(
            f"{' '.join(words[:2])} took longer than {PATIENCE_S:g} s: {said[1][-300:]}"
        ) from None
    except BaseException:  # such as Ctrl-C, which does not reach other sessions
        process.kill()
        raise
    return subprocess.CompletedProcess(words, process.returncode, *said)


def timed(words: list[str], programs: Path) -> tuple[float, subprocess.CompletedProcess]:
    """Seconds of processor time that a command took, which a busy machine hardly changes, and its end."""
    used = lambda usage: usage.ru_utime + usage.ru_stime  # noqa: E731
    before = used(resource.getrusage(resource.RUSAGE_CHILDREN))
    done = run(words, programs)
    return used(resource.getrusage(resource.RUSAGE_CHILDREN)) - before, done


def reach(process: subprocess.Popen, seconds: float) -> bool:
    """Wait until a command has used so much processor time; False where it ends before."""
    while process.poll() is None:
        if sum(cpu_seconds(process.pid).values()) >= seconds:
            return True
        time.sleep(0.02)
    return False


def last_lines(text: str) -> list[str]:
    """What was said, without progress lines, notes and empty lines."""
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    return [
        line
        for line in lines
        if line and "it/s" not in line and "%|" not in line and not line.startswith("note:")
    ]
