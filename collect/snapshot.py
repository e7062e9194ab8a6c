"""What one step of the real game returns, and how the page's answer is read.

The page answers with one string of three lines: a JSON header, the tables as base64 of one float32
block, and the pictures that were asked for. See bridge.js, `answer`, and pictures.py.
"""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable

import numpy as np

from collect import GameError
from wm.sector.traffic import EVENT_POINTS

TABLES = ("aircraft", "substeps", "runways", "since_spawn_s")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """State of the game after a step; K frames, n aircraft present, m seen during the step.

    Table columns are the fields of wm.sector.traffic in schema order, float32.
    """

    time_s: float  # since the episode's first frame
    score: float  # as the page shows it
    aircraft: np.ndarray  # [n, F] wm.sector.traffic.Traffic
    substeps: np.ndarray  # [K, m, 1 + F] aircraft id, then wm.sector.traffic.SubSteps
    runways: np.ndarray  # [R, F] wm.sector.traffic.Runways
    since_spawn_s: np.ndarray  # [S]
    events: np.ndarray  # [e, 3] int32: aircraft id or -1, index in EVENT_NAMES, frame
    wind_speed_kt: float
    wind_from_rad: float
    log: tuple[tuple[str, bool], ...]  # lines of the game's log, and if they are warnings
    callsigns: dict[int, str]  # of every aircraft met so far
    routes: tuple[dict, ...]  # every route met so far: {"route", "waypoints": [...]}
    pictures: tuple[bytes, ...]  # PNG, of equal parts of the step's time, the last at its end
    picture_pages: tuple[int, ...]  # what their data blocks show, see collect.pictures

    @property
    def refusals(self) -> tuple[str, ...]:
        """Warning lines of the game's log: commands refused, and what the game complains about."""
        return tuple(text for text, warning in self.log if warning)

    @property
    def picture(self) -> bytes | None:
        """The picture at the step's end, PNG; None where none was asked for."""
        return self.pictures[-1] if self.pictures else None

    @property
    def points(self) -> float:
        """Points of this step's events."""
        return float(EVENT_POINTS[self.events[:, 1]].sum())

    def digests(self) -> dict[str, str]:
        """A SHA-256 of each part of the state, pictures aside: equal where every bit is."""

        def digest(value) -> str:
            data = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            return hashlib.sha256(data).hexdigest()

        names = [field.name for field in dataclasses.fields(self) if "picture" not in field.name]
        return {name: digest(getattr(self, name)) for name in names}


def parse(
    raw: str,
    callsigns: dict[int, str] | None = None,
    routes: tuple = (),
    read_picture: Callable[[str], bytes] = base64.b64decode,
) -> Snapshot:
    """Read the page's answer; `callsigns` and `routes` are those known before it.

    `read_picture` makes a PNG of one picture as the page sends it.

    Raises GameError where the answer is cut short or its parts do not fit together.
    """
    try:
        header_text, block_text, picture_text = raw.split("\n")
        header = json.loads(header_text)
        block = np.frombuffer(base64.b64decode(block_text, validate=True), np.float32)
        shapes = [tuple(header[name]) for name in TABLES]
    except (ValueError, KeyError, TypeError) as error:
        raise GameError(f"the page's answer cannot be read ({error}): open the game again") from None
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != block.size:
        raise GameError(
            f"the page's answer holds {block.size} numbers where its header announces {sum(sizes)}: "
            "open the game again"
        )
    parts = np.split(block, np.cumsum(sizes)[:-1])
    tables = {name: part.reshape(shape) for name, part, shape in zip(TABLES, parts, shapes, strict=True)}
    fresh = {int(i): route for i, route in header["routes"].items()}
    if sorted(fresh) != list(range(len(routes), len(routes) + len(fresh))):
        raise GameError("the page's routes are not numbered in order: open the game again")
    return Snapshot(
        time_s=header["time_s"],
        score=header["score"],
        **tables,
        events=np.asarray(header["events"], np.int32).reshape(-1, 3),
        wind_speed_kt=header["wind"][0],
        wind_from_rad=header["wind"][1],
        log=tuple((text, warning) for text, warning in header["log"]),
        callsigns={**(callsigns or {}), **{int(i): c for i, c in header["callsigns"].items()}},
        routes=(*routes, *(fresh[i] for i in sorted(fresh))),
        pictures=tuple(read_picture(text) for text in picture_text.split()),
        picture_pages=tuple(header["picture_pages"]),
    )
