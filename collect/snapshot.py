"""What one step of the real game returns, and how the page's answer is read.

The page answers with one string of three lines: a JSON header, the tables as base64 of one float32
block, and the pictures that were asked for. See bridge.js, `answer`, and pictures.py.
"""

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Callable

import numpy as np

from collect import GameError, tables
from wm.sector.traffic import EVENT_NAMES, EVENT_POINTS, STEP_S, Runways, SubSteps, Traffic, schema

# The tables of an answer: how many fields a row has, and how many axes come before them.
TABLES = {
    "aircraft": ((len(schema(Traffic)),), 1),
    "substeps": ((1 + len(schema(SubSteps)),), 2),
    "runways": ((len(schema(Runways)),), 1),
    "since_spawn_s": ((), 1),
}
HEADER = {
    **{name: ["a whole number"] for name in TABLES},
    **dict.fromkeys(("time_s", "score"), "a number"),
    "events": [["a whole number"]],
    "wind": "two numbers",
    "callsigns": {},
    "routes": {},
    "log": ["a line and whether it warns"],
    "picture_pages": ["a whole number"],
}
NUMBERED = {name: list(schema(Traffic)).index(name) for name in ("id", "route", "runway")}
LONGEST = 2**28  # characters of an answer


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
    header, block, picture_text = _parts(raw)
    shapes = [tuple(header[name]) for name in TABLES]
    sizes = [math.prod(shape) for shape in shapes]
    if sum(sizes) != block.size:
        raise GameError(
            f"the page's answer holds {block.size} numbers where its header announces {sum(sizes)}: "
            "open the game again"
        )
    if not (np.abs(block) <= tables.LARGEST).all():
        raise GameError(f"the page's answer holds what is no number: {tables.AGAIN}")
    parts = np.split(block, np.cumsum(sizes)[:-1])
    columns = {name: part.reshape(shape) for name, part, shape in zip(TABLES, parts, shapes, strict=True)}
    fresh = {int(i): route for i, route in header["routes"].items()}
    if sorted(fresh) != list(range(len(routes), len(routes) + len(fresh))):
        raise GameError("the page's routes are not numbered in order: open the game again")
    return Snapshot(
        time_s=header["time_s"],
        score=header["score"],
        **columns,
        events=np.asarray(header["events"], np.int32).reshape(-1, 3),
        wind_speed_kt=header["wind"][0],
        wind_from_rad=header["wind"][1],
        log=tuple((text, warning) for text, warning in header["log"]),
        callsigns={**(callsigns or {}), **{int(i): c for i, c in header["callsigns"].items()}},
        routes=(*routes, *(fresh[i] for i in sorted(fresh))),
        pictures=tuple(_picture(text, read_picture) for text in picture_text.split()),
        picture_pages=tuple(header["picture_pages"]),
    )


def _parts(raw: str) -> tuple[dict, np.ndarray, str]:
    """Header, numbers and pictures of an answer. Raises GameError where one of them is something else."""
    if not isinstance(raw, str) or len(raw) > LONGEST:
        what = f"{len(raw)} characters long" if isinstance(raw, str) else "no text"
        raise GameError(f"the page's answer is {what}: {tables.AGAIN}")
    try:
        header_text, block_text, picture_text = raw.split("\n")
        header = json.loads(header_text)
        block = np.frombuffer(base64.b64decode(block_text, validate=True), np.float32)
    except (ValueError, RecursionError) as error:
        raise GameError(f"the page's answer cannot be read ({error}): open the game again") from None
    fault = tables.misfit(header, HEADER, "header") or _header_fault(header)
    if fault:
        raise GameError(f"the page's answer cannot be used ({fault}): {tables.AGAIN}")
    return header, block, picture_text


def _header_fault(header: dict) -> str | None:
    """What is wrong with the numbers and texts of a header; None for nothing."""
    for name, (fields, axes) in TABLES.items():
        shape = tuple(header[name])
        if min(shape, default=0) < 0 or len(shape) != axes + len(fields) or shape[axes:] != fields:
            return f"{name} has the shape {shape[:4]}, its rows have {fields}"
    for event in header["events"]:
        if len(event) != 3 or not (-1 <= event[0] < tables.IDS and 0 <= event[1] < len(EVENT_NAMES)):
            return f"{event[:3]} is no event"
    if not all(name.isdecimal() and len(name) < 9 for name in (*header["callsigns"], *header["routes"])):
        return "callsigns and routes must be numbered"
    if not all(isinstance(callsign, str) for callsign in header["callsigns"].values()):
        return "a callsign is no text"
    return tables.routes_fault(list(header["routes"].values()))


def _picture(text: str, read_picture: Callable[[str], bytes]) -> bytes:
    try:
        return read_picture(text)
    except ValueError as error:
        raise GameError(f"the page's picture cannot be read ({error}): open the game again") from None


def fits(static: dict, snapshot: Snapshot, frames: int | None = None, pictures: int | None = None) -> None:
    """Raise GameError unless a snapshot is one of this airport, of so many frames and pictures."""
    found = {
        "rows of runways": (len(snapshot.runways), len(static["runways"])),
        "streams": (len(snapshot.since_spawn_s), len(static["streams"])),
        "frames": (len(snapshot.substeps), len(snapshot.substeps) if frames is None else frames),
        "pages of pictures": (len(snapshot.picture_pages), len(snapshot.pictures)),
        "pictures": (len(snapshot.pictures), len(snapshot.pictures) if pictures is None else pictures),
    }
    for name, (count, wanted) in found.items():
        if count != wanted:
            raise GameError(f"the page's answer has {count} {name}, must have {wanted}: {tables.AGAIN}")
    ranges = (0, tables.IDS), (0, len(snapshot.routes)), (-1, len(static["runways"]))
    for (name, place), (low, high) in zip(NUMBERED.items(), ranges, strict=True):
        column = snapshot.aircraft[:, place]
        if not ((column >= low) & (column < high) & (column == np.floor(column))).all():
            raise GameError(f"the page's answer has an aircraft whose {name} is none: {tables.AGAIN}")
    ids = snapshot.aircraft[:, NUMBERED["id"]].astype(int).tolist()
    if len(set(ids)) < len(ids) or not snapshot.callsigns.keys() >= set(ids):
        raise GameError(f"the page's answer has an aircraft twice, or one without a callsign: {tables.AGAIN}")


def on_time(before_s: float, now_s: float) -> None:
    """Raise GameError unless the page's clock went on by one decision."""
    if not math.isclose(now_s - before_s, STEP_S, abs_tol=1e-3):
        raise GameError(
            f"the page's clock went from {before_s:g} to {now_s:g} s in {STEP_S:g} s of play: {tables.AGAIN}"
        )
