"""Pieces of recorded pictures with what is in them: what autoencoder and reader learn from.

Letters: B crops, M aircraft in a crop, C columns, T pictures.
"""

from dataclasses import dataclass

import numpy as np
from flax import struct

from wm.cosmos.scope.hours import Hour

SIDE = 128  # pixels of a crop, a whole number of patches
MOST = 12  # aircraft in a crop whose places are kept
GRID = 8
BLANK = 0
# Where the game draws a data block, in pixels from the blip's rounded place (CanvasController.js):
# two rows of text, each character 5.75 wide, and the leader that joins blip and block.
TEXT_LEFT, CHARACTER_PX, ROW_PX = -25.0, 5.75, 8.0
CALLSIGN_TOP, NUMBERS_TOP = -44.0, -32.0
NUMBERS = 6  # characters of the second row: three digits of altitude, a space, two of speed
LEADER = (-0.5, -19.0, 1.5, -4.0)  # left, top, right, bottom
BLIP = (-3.0, -3.0, 3.0, 3.0)


@struct.dataclass
class Crops:
    """Crops with what is in them; the first aircraft of each is the one that is to be read."""

    indices: np.ndarray  # [B, SIDE, SIDE] uint8
    places: np.ndarray  # [B, M, 2] float32 pixels from the crop's corner; far outside where there is none
    callsign: np.ndarray  # [B, 8] int32, `letters`
    altitude: np.ndarray  # [B, 3] int32 digits of hundreds of feet
    speed: np.ndarray  # [B, 2] int32 digits of tens of knots over ground
    heading: np.ndarray  # [B, 2] sine and cosine
    clear: np.ndarray  # [B, 2] bool: callsign, numbers


def letters(callsigns: np.ndarray) -> np.ndarray:
    """ASCII (...) uint8 as classes: 0 nothing, 1-26 A-Z, 27-36 the digits."""
    code = callsigns.astype(np.int32)
    return np.where(code >= 65, code - 64, np.where(code >= 48, code - 48 + 27, BLANK))


def digits(value: np.ndarray, count: int) -> np.ndarray:
    """The last `count` decimal digits (..., count) int32 of whole numbers, the highest first."""
    value = np.maximum(value, 0).astype(np.int32)
    return np.stack([value // 10**power % 10 for power in reversed(range(count))], -1)


def blocks(pixels: np.ndarray, callsigns: np.ndarray) -> np.ndarray:
    """Rectangles [..., 4 parts, 4] of what is drawn of each aircraft: left, top, right, bottom in pixels.

    Parts: callsign, numbers, leader, blip. `pixels` [..., 2] and `callsigns` [..., 8] as in `Hour`.
    """
    at = np.round(pixels)
    at = np.concatenate([at, at], -1)[..., None, :]
    length = (callsigns > 0).sum(-1)

    def row(top, characters):
        right = TEXT_LEFT + CHARACTER_PX * characters
        return np.stack(np.broadcast_arrays(TEXT_LEFT, top, right, top + ROW_PX), -1)

    fixed = np.broadcast_to(np.asarray([LEADER, BLIP]), (*length.shape, 2, 4))
    text = np.stack([row(CALLSIGN_TOP, length), row(NUMBERS_TOP, np.full(length.shape, NUMBERS))], -2)
    return at + np.concatenate([text, fixed], -2)


def clear(hour: Hour, t: int) -> np.ndarray:
    """Whether callsign and numbers [C, 2] of picture t are whole in it and nothing else is drawn on them."""
    boxes = blocks(hour.pixels[t], hour.callsigns[t])
    here = np.flatnonzero(hour.column("drawn")[t] > 0)
    text = boxes[:, :2, None, None]  # [C, 2, 1, 1, 4] against [1, 1, n, 4 parts, 4]
    others = boxes[here][None, None]
    apart = (text[..., 2] <= others[..., 0]) | (others[..., 2] <= text[..., 0])
    apart |= (text[..., 3] <= others[..., 1]) | (others[..., 3] <= text[..., 1])
    own = np.arange(len(boxes))[:, None] == here
    free = (apart | own[:, None, :, None]).all((-1, -2))
    return free & ((boxes[:, :2, :2] >= 0) & (boxes[:, :2, 2:] <= hour.side)).all(-1)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws crops of hours, each around the block of an aircraft in view."""

    hours: list[Hour]
    rows: np.ndarray  # [n, 3] hour, picture, column of every aircraft in view
    whole: list[np.ndarray]  # [T, C, 2] bool of each hour, see `clear`

    @classmethod
    def of(cls, hours: list[Hour]) -> "Sampler":
        """A sampler of all aircraft in view of `hours`."""
        seen = [np.argwhere(hour.in_view) for hour in hours]
        rows = [np.insert(found, 0, number, 1) for number, found in enumerate(seen)]
        whole = [np.stack([clear(hour, t) for t in range(len(hour.pictures))]) for hour in hours]
        return cls(hours, np.concatenate(rows), whole)

    def draw(self, generator: np.random.Generator, count: int) -> Crops:
        """`count` crops on the grid of latents, the aircraft's block somewhere inside."""
        chosen = self.rows[generator.integers(len(self.rows), size=count)]
        shift = generator.integers(0, SIDE - 64 + 1, size=(count, 2))
        samples = [self._sample(*row, move) for row, move in zip(chosen, shift, strict=True)]
        return Crops(*(np.stack(column) for column in zip(*samples, strict=True)))

    def _sample(self, number: int, t: int, column: int, move: np.ndarray) -> tuple:
        hour = self.hours[number]
        corner = np.round(hour.pixels[t, column]) - (32, 48) - move
        left, top = (np.clip(corner, 0, hour.side - SIDE) // GRID * GRID).astype(int)
        here = np.flatnonzero(hour.in_view[t])
        here = np.concatenate([[column], here[here != column]])
        places = hour.pixels[t, here] - (left, top)
        inside = ((places >= 0) & (places < SIDE)).all(-1)
        inside[0] = True
        kept = np.full((MOST, 2), -1000.0, np.float32)
        found = places[inside][:MOST]
        kept[: len(found)] = found
        return (
            hour.pictures[t, top : top + SIDE, left : left + SIDE],
            kept,
            *read_off(hour, t, column),
            self.whole[number][t, column],
        )


def read_off(hour: Hour, t: int, column: int | np.ndarray) -> tuple[np.ndarray, ...]:
    """What is said of aircraft: callsign, altitude, speed (`Crops`), sine and cosine of heading."""
    table = {name: hour.column(name)[t, column] for name in ("altitude_ft", "ground_speed_kt", "heading_rad")}
    heading = table["heading_rad"]
    return (
        letters(hour.callsigns[t, column]),
        digits(np.floor(table["altitude_ft"] / 100 + 0.5), 3),
        digits(np.floor(table["ground_speed_kt"] / 10 + 0.5), 2),
        np.stack([np.sin(heading), np.cos(heading)], -1).astype(np.float32),
    )
