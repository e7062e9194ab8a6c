"""Pack recordings into one small file per episode to move them, unpack them again, or make videos of them.

    python -m launch.export pack --data runs/recordings/seed --out runs/packed
    python -m launch.export unpack --data runs/packed --out runs/recordings/seed      # on the other machine
    python -m launch.export video --data runs/recordings/seed --out runs/videos

Packing keeps the whole state and every pixel (collect/export.py). What is there already is skipped.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from collect import export, store
from collect.store import DataError
from configs import cli
from configs.data import Pack, Unpack, Video
from launch.shared import runs


def examples(data: Path) -> Iterator[tuple[str, dict]]:
    """Every recorded episode below `data` with a name of its own."""
    for directory in store.find_directories(data):
        builder = store.open_directory(directory)
        for path in store.shards(directory):
            for record in store.read_records(path):
                example = store.parse_record(record, builder)
                yield name_of(example["episode_metadata"]), example


def name_of(metadata: dict) -> str:
    """A file name that tells an episode from all others."""
    key = json.loads(metadata["key"])
    policy = Path(key["policy"]).name
    wind = "" if key["wind"] is None else "-w{:03d}-{:02d}".format(*key["wind"])
    changed = "" if key["traffic"] == 1.0 else f"-x{key['traffic']:g}"
    digest = f"-{key['policy_hash']}" if key["policy_hash"] else ""
    length = f"-{key['episode_s']:g}s"
    return f"{key['airport']}-{key['seed']:06d}-{policy}{digest}{changed}{wind}{length}"


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
            layout = layout_of(example)
            if layout not in writers:
                directory = config.out / f"worker-{len(writers):03d}"
                writers[layout] = stack.enter_context(store.EpisodeWriter(directory, *layout))
            if example["episode_metadata"]["key"].decode() not in have:
                writers[layout].write(as_written(example))
    return f"{len(paths)} episodes in {config.out}"


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
    """An mp4 of PNG pictures. Raises OSError where this OpenCV cannot write one."""
    part, writer = path.with_suffix(".part.mp4"), None
    try:
        for png in pngs:
            image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
            if writer is None:
                size = (image.shape[1], image.shape[0])
                writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*"mp4v"), frames_per_s, size)
                if not writer.isOpened():
                    raise OSError(f"{path} cannot be written: this OpenCV has no mp4 encoder")
            writer.write(image)
        writer.release()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


COMMANDS = {Pack: pack, Unpack: unpack, Video: video}


def main(argv: list[str] | None = None) -> None:
    """Pack, unpack or make videos, or say in one line why not."""
    config = cli.parse(Pack | Unpack | Video, argv)
    with runs.one_line_errors(DataError, ValueError, OSError):
        print(COMMANDS[type(config)](config))


if __name__ == "__main__":
    main(sys.argv[1:])
