"""Pictures of the scope as the page returns them, as PNG.

All pictures of a palette have the same 256 colours, fixed for good (data/palette.json), so that they
compress well, compare exactly and never depend on what else was recorded. The page then returns only
what changed since its last picture; `Canvas` keeps the rest.
"""

import base64
import dataclasses
import functools
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from collect import GameError

PALETTE_FILE = Path(__file__).parent / "data" / "palette.json"
ALTITUDE_PAGE, TYPE_PAGE = range(2)  # what data blocks show: altitude and speed, or destination and type
NO_PICTURE = -1  # the page of a step for which none was taken; its picture repeats the last


@dataclasses.dataclass(frozen=True)
class View:
    """The pictures of a game: their side (pixels), how many a decision, 256 colours or all that the game has.

    Of several a decision each shows the end of an equal part of it.
    """

    px: int
    each: int = 1
    palette: bool = True


@functools.cache
def palette() -> np.ndarray:
    """The colours `[256, 3]` uint8, RGB, of pictures with a palette."""
    text = json.loads(PALETTE_FILE.read_text(encoding="utf-8"))["colours"]
    return np.asarray([[int(rgb[i : i + 2], 16) for i in (0, 2, 4)] for rgb in text.split()], np.uint8)


def page_colours() -> list[int]:
    """The palette as the page takes it, 0xBBGGRR."""
    return [int(r) | int(g) << 8 | int(b) << 16 for r, g, b in palette()]


class Canvas:
    """The last picture of a page with a palette; `px` is the side."""

    def __init__(self, px: int):
        self.px = px
        self.indices = np.zeros(px * px, np.uint8)

    def paint(self, answer: str) -> bytes:
        """The next picture as PNG, from base64 of the changes: uint32 [n, start, length, ...], uint8 colours.

        Raises GameError where that does not fit the picture.
        """
        try:
            block = base64.b64decode(answer)
            count = int(np.frombuffer(block, np.uint32, 1)[0])
            runs = np.frombuffer(block, np.uint32, 2 * count, 4).reshape(count, 2).astype(np.int64)
            colours = np.frombuffer(block[4 + 8 * count :], np.uint8)
        except ValueError as error:
            raise GameError(f"the page's picture cannot be read ({error}): open the game again") from None
        starts, lengths = runs.T
        if lengths.sum() != len(colours) or (count and (starts + lengths).max() > self.indices.size):
            raise GameError("the page's picture cannot be read: open the game again")
        before = np.cumsum(lengths) - lengths
        self.indices[np.repeat(starts - before, lengths) + np.arange(len(colours))] = colours
        return palette_png(self.indices.reshape(self.px, self.px))


def palette_png(indices: np.ndarray) -> bytes:
    """A PNG of `indices [H, W]` into the palette."""
    image = Image.fromarray(indices, "P")
    image.putpalette(palette().tobytes())
    out = io.BytesIO()
    # Run lengths suit flat drawings: as small as the best effort, in a quarter of the time.
    image.save(out, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return out.getvalue()


def palette_indices(png: bytes) -> np.ndarray:
    """Indices `[H, W]` uint8 of a PNG made by `palette_png`. Raises ValueError for any other PNG."""
    with Image.open(io.BytesIO(png)) as image:
        if image.mode != "P" or bytes(image.getpalette()) != palette().tobytes():
            raise ValueError("a picture has other colours than the recorder's palette: record with it")
        return np.asarray(image)
