"""Choose the recorder's 256 colours from what the game draws at many airports, in many states of traffic.

    OPENSCOPE_URL=... python tests/collect/store_palette.py

Recordings made with another palette can still be read, but not mixed in one export; there is no need to
run it again unless the game's theme changes.
"""

import json
from collections import Counter

import cv2
import numpy as np
from PIL import Image

from collect import pictures
from collect.browser import Browser
from collect.game import Game
from collect.pictures import View

AIRPORTS = ("kabq", "klas", "kpdx", "ksea", "kjfk", "klax", "eddh", "eidw", "rjtt", "lszh", "kmia", "omdb")
SIZES = (512, 256)
MINUTES, EVERY = 25, 20  # a picture each 100 s, and those of the last decisions with both pages
PIXELS = 1_000_000  # of the image that is quantised


def colours(airport: str, px: int, browser: Browser) -> Counter:
    """How often the game draws each colour, 0xBBGGRR."""
    found = Counter()
    with Game(airport=airport, seed=300, view=View(px, palette=False), browser=browser) as game:
        for decision in range(12 * MINUTES):
            snapshot = game.step(pictures=int(decision % EVERY == 0))
            if snapshot.picture:
                image = cv2.imdecode(np.frombuffer(snapshot.picture, np.uint8), cv2.IMREAD_COLOR)
                values, counts = np.unique(image.reshape(-1, 3) @ [1 << 16, 1 << 8, 1], return_counts=True)
                found.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return found


def main():
    """Write collect/data/palette.json."""
    found = Counter()
    with Browser() as browser:
        for airport in AIRPORTS:
            for px in SIZES:
                found += colours(airport, px, browser)
                print(airport, px, len(found), flush=True)
    values = np.asarray(list(found), np.int64)
    weight = np.asarray(list(found.values()), float) ** 0.5  # rare colours, such as rings, count too
    repeats = np.maximum(1, weight * PIXELS / weight.sum()).astype(int)
    bgr = np.stack([values >> 16, values >> 8 & 255, values & 255], -1).astype(np.uint8)
    many = np.repeat(bgr[:, ::-1], repeats, axis=0)
    image = Image.fromarray(np.ascontiguousarray(many[: len(many) // 64 * 64].reshape(-1, 64, 3)))
    quantised = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=20, dither=Image.Dither.NONE)
    chosen = np.asarray(quantised.getpalette(), np.uint8).reshape(-1, 3)
    text = " ".join("".join(f"{part:02x}" for part in rgb) for rgb in chosen)
    pictures.PALETTE_FILE.write_text(json.dumps({"order": "RGB", "colours": text}) + "\n")


if __name__ == "__main__":
    main()
