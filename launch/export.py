"""Recordings for other machines and other programs: packed, filmed, as tracks, scenarios and maps.

    python -m launch.export pack --data runs/recordings/seed --out runs/packed
    python -m launch.export unpack --data runs/packed --out runs/recordings/seed      # on the other machine
    python -m launch.export video --data runs/recordings/seed --out runs/videos
    python -m launch.export tracks --data runs/recordings --out runs/tracks           # --format csv; traffic
    python -m launch.export scenario --data runs/recordings --out runs/scenarios      # BlueSky
    python -m launch.export map --data runs/recordings --out runs/maps                # GeoJSON

Packing keeps the whole state and every pixel (collect/export.py). Tracks (collect/tracks.py) and scenarios
(collect/scenario.py) are also made of imagined hours: --imagine expert. What is there already is skipped.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from collect import dataset, export, geojson, scenario, store, tracks
from collect.store import DataError
from configs import cli
from configs.data import Flown, Map, Pack, Scenario, Tracks, Unpack, Video
from launch.shared import runs
from wm.store.checkpoints import CheckpointError
from wm.store.provenance import write_json


def examples(data: Path) -> Iterator[tuple[str, dict]]:
    """Every recorded episode below `data` with a name of its own."""
    for directory in store.find_directories(data):
        builder = store.open_directory(directory)
        for path in store.shards(directory):
            for record in store.read_records(path):
                example = store.parse_record(record, builder)
                yield name_of(example["episode_metadata"]), example


def write_first(decisions: int, source: Path, folder: Path) -> None:
    """Record the first decisions of the first episode below `source`, as if it had ended there."""
    _, example = next(examples(source))
    last = np.arange(decisions) == decisions - 1
    steps = {**jax.tree.map(lambda column: column[:decisions], example["steps"]), "is_last": last}
    example = {**example, "steps": steps}
    with store.EpisodeWriter(folder, *layout_of(example)) as writer:
        writer.write(as_written(example))


def name_of(metadata: dict) -> str:
    """A file name that tells an episode from all others."""
    try:
        key = json.loads(metadata["key"])
        policy = Path(key["policy"]).name
        wind = "" if key["wind"] is None else "-w{:03d}-{:02d}".format(*key["wind"])
        changed = "" if key["traffic"] == 1.0 else f"-x{key['traffic']:g}"
        digest = f"-{key['policy_hash']}" if key["policy_hash"] else ""
        length = f"-{key['episode_s']:g}s"
        name = f"{key['airport']}-{key['seed']:06d}-{policy}{digest}{changed}{wind}{length}"
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"an episode has no key ({store.reason_of(error)}): record it again") from None
    if not re.fullmatch(
        r"\w[\w.:+-]{0,199}", name
    ):  # the name of a file, which nobody's data may lead elsewhere
        raise DataError(f"an episode has the key {name[:60]!r}, which is no name: record it again")
    return name


def pack(config: Pack) -> str:
    """Pack what is missing; returns what was done."""
    config.out.mkdir(parents=True, exist_ok=True)
    before = after = count = 0
    for name, example in runs.track(examples(config.data), "episode"):
        path = config.out / f"{name}{export.SUFFIX}"
        if not path.exists():
            export.write(example, path)
        count, after = count + 1, after + path.stat().st_size
    before = sum(p.stat().st_size for d in store.find_directories(config.data) for p in store.shards(d))
    return f"{count} episodes in {config.out}, {after / 1e6:.1f} MB of {before / 1e6:.1f} MB"


def unpack(config: Unpack) -> str:
    """Record what is missing from packed files, a directory per layout; returns what was done."""
    paths = export.find(config.data)
    if not paths:
        raise DataError(f"{config.data} holds no packed episodes: make some with launch.export pack")
    have = store.stored_keys(store.written_directories(config.out))
    writers: dict[tuple, store.EpisodeWriter] = {}
    with contextlib.ExitStack() as stack:
        for path in runs.track(paths, "episode"):
            example = export.read(path)
            layout, key, written = unpacked(example, path)
            if layout not in writers:
                directory = config.out / f"worker-{len(writers):03d}"
                writers[layout] = stack.enter_context(store.EpisodeWriter(directory, *layout))
            if key not in have:
                writers[layout].write(written)
    return f"{len(paths)} episodes in {config.out}"


def unpacked(example: dict, path: Path) -> tuple[tuple, str, dict]:
    """Layout, key and steps of a packed episode. Raises DataError where it lacks one of them."""
    try:
        return layout_of(example), example["episode_metadata"]["key"].decode(), as_written(example)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {store.reason_of(error)}"
        raise DataError(f"{path} holds no episode ({reason}): export it again") from None


def layout_of(example: dict) -> tuple[int | None, int, int]:
    """Side and number of an episode's pictures and its columns, as store.EpisodeWriter takes them."""
    view = json.loads(example["episode_metadata"]["about"]).get("view")
    columns = example["steps"]["observation"]["slots"].shape[1]
    return (None, 1, columns) if view is None else (view["px"], view["each"], columns)


def as_written(example: dict) -> dict:
    """Columns over time as the list of steps that store.EpisodeWriter.write takes."""

    def step(tree, t: int):
        if isinstance(tree, dict):
            return {name: step(branch, t) for name, branch in tree.items()}
        return tree[t]

    count = len(example["steps"]["action"])
    steps = [step(example["steps"], t) for t in range(count)]
    return {"steps": steps, "episode_metadata": example["episode_metadata"]}


def video(config: Video) -> str:
    """Write the missing videos; returns what was done."""
    config.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, example in runs.track(examples(config.data), "episode"):
        if "picture" not in example["steps"]["observation"]:
            raise DataError(f"{name} has no pictures: record with --picture-px")
        path = config.out / f"{name}.mp4"
        if not path.exists():
            write_video(path, pictures_of(example), config.frames_per_s)
        count += 1
    return f"{count} videos in {config.out}"


def pictures_of(example: dict) -> Iterator[bytes]:
    """All pictures of an episode in the order of their times."""
    steps = example["steps"]
    between = steps.get("between", {})
    rest = [between[f"picture_{i}"] for i in range(1, len(between) // 2 + 1)]
    last = len(steps["action"]) - 1
    for t, picture in enumerate(steps["observation"]["picture"]):
        yield picture
        if t < last:
            yield from (column[t] for column in rest)


def write_video(path: Path, pngs: Iterator[bytes], frames_per_s: int) -> None:
    """An mp4 of PNG pictures. Raises OSError where this OpenCV cannot write one, or the disk is full."""
    part, writer, count = path.with_suffix(".part.mp4"), None, 0
    try:
        for png in pngs:
            image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
            if writer is None:
                size = (image.shape[1], image.shape[0])
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), frames_per_s, size)
                if not writer.isOpened():
                    raise OSError(f"{path} cannot be written: this OpenCV has no mp4 encoder")
            writer.write(image)
            count += 1
        writer.release()
        if (
            cv2.VideoCapture(str(part)).get(cv2.CAP_PROP_FRAME_COUNT) != count
        ):  # OpenCV passes over a full disk
            raise OSError(f"{path} could not be written whole: is the disk full?")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def stored(data: Path) -> Iterator[tuple[str, dict]]:
    """Every episode of a folder of packed episodes, or every recorded one below `data`, with its name."""
    packed = export.find(data)
    if not packed:
        yield from examples(data)
    for path in packed:
        example = export.read(path)
        yield name_of(example["episode_metadata"]), example


def write_tracks(config: Tracks) -> str:
    """Write the missing tracks; returns what was done."""

    def write(episode, path: Path):
        columns = tracks.columns(episode.scene, episode.static, episode.callsigns)
        tracks.WRITERS[config.format](columns, path)

    return f"tracks of {write_missing(config, config.format, write)} episodes in {config.out}"


def write_scenarios(config: Scenario) -> str:
    """Write the missing scenarios; returns what was done."""

    def write(episode, path: Path):
        text = scenario.text(episode.scene, episode.static, episode.routes, episode.callsigns)
        path.write_text(text, encoding="utf-8")

    return f"{write_missing(config, 'scn', write)} scenarios in {config.out}"


def write_missing(config: Flown, suffix: str, write: Callable[[Any, Path], None]) -> int:
    """Call `write(episode, path)` for every episode without a file; returns how many there are."""
    config.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, example in runs.track(stored(config.data), "episode"):
        path = config.out / f"{name}{imagined_name(config.imagine)}.{suffix}"
        if not path.exists():
            episode = dataset.recording_of(example, name)
            if config.imagine is not None:
                from launch.shared import imagined  # the model and its compiler, for imagined hours alone

                episode = imagined.instead_of(episode, config.imagine, config.checkpoint)
            part = path.with_name(f".{path.name}.part")
            write(episode, part)
            part.replace(path)
        count += 1
    return count


def imagined_name(policy: str | None) -> str:
    """What tells the file of an imagined hour from that of the recorded one."""
    return "" if policy is None else f"-imagined-{Path(policy).name.replace(':', '-')}"


def write_maps(config: Map) -> str:
    """Write a map of every airport; returns what was done."""
    config.out.mkdir(parents=True, exist_ok=True)
    places: dict[str, tuple[dict, list]] = {}
    for _, example in runs.track(stored(config.data), "episode"):
        static, routes = (json.loads(example["episode_metadata"][name]) for name in ("static", "routes"))
        places.setdefault(static["icao"], (static, []))[1].extend(routes)
    for icao, (static, routes) in places.items():
        write_json(config.out / f"{icao}.geojson", geojson.airport_map(static, routes))
    return f"maps of {', '.join(places)} in {config.out}"


COMMANDS = {
    Pack: pack,
    Unpack: unpack,
    Video: video,
    Tracks: write_tracks,
    Scenario: write_scenarios,
    Map: write_maps,
}


def main(argv: list[str] | None = None) -> None:
    """Export, or say in one line why not."""
    config = cli.parse(Pack | Unpack | Video | Tracks | Scenario | Map, argv)
    with runs.one_line_errors(DataError, CheckpointError, ValueError, OSError):
        print(COMMANDS[type(config)](config))


if __name__ == "__main__":
    main(sys.argv[1:])
