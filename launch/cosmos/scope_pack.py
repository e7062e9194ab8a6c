"""`scope_pack`: recordings of the real game with pictures become the hours that the pixel models learn from.

    python -m launch.cosmos scope_pack --data runs/recordings/pictures --out runs/scope/train

What is packed already is passed over, so the same command goes on where it stopped.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from collect import dataset, pictures, store
from configs import cli
from configs.scope import ScopePack
from launch.shared import runs
from wm.cosmos.scope import hours
from wm.cosmos.scope.hours import Hour, ScopeError


def packed(data: Path, out: Path, use: str) -> Iterator[Path | None]:
    """Packs every recorded episode below `data`; yields its file, None where it was there."""
    for directory in store.find_directories(data):
        builder = store.open_directory(directory)
        for shard in store.shards(directory):
            for record in store.read_records(shard):
                yield _pack(store.parse_record(record, builder), str(shard), out, use)


def _pack(example: dict, where: str, out: Path, use: str) -> Path | None:
    meta = example["episode_metadata"]
    seed = int(meta["seed"])
    dataset.check_seed(seed, use, where)
    icao = meta["airport"].decode() if isinstance(meta["airport"], bytes) else str(meta["airport"])
    path = out / f"{icao}-{seed}.npz"
    if path.exists():
        return None
    unfinished = path.with_suffix(".unfinished")
    hours.save(unfinished, hour_of(example, where))
    unfinished.replace(path)
    return path


def hour_of(example: dict, where: str) -> Hour:
    """The hour of one record.

    Raises:
      ScopeError: it has no pictures, or not those of the page of altitudes.
    """
    seen = example["steps"]["observation"]
    if "picture" not in seen:
        raise ScopeError(f"{where} has no pictures: record it with --every 3 --picture-px 512")
    decisions = np.flatnonzero(np.asarray(seen["picture_page"]) == pictures.ALTITUDE_PAGE)
    shots = [pictures.palette_indices(bytes(seen["picture"][i])) for i in decisions]
    if not shots:
        raise ScopeError(f"{where} shows no altitudes in any picture: record it with --every 3")
    recording = dataset.recording_of(example, where)
    return hours.from_recording(recording, np.stack(shots), decisions, pictures.palette())


def main(argv: list[str]) -> None:
    """Pack, and say how many hours there are."""
    config = cli.parse(ScopePack, argv)
    with runs.one_line_errors(ValueError, OSError):
        config.out.mkdir(parents=True, exist_ok=True)
        episodes = sum(len(store.shards(path)) for path in store.find_directories(config.data))
        work = packed(config.data, config.out, config.use)
        made = sum(path is not None for path in runs.track(work, "hour", episodes))
    print(f"{made} hours packed; {config.out} holds {len(hours.find(config.out))}")
