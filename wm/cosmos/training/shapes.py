"""A world small enough to learn in minutes: shapes on a plain ground, each driven by its own commands.

An action is the velocity, in pixels per frame, that each shape is commanded to take: (vx, vy) of the first,
then of the next. A shape moves by it and stops at the edge of the picture. Commands change at random moments,
so the future can't be told from the past, only from the actions; a model that ignores them is found out at
once.

Drifters are shapes that nobody commands: what they do is drawn like a command and never told. A sampler may
guess it, but it must guess something: a picture of all guesses at once has no drifter in it.

Positions are read off a picture by colour, to check what a model generated.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm.cosmos.training import clips
from wm.cosmos.training.clips import Clip

COLOURS = np.array([[235, 64, 52], [66, 135, 245], [80, 200, 90]], np.float32)  # of the first, second, third
GROUND = np.array([24, 24, 32], np.float32)
FORMS = ("disc", "square", "diamond")


@dataclass(frozen=True)
class World:
    """What clips look like: `size` pixels square, `frames` long."""

    size: int = 64
    frames: int = 17
    shapes: int = 2
    """How many are commanded."""
    drifters: int = 0
    """How many more nobody commands."""
    radius: float = 5.0
    speed: float = 2.5
    """Largest commanded velocity along each axis, pixels per frame."""
    change: float = 0.2
    """Probability per frame that a shape gets a new command."""

    def __post_init__(self):
        if self.shapes < 1 or self.drifters < 0 or self.all > len(COLOURS):
            raise ValueError(
                f"shapes is {self.shapes}, drifters {self.drifters}: must be 1 or more and 0 or more, "
                f"together {len(COLOURS)} at most"
            )
        if self.size < 4 * self.radius:
            raise ValueError(f"size is {self.size}, must be at least four radii, {4 * self.radius:g}")
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}, must be at least 2")

    @property
    def all(self) -> int:
        """Shapes and drifters."""
        return self.shapes + self.drifters


def clip(world: World, seed: int) -> tuple[Clip, np.ndarray]:
    """A clip with actions (F - 1, 2 shapes), and the true centres (F, all, 2) in pixels (x, y)."""
    generator = np.random.default_rng(seed)
    moves = _moves(world, generator)
    start = generator.uniform(world.radius, world.size - 1 - world.radius, (world.all, 2))
    centres = positions(world, start, moves)
    frames = np.stack([render(world, each) for each in centres])
    commands = moves[:, : world.shapes].reshape(world.frames - 1, -1)
    return Clip(frames, commands.astype(np.float32)), centres


def write(world: World, folder: Path, first_seed: int, number: int) -> np.ndarray:
    """Writes a clip into a data set, named and seeded by its number; returns the true centres."""
    made, centres = clip(world, first_seed + number)
    clips.write(folder / f"{number:06d}.npz", made)
    return centres


def positions(world: World, start: np.ndarray, commands: np.ndarray) -> np.ndarray:
    """Centres (F, shapes, 2) from `start (shapes, 2)` under `commands (F - 1, shapes, 2)`."""
    centres = [start]
    for command in commands:
        centres.append(np.clip(centres[-1] + command, world.radius, world.size - 1 - world.radius))
    return np.stack(centres)


def render(world: World, centres: np.ndarray) -> np.ndarray:
    """The picture uint8 (size, size, 3) with shapes at `centres (shapes, 2)`; edges are a pixel soft."""
    picture = np.broadcast_to(GROUND, (world.size, world.size, 3)).astype(np.float32)
    reach = int(world.radius * 1.5) + 2
    for form, colour, (cx, cy) in zip(FORMS, COLOURS, centres, strict=False):
        left, top = max(0, int(cx) - reach), max(0, int(cy) - reach)
        part = picture[top : int(cy) + reach + 1, left : int(cx) + reach + 1]
        dx = np.abs(np.arange(left, left + part.shape[1]) - cx)
        dy = np.abs(np.arange(top, top + part.shape[0]) - cy)[:, None]
        distance = {"disc": np.hypot, "square": _square, "diamond": _diamond}[form](dx, dy)
        cover = np.clip(world.radius + 0.5 - distance, 0.0, 1.0)[..., None]
        part += cover * (colour - part)
    return np.rint(picture).astype(np.uint8)


def mixture(frames: np.ndarray, count: int) -> np.ndarray:
    """How much of each shape's colour is in each pixel, (..., H, W, count), of uint8 frames (..., H, W, 3).

    A pixel is read as a mixture of ground and colours, by least squares; the ground takes what they leave.
    """
    basis = (COLOURS[:count] - GROUND).T
    return (frames.astype(np.float32) - GROUND) @ np.linalg.pinv(basis).T


def locate(frames: np.ndarray, count: int) -> np.ndarray:
    """Centres (..., count, 2) in pixels (x, y) of what has each shape's colour in uint8 (..., H, W, 3).

    The centroid of closeness to the colour along the line from the ground's. NaN where there is less of it
    than a shape of a pixel's radius would show.
    """
    y, x = np.mgrid[: frames.shape[-3], : frames.shape[-2]].astype(np.float32)
    weight = np.clip(mixture(frames, count) - 0.3, 0.0, 0.5)
    total = weight.sum(axis=(-3, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = np.stack([(weight * p[..., None]).sum(axis=(-3, -2)) / total for p in (x, y)], axis=-1)
    return np.where(total[..., None] > 1.5, centres, np.nan)


def position_error(frames: np.ndarray, centres: np.ndarray, world: World) -> np.ndarray:
    """Mean distance in pixels (B,) of the commanded shapes in frames (B, F, H, W, 3) from their true places.

    `centres` are (B, F, all, 2). The first frame, which is given, doesn't count. A shape that isn't found
    counts as half a picture off.
    """
    found = locate(frames[:, 1:], world.all)
    distance = np.linalg.norm(found - centres[:, 1:], axis=-1)[..., : world.shapes]
    return np.where(np.isnan(distance), frames.shape[-2] / 2, distance).mean(axis=(1, 2))


def solidity(frames: np.ndarray, world: World) -> np.ndarray:
    """How solid the drifters are (B,), in frames (B, F, H, W, 3) after the first: 1 as they should be.

    The pixels that are more of a drifter's colour than not, over those that it should have, or the inverse
    where there are too many. A picture that averages over all that a drifter might do comes near 0.
    """
    there = (mixture(frames[:, 1:], world.all)[..., world.shapes :] > 0.5).sum(axis=(-3, -2))
    area = np.pi * world.radius**2  # of every form
    return (np.minimum(there, area) / np.maximum(there, area)).mean(axis=(1, 2))


def _square(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return 1.13 * np.maximum(dx, dy)  # as large as the disc


def _diamond(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return 0.8 * (dx + dy)


def _moves(world: World, generator: np.random.Generator) -> np.ndarray:
    """Velocities (F - 1, shapes and drifters, 2), constant between changes at random frames."""
    shape = (world.frames - 1, world.all, 2)
    fresh = generator.uniform(-world.speed, world.speed, shape)
    changes = generator.random(shape[:2]) < world.change
    changes[0] = True
    latest = np.maximum.accumulate(np.where(changes, np.arange(len(changes))[:, None], 0), axis=0)
    return np.take_along_axis(fresh, latest[..., None], axis=0)
