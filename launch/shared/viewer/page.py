"""Packed episodes as one HTML file, and pictures of such a file as a browser shows it.

The file asks nobody for anything: its policy forbids every request, and runs the one script and style that
are its own by their hashes. What comes from data is JSON without a "<" in it, and becomes text nodes.
"""

import base64
import hashlib
import io
import json
import string
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from collect.browser import Browser

SCRIPTS = ("decode.js", "scope.js", "labels.js", "profile.js", "timeline.js", "main.js")
POLICY = "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'"
PICTURE_PX = (1400, 800)
FRAMES = 32  # of a moving picture


def page(episodes: Sequence[dict[str, Any]]) -> str:
    """The HTML of one packed episode, or of two beside each other.

    Raises ValueError for another number of them.
    """
    if not 1 <= len(episodes) <= 2:
        raise ValueError(f"a page shows one or two episodes, not {len(episodes)}")
    files = resources.files(__package__)
    read = lambda name: files.joinpath(name).read_text(encoding="utf-8")  # noqa: E731
    script, style = "".join(["'use strict';\n", *map(read, SCRIPTS)]), read("page.css")
    policy = POLICY.format(_hash(script), _hash(style))
    data = json.dumps(list(episodes), separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c")  # no "</script>" and no "<!--" ends or hides what follows
    return string.Template(read("page.html")).substitute(policy=policy, style=style, script=script, data=data)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def write(episodes: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the page of `episodes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(episodes), encoding="utf-8")


def compare(boards: dict[str, dict[str, dict[int, dict]]], seed: int, path: Path) -> bool:
    """Write a page of an evaluation's episodes of one seed: the last policy in two worlds, or two policies.

    boards: {world: {policy: {seed: episode}}} as launch.shared.episodes leaves them. False, and no page,
    where no episode has kept its tracks.
    """
    views = {
        (world, policy): found[seed]["view"]
        for world, board in boards.items()
        for policy, found in board.items()
        if "view" in found.get(seed, ())
    }
    if not views:
        return False
    last = [policy for _, policy in views][-1]
    both = [view for (_, policy), view in views.items() if policy == last]
    write(both if len(both) == 2 else list(views.values())[-2:], path)
    return True


def picture(path: Path, out: Path, **asked: Any) -> None:
    """A PNG of a page that lies at `path`; `asked` as in its address: t, pick, zoom, rings.

    Raises GameError where there is no browser.
    """
    (shot,) = _shots(path, (asked.pop("t", 0.0),), asked)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(shot)


def moving_picture(path: Path, out: Path, first_s: float, seconds: float, **asked: Any) -> None:
    """A GIF of a page from one time on, half as wide, FRAMES of them a tenth of a second apart.

    Raises as `picture` does.
    """
    times = [first_s + seconds * frame / FRAMES for frame in range(FRAMES)]
    frames = []
    for shot in _shots(path, times, asked):
        with Image.open(io.BytesIO(shot)) as whole:
            half = whole.convert("RGB").resize([side // 2 for side in whole.size], Image.Resampling.LANCZOS)
        # With one palette for all, what doesn't change costs nothing.
        palette = frames[0] if frames else half.quantize(64)
        frames.append(half.quantize(palette=palette, dither=Image.Dither.NONE))
    out.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(out, save_all=True, append_images=frames[1:], duration=100, loop=0)


def _shots(path: Path, times: Iterable[float], asked: dict[str, Any]) -> list[bytes]:
    """A PNG of a page at each of some times (s), paused."""
    width, height = PICTURE_PX
    begin, *later = times
    given = {"t": begin, **{name: value for name, value in asked.items() if value is not None}}
    address = f"{path.resolve().as_uri()}#{urlencode(given)}"

    async def shoot():
        shown = await browser.process.new_page(viewport={"width": width, "height": height})
        await shown.goto(address)
        await shown.wait_for_selector("body[data-ready]")
        await shown.wait_for_timeout(300)  # a few frames
        shots = [await shown.screenshot()]
        for time_s in later:
            await shown.fill("#scrub", str(time_s))
            await shown.wait_for_timeout(60)
            shots.append(await shown.screenshot())
        return shots

    with Browser() as browser:
        return browser.run(shoot(), 60.0 + len(later))
