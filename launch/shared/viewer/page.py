"""Packed episodes as one HTML file, and a picture of such a file as a browser shows it.

The file asks nobody for anything: its policy forbids every request, and runs the one script and style that
are its own by their hashes. What comes from data is JSON without a "<" in it, and becomes text nodes.
"""

import base64
import hashlib
import json
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from collect.browser import Browser

SCRIPTS = ("decode.js", "scope.js", "labels.js", "profile.js", "timeline.js", "main.js")
POLICY = "default-src 'none'; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'"
PICTURE_PX = (1400, 800)


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
    width, height = PICTURE_PX
    address = f"{path.resolve().as_uri()}#{urlencode({k: v for k, v in asked.items() if v is not None})}"

    async def shoot():
        shown = await browser.process.new_page(viewport={"width": width, "height": height})
        await shown.goto(address)
        await shown.wait_for_selector("body[data-ready]")
        await shown.wait_for_timeout(300)  # a few frames
        return await shown.screenshot()

    with Browser() as browser:
        shot = browser.run(shoot(), 60.0)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(shot)
