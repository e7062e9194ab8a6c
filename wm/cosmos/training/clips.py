"""Clips with actions on disk, and the scale of their actions.

A data set is a folder with one entry per clip, in either form, in the order of their names. Numbers in names
count as numbers (2 comes before 10), and hidden files are passed over:

    clip-0001.npz        "frames" uint8 (F, H, W, 3), RGB; "actions" float32 (F - 1, A)
    clip-0002/           video.mp4 (or frames as *.png, in the order of their names), and
                         actions.csv: F - 1 lines of A numbers, no header

All clips have the same size and length. Action i is what is done between frame i and frame i + 1. Its numbers
may have any unit: `Normaliser` brings each to zero mean and unit deviation over the training clips, and the
statistics are kept with the model. Published fine-tunes that were fed raw actions ignored them.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wm.store import listing

# What NumPy raises for a file that is damaged, encrypted, packed in another way or announces too much.
UNREADABLE = (
    OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
LATENTS = ".latents"  # in a data set: its clips encoded, see launch.cosmos.latents


class ClipError(ValueError):
    """A clip isn't what training needs; one line naming the clip and what would be right."""


@dataclass(frozen=True)
class Clip:
    """frames uint8 (F, H, W, 3) RGB and actions float32 (F - 1, A)."""

    frames: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class Shape:
    """What every clip of a data set must have."""

    frames: int
    height: int
    width: int
    actions: int


@dataclass(frozen=True)
class Normaliser:
    """Mean and deviation of each action column, (A,) each."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, actions: np.ndarray) -> "Normaliser":
        """Of `actions (..., A)`. A column that never changes gets deviation 1: it becomes zero throughout."""
        flat = np.asarray(actions, np.float64).reshape(-1, actions.shape[-1])
        std = flat.std(axis=0)
        constant = std <= 1e-6 * np.maximum(1.0, np.abs(flat).max(axis=0))
        return cls(tuple(flat.mean(axis=0).tolist()), tuple(np.where(constant, 1.0, std).tolist()))

    def __call__(self, actions: np.ndarray) -> np.ndarray:
        """float32, of the same shape.

        Raises:
          ClipError: another number of columns than it was fitted on.
        """
        if actions.shape[-1] != len(self.mean):
            raise ClipError(
                f"actions have {actions.shape[-1]} numbers, the model was trained on {len(self.mean)}"
            )
        return ((actions - np.asarray(self.mean)) / np.asarray(self.std)).astype(np.float32)


def find(folder: Path) -> list[Path]:
    """The clips of a data set, by name.

    Raises:
      ClipError: the folder isn't there or holds none.
    """
    if not folder.is_dir():
        raise ClipError(
            f"{folder} is not a folder; name one that holds clips (see wm/cosmos/training/clips.py)"
        )
    clips = [path for path in listing.visible(folder) if _is_clip(path)]
    if not clips:
        raise ClipError(f"{folder} holds no clip: neither *.npz nor folders with actions.csv")
    return clips


def passed_over(folder: Path) -> list[Path]:
    """What lies in a data set and is no part of a clip; the latents that are kept there aren't counted."""
    others = [path for path in folder.iterdir() if path.name.startswith(".") or not _is_clip(path)]
    for clip in listing.visible(folder):
        if clip.is_dir() and _is_clip(clip):
            others += [path for path in clip.iterdir() if path.name.startswith(".")]
    return [path for path in others if path.name != LATENTS]


def _is_clip(path: Path) -> bool:
    return path.suffix == ".npz" or (path.is_dir() and (path / "actions.csv").exists())


def read(path: Path) -> Clip:
    """One clip as it is on disk.

    Raises:
      ClipError: it can't be read, or frames and actions don't belong together.
    """
    frames, actions = _read_npz(path) if path.suffix == ".npz" else (_read_frames(path), _read_csv(path))
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ClipError(f"{path}: frames are {frames.dtype} {frames.shape}, must be uint8 (F, H, W, 3)")
    if actions.ndim != 2 or not np.issubdtype(actions.dtype, np.number):
        raise ClipError(f"{path}: actions are {actions.dtype} {actions.shape}, must be numbers (F - 1, A)")
    actions = actions.astype(np.float32)
    if len(actions) != len(frames) - 1:
        raise ClipError(
            f"{path}: {len(frames)} frames need {len(frames) - 1} actions, one between neighbours; it has "
            f"{len(actions)}"
        )
    if not np.isfinite(actions).all():
        raise ClipError(f"{path}: action {int(np.argwhere(~np.isfinite(actions))[0, 0])} isn't finite")
    return Clip(frames, actions)


def read_checked(path: Path, shape: Shape) -> Clip:
    """`read`, refusing a clip of another size, frame count or action width by name."""
    clip = read(path)
    found = Shape(len(clip.frames), *clip.frames.shape[1:3], clip.actions.shape[1])
    for what, is_, must in (
        ("frames", found.frames, shape.frames),
        ("size (height, width)", (found.height, found.width), (shape.height, shape.width)),
        ("action width", found.actions, shape.actions),
    ):
        if is_ != must:
            raise ClipError(f"{path}: {what} is {is_}, must be {must}")
    return clip


def write(path: Path, clip: Clip) -> None:
    """As .npz, compressed; under a temporary name until it is whole."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, frames=clip.frames, actions=clip.actions.astype(np.float32))
    temporary.replace(path)


def fingerprint(paths: Sequence[Path], *parts: str) -> str:
    """Hash (16 hex digits) of the clips' names and bytes and of `parts`; what a cache of them is named by."""
    digest = hashlib.sha256()
    for path in paths:
        for file in [path] if path.is_file() else listing.visible(path):
            digest.update(f"{path.name}/{file.name}\0".encode())
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    for part in parts:
        digest.update(f"{part}\0".encode())
    return digest.hexdigest()[:16]


def to_video(frames: np.ndarray) -> np.ndarray:
    """uint8 frames to float32 in [-1, 1], what a VAE encodes."""
    return frames.astype(np.float32) / 127.5 - 1.0


def to_frames(video: np.ndarray) -> np.ndarray:
    """Inverse of `to_video`, rounding and limiting."""
    return np.clip(np.rint((np.asarray(video, np.float32) + 1.0) * 127.5), 0, 255).astype(np.uint8)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return arrays["frames"], arrays["actions"]
    except KeyError as error:
        raise ClipError(f"{path}: no array {error.args[0]}; it must hold 'frames' and 'actions'") from error
    except UNREADABLE as error:
        raise ClipError(f"{path} can't be read ({error}); write it again") from error


def _read_csv(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path / "actions.csv", delimiter=",", dtype=np.float32, ndmin=2)
    except ValueError as error:
        raise ClipError(f"{path / 'actions.csv'}: {error}") from error


def _read_frames(path: Path) -> np.ndarray:
    video = path / "video.mp4"
    if video.exists():
        frames = _read_video(video)
    else:
        frames = [cv2.imread(str(file)) for file in listing.visible(path) if file.suffix == ".png"]
    if not frames or any(frame is None for frame in frames):
        raise ClipError(f"{path}: no readable video.mp4 and no readable *.png frames")
    if len({frame.shape for frame in frames}) > 1:
        raise ClipError(f"{path}: frames of different sizes")
    return np.stack(frames)[..., ::-1]  # OpenCV's order is blue, green, red


def _read_video(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        more, frame = capture.read()
        if not more:
            capture.release()
            return frames
        frames.append(frame)
