"""A world small enough to learn in minutes: shapes on a plain ground, each driven by its own commands.

An action is the velocity, in pixels per frame, that each shape is commanded to take: (vx, vy) of the first,
then of the next. A shape moves by it and stops at the edge of the picture. Commands change at random moments,
so the future can't be told from the past, only from the actions; a model that ignores them is found out at
once.

Positions are read off a picture by colour, to check what a model generated.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm.cosmos import clips
from wm.cosmos.clips import Clip

COLOURS = np.array([[235, 64, 52], [66, 135, 245], [80, 200, 90]], np.float32)  # of the first, second, third
GROUND = np.array([24, 24, 32], np.float32)
FORMS = ("disc", "square", "diamond")


@dataclass(frozen=True)
class World:
    """What clips look like: `size` pixels square, `frames` long."""

    size: int = 64
    frames: int = 17
    shapes: int = 2
    radius: float = 5.0
    speed: float = 2.5
    """Largest commanded velocity along each axis, pixels per frame."""
    change: float = 0.2
    """Probability per frame that a shape gets a new command."""

    def __post_init__(self):
        if not 1 <= self.shapes <= len(COLOURS):
            raise ValueError(f"shapes is {self.shapes}, must be 1 to {len(COLOURS)}")
        if self.size < 4 * self.radius:
            raise ValueError(f"size is {self.size}, must be at least four radii, {4 * self.radius:g}")
        if self.frames < 2:
            raise ValueError(f"frames is {self.frames}, must be at least 2")


def clip(world: World, seed: int) -> tuple[Clip, np.ndarray]:
    """A clip with actions (F - 1, 2 shapes), and the true centres (F, shapes, 2) in pixels (x, y)."""
    generator = np.random.default_rng(seed)
    commands = _commands(world, generator)
    start = generator.uniform(world.radius, world.size - 1 - world.radius, (world.shapes, 2))
    centres = positions(world, start, commands)
    frames = np.stack([render(world, each) for each in centres])
    return Clip(frames, commands.reshape(world.frames - 1, -1).astype(np.float32)), centres


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


def locate(frames: np.ndarray, shapes: int) -> np.ndarray:
    """Centres (..., shapes, 2) in pixels (x, y) of what has each shape's colour in uint8 (..., H, W, 3).

    The centroid of closeness to the colour along the line from the ground's. NaN where there is less of it
    than a shape of a pixel's radius would show.
    """
    y, x = np.mgrid[: frames.shape[-3], : frames.shape[-2]].astype(np.float32)
    # Each pixel as a mixture of ground and colours, by least squares; the ground takes what they leave.
    basis = (COLOURS[:shapes] - GROUND).T
    mixture = (frames.astype(np.float32) - GROUND) @ np.linalg.pinv(basis).T
    weight = np.clip(mixture - 0.3, 0.0, 0.5)
    total = weight.sum(axis=(-3, -2))
    with np.errstate(invalid="ignore", divide="ignore"):
        centres = np.stack([(weight * p[..., None]).sum(axis=(-3, -2)) / total for p in (x, y)], axis=-1)
    return np.where(total[..., None] > 1.5, centres, np.nan)


def position_error(frames: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Mean distance in pixels (B,) between shapes found in frames (B, F, H, W, 3) and `centres (B, F, S, 2)`.

    The first frame, which is given, doesn't count. A shape that isn't found counts as half a picture off.
    """
    found = locate(frames[:, 1:], centres.shape[2])
    distance = np.linalg.norm(found - centres[:, 1:], axis=-1)
    return np.where(np.isnan(distance), frames.shape[-2] / 2, distance).mean(axis=(1, 2))


def _square(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return 1.13 * np.maximum(dx, dy)  # as large as the disc


def _diamond(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return 0.8 * (dx + dy)


def _commands(world: World, generator: np.random.Generator) -> np.ndarray:
    """Velocities (F - 1, shapes, 2), constant between changes at random frames."""
    shape = (world.frames - 1, world.shapes, 2)
    fresh = generator.uniform(-world.speed, world.speed, shape)
    changes = generator.random(shape[:2]) < world.change
    changes[0] = True
    latest = np.maximum.accumulate(np.where(changes, np.arange(len(changes))[:, None], 0), axis=0)
    return np.take_along_axis(fresh, latest[..., None], axis=0)
