"""Read every record of a recording and name what is wrong with it.

An episode that a killed recorder left unfinished is no fault: it was never acknowledged, and the next
episode overwrites it.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from collect import dataset, store
from collect.slots import FREE
from collect.store import DataError
from wm.sector import traffic as tr

SHARD = re.compile(rf"{store.NAME}-{store.SPLIT}\.array_record-(\d+)")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about one file: a fault, or a remark where `fault` is False."""

    path: Path
    text: str
    fault: bool = True


@dataclasses.dataclass
class Report:
    """What was read and what was found."""

    episodes: int = 0
    decisions: int = 0
    bytes: int = 0
    findings: list[Finding] = dataclasses.field(default_factory=list)

    @property
    def faults(self) -> list[Finding]:
        """The findings that make a recording unfit."""
        return [finding for finding in self.findings if finding.fault]


def validate(root: Path | str, use: str | None = None) -> Iterator[Report]:
    """Check all recordings at or below `root`; yields the running report after every file.

    `use` ("train", "select", "test") also checks that the seeds are kept for that. Raises DataError
    where there are no recordings at all.
    """
    report, seen = Report(), {}
    for directory in store.find_directories(root):
        try:
            paths, builder = store.shards(directory), store.open_directory(directory)
        except DataError as error:
            report.findings.append(Finding(directory, str(error)))
            yield report
            continue
        report.findings += _strays(directory, paths)
        for path in paths:
            report.findings += _check_file(path, builder, seen, use, report)
            yield report
        if not paths:
            yield report


def _strays(directory: Path, named: Sequence[Path]) -> list[Finding]:
    """Episode files that the metadata does not name."""
    known = {_shard_number(path) for path in named}
    return [
        Finding(path, "unfinished episode; the next recording replaces it", fault=False)
        for path in sorted(directory.iterdir())
        if SHARD.match(path.name) and _shard_number(path) not in known
    ]


def _shard_number(path: Path) -> int:
    return int(SHARD.match(path.name).group(1))


def _check_file(path, builder, seen: dict, use, report: Report) -> list[Finding]:
    """Findings about one episode's file."""
    if not path.exists():
        return [Finding(path, "is missing, though the metadata names it: record again")]
    report.bytes += path.stat().st_size
    try:
        records = store.read_records(path)
    except DataError as error:
        return [Finding(path, str(error))]
    if len(records) != 1:
        return [Finding(path, f"holds {len(records)} episodes instead of one")]
    try:
        example = store.parse_record(records[0], builder)
        key = json.loads(example["episode_metadata"]["key"])
        cut = json.loads(example["episode_metadata"]["about"]).get("cut")
        faults = list(check_example(example))
    except Exception as error:  # any kind of damage inside a record
        return [Finding(path, f"cannot be read ({type(error).__name__}: {error})")]
    report.episodes += 1
    report.decisions += len(example["steps"]["action"]) - 1
    name = json.dumps(key, sort_keys=True)
    if name in seen:
        faults.append(f"is the same episode as {seen[name]}")
    seen.setdefault(name, path)
    if use is not None:
        try:
            dataset.check_seed(int(example["episode_metadata"]["seed"]), use, "it")
        except DataError as error:
            faults.append(str(error))
    early = [Finding(path, f"ends early: {cut}", fault=False)] if cut else []
    return [Finding(path, fault) for fault in faults] + early


def check_example(example: dict) -> Iterator[str]:
    """What is wrong with one episode's columns, one line each."""
    meta, steps = example["episode_metadata"], example["steps"]
    observation, traffic = steps["observation"], steps["observation"]["traffic"]
    version = int(meta["schema_version"])
    if version != tr.SCHEMA_VERSION:
        yield f"has schema version {version}, this code has {tr.SCHEMA_VERSION}"
    for name, values in _numbers(steps):
        if not np.isfinite(values).all():
            yield f"{name} is not a number at step {np.argwhere(~np.isfinite(values))[0][0]}"
    gaps = np.flatnonzero(np.diff(observation["time_s"]) != np.float32(tr.STEP_S))
    if observation["time_s"][0] != 0 or len(gaps):
        where = int(gaps[0]) + 1 if len(gaps) else 0
        yield f"time does not go on by {tr.STEP_S:g} s at step {where}"
    flags = [steps["is_first"], steps["is_last"]]
    ends = [np.flatnonzero(flag).tolist() for flag in flags]
    if ends != [[0], [len(steps["is_last"]) - 1]]:
        yield "is_first and is_last do not mark its first and last step"
    yield from _check_events(steps)
    yield from _check_columns(traffic, observation["slots"])
    sizes = np.asarray(json.loads(meta["about"])["action_sizes"])
    if ((steps["action"] < 0) | (steps["action"] >= sizes)).any():
        yield f"has actions outside {sizes.tolist()}"


def _numbers(tree: dict, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """All float columns with their names."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            yield prefix + name, value


def _check_events(steps: dict) -> Iterator[str]:
    code = steps["events"][..., 1]
    used = steps["events"][..., 0] > -2
    if (used & ((code < 0) | (code >= len(tr.EVENT_NAMES)))).any():
        yield f"has events that are none of the {len(tr.EVENT_NAMES)} known"
        return
    points = np.where(used, tr.EVENT_POINTS[np.where(used, code, 0)], 0).sum(1)
    score = steps["observation"]["score"]
    wrong = np.flatnonzero(np.diff(score) != points[:-1])
    if len(wrong):
        yield f"its events do not add up to the page's score at step {wrong[0]}"


def _check_columns(traffic: dict, slots: np.ndarray) -> Iterator[str]:
    valid, ids = traffic["valid"], traffic["id"]
    if ((ids >= 0) != valid).any():
        yield "has aircraft without an id, or ids without an aircraft"
    moved = valid[1:] & valid[:-1] & (ids[1:] != ids[:-1])
    if moved.any():
        yield f"a column changes hands at step {np.argwhere(moved)[0][0] + 1}"
    if (slots[~valid] != FREE).any():
        yield "has slots for aircraft that are not there"
