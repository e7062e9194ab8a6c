"""Recorded episodes as columns over time, for learning, judging and replaying.

    for episode in dataset.load("runs/recordings"): ...

Letters: T decisions, C columns of aircraft, E kinds of events.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from collect.layout import TERMS
from collect.slots import FREE, width_for
from collect.store import (
    DataError,
    find_directories,
    open_directory,
    parse_record,
    read_records,
    reason_of,
    shards,
)
from collect.tables import airport_fault
from wm.sector import traffic as tr
from wm.sector.recording import Recording

SEEDS = {"train": (0, 500_000), "select": (500_000, 600_000), "test": (600_000, 700_000)}


def load(
    directories: Path | str | Sequence[Path | str], use: str = "train", columns: int | None = None
) -> Iterator[Recording]:
    """Yield the episodes of `directories` (each a directory of recordings, or above some).

    `use` is what they are for, "train", "select" or "test": an episode whose seed is kept for
    something else raises DataError, as does one with an aircraft beyond the first `columns`. Without
    them an episode has as many as it needs: 64, and the largest sectors 128 (collect.slots.WIDTHS).
    """
    if use not in SEEDS:
        raise DataError(f"use={use!r} must be one of {', '.join(SEEDS)}")
    if isinstance(directories, str | Path):
        directories = [directories]
    for root in directories:
        for record, builder, path in _stored(root):
            episode = recording_of(parse_record(record, builder), path, columns)
            check_seed(episode.seed, use, path)
            yield episode


def one(directory: Path | str, number: int) -> Recording:
    """An episode of a directory by its place in it, from 0 on, to be looked at: its seed may be any.

    Raises DataError where there are not so many.
    """
    count = 0
    for record, builder, path in _stored(directory):
        if count == number:
            return recording_of(parse_record(record, builder), path)
        count += 1
    raise DataError(f"{directory} has {count} episodes, no episode {number}: choose 0 to {count - 1}")


def _stored(root: Path | str) -> Iterator[tuple[bytes, Any, str]]:
    """Every record at or below `root` with its builder and its file."""
    for directory in find_directories(root):
        builder = open_directory(directory)
        for path in shards(directory):
            for record in read_records(path):
                yield record, builder, str(path)


def check_seed(seed: int, use: str, where: str) -> None:
    """Raise DataError unless `seed` may be used for `use`."""
    low, high = SEEDS[use]
    if not low <= seed < high:
        owner = next((name for name, (a, b) in SEEDS.items() if a <= seed < b), "nothing")
        raise DataError(f"{where} has seed {seed}, kept for {owner}; {use} takes {low} to {high - 1}")


def recording_of(example: dict, where: str, columns: int | None = None) -> Recording:
    """The episode of one record (collect.store.parse_record) read at `where`, whatever its seed is kept for.

    Raises DataError as `load` does, also for what no recorder writes, of whatever kind that is.
    """
    try:
        return _recording(example, where, columns)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{where} cannot be read ({type(error).__name__}: {reason_of(error)}): record it again"
        ) from None


def _recording(example: dict, where: str, columns: int | None) -> Recording:
    meta, steps = example["episode_metadata"], example["steps"]
    observation = steps["observation"]
    if len(lengths := set(_lengths(steps))) != 1 or not min(lengths):
        raise DataError(f"{where} has columns of {sorted(lengths)} steps, not of one number: record it again")
    if int(meta["schema_version"]) > tr.SCHEMA_VERSION:
        raise DataError(
            f"{where} has schema {meta['schema_version']}, this code {tr.SCHEMA_VERSION}: update it"
        )
    static, routes = json.loads(meta["static"]), json.loads(meta["routes"])
    if fault := airport_fault(static, routes):
        raise DataError(f"{where} has tables of no airport ({fault}): record it again")
    used = int(np.max(np.flatnonzero(observation["traffic"]["valid"].any(0)), initial=-1)) + 1
    columns = width_for(used) if columns is None else columns
    if used > columns:
        raise DataError(f"{where} has aircraft up to column {used}: load it with columns={used} or more")
    slots = _fitted(observation["slots"], columns, FREE)
    traffic = _struct(tr.Traffic, observation["traffic"], columns)
    scene = tr.Scene(
        traffic=traffic,
        runways=_struct(tr.Runways, observation["runways"], len(static["runways"])),
        since_spawn_s=observation["since_spawn_s"][:, : len(static["streams"])],
        wind_speed_kt=observation["wind_speed_kt"],
        wind_from_rad=observation["wind_from_rad"],
        time_s=observation["time_s"],
    )
    about = json.loads(meta["about"])
    raw_events, slot_action = steps["events"][:-1], steps["action"][:-1]
    return Recording(
        icao=_text(meta["airport"]),
        seed=int(meta["seed"]),
        policy=about["policy"],
        scene=scene,
        action=by_column(slot_action, slots[:-1]),
        events=by_event(raw_events, traffic),
        static=static,
        routes=routes,
        slot_action=slot_action,
        slots=slots,
        command=[_text(value) for value in steps["command"][:-1]],
        raw_events=raw_events,
        score=observation["score"],
        terms={name: steps["terms"][name][:-1] for name in TERMS},
        overflow=observation["overflow"],
        callsigns={int(k): v for k, v in json.loads(meta["callsigns"]).items()},
        metadata=about | {"key": json.loads(meta["key"])},
    )


def _lengths(tree: dict) -> Iterator[int]:
    """The number of steps of every column; a record may lack some."""
    for value in tree.values():
        yield from _lengths(value) if isinstance(value, dict) else (0 if value is None else len(value),)


def widened(episode: Recording, columns: int) -> Recording:
    """The same episode with more `columns`, so that it can be stacked with one that needs them."""
    count = episode.slots.shape[1]
    traffic = _struct(tr.Traffic, vars(episode.scene.traffic), columns)
    action = episode.action.copy()
    action[action[:, 0] == count, 0] = columns
    events = np.pad(episode.events, [(0, 0), (0, columns - count), (0, 0)])
    return dataclasses.replace(
        episode,
        scene=episode.scene.replace(traffic=traffic),
        action=action,
        events=events,
        slots=_fitted(episode.slots, columns, FREE),
    )


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _struct(struct_class, stored: dict, size: int):
    """Stored columns as a struct; what an older recording lacks (fields, aircraft) gets its default."""
    shape = (*next(iter(stored.values())).shape[:-1], size)
    value = tr.empty(struct_class, shape, np)
    known = {
        n: _fitted(stored[n].astype(s["dtype"]), size, s["default"])
        for n, s in tr.schema(struct_class).items()
        if n in stored
    }
    return value.replace(**known)


def _fitted(column: np.ndarray, size: int, fill) -> np.ndarray:
    """The first `size` entries of `column [..., C]`, made up with `fill` where it has fewer."""
    more = [(0, 0)] * (column.ndim - 1) + [(0, max(0, size - column.shape[-1]))]
    return np.pad(column[..., :size], more, constant_values=fill)


def by_column(slot_action: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Actions `[T, 5]` with the aircraft's column in place of its slot, C for a no-op."""
    action = slot_action.copy()
    hit = slots == slot_action[:, :1]
    action[:, 0] = np.where(hit.any(1), hit.argmax(1), slots.shape[1])
    return action


def by_event(raw_events: np.ndarray, traffic: tr.Traffic) -> np.ndarray:
    """Event flags `[T, C, E]` from rows `[T, 32, 3]` and the traffic `[T + 1, C]` around them."""
    steps, columns = raw_events.shape[0], traffic.id.shape[1]
    flags = np.zeros((steps, columns, len(tr.EVENT_NAMES)), bool)
    for t, row in zip(*np.nonzero(raw_events[..., 0] >= 0), strict=True):
        aircraft, code, _ = raw_events[t, row]
        found = np.flatnonzero(traffic.id[t] == aircraft)
        if not len(found):
            found = np.flatnonzero((traffic.id[t + 1] == aircraft) & (traffic.id[t] == FREE))
        if len(found):
            flags[t, found[0], code] = True
    return flags
