"""Writing video to mp4 while it is being made, and reading pictures and video back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


class VideoError(ValueError):
    """A picture or video can't be read or written; one line naming the file."""


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames in [-1, 1] -> uint8; uint8 stays."""
    if frames.dtype == np.uint8:
        return frames
    return np.rint((np.clip(frames, -1, 1) + 1) * 127.5).astype(np.uint8)


@contextmanager
def writer(path: Path | str, height: int, width: int, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Opens an mp4 and hands out what appends frames (F, height, width, 3), RGB, in [-1, 1] or uint8.

    The file has its name only when everything has been written; after an error it isn't there.

    Raises:
      VideoError: it can't be written, or a frame has another size.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.partial.mp4")
    path.parent.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(partial), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    if not video.isOpened():
        raise VideoError(f"{path} can't be written as mp4: is the folder writable?")

    def append(frames: np.ndarray) -> None:
        if frames.shape[1:] != (height, width, 3):
            raise VideoError(f"{path}: frames are {frames.shape[1:]}, must be ({height}, {width}, 3)")
        for frame in to_bytes(frames):
            video.write(np.ascontiguousarray(frame[..., ::-1]))

    try:
        yield append
        video.release()
        partial.replace(path)
    finally:
        video.release()
        partial.unlink(missing_ok=True)


def read(path: Path | str, last: int | None = None) -> np.ndarray:
    """Frames (F, H, W, 3) in [-1, 1] of a picture (F = 1) or video; of its `last` ones if given.

    Raises:
      VideoError: no such file, or not a picture or video.
    """
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    picture = cv2.imread(str(path)) if path.suffix.lower() not in (".mp4", ".avi", ".mov") else None
    frames = [] if picture is None else [picture]
    if picture is None:
        capture = cv2.VideoCapture(str(path))
        while (found := capture.read())[0]:
            frames = [*frames, found[1]][-(last or len(frames) + 1) :]
        capture.release()
    if not frames:
        raise VideoError(f"{path} isn't a picture or video that can be read")
    return np.stack(frames)[..., ::-1].astype(np.float32) / 127.5 - 1
