"""What a page answers, which may be anybody's, as a reader of what others wrote."""

import base64
import json
import struct
from pathlib import Path
from random import Random

import numpy as np

import collect
from collect import GameError, slots, snapshot, tables
from collect.pictures import Canvas
from launch.faults import spoil
from launch.faults.digests import digest
from launch.faults.fuzz import Reader

DATA = Path(collect.__file__).parent / "data"
PX = 16  # side of the canvas that a page paints


def prepare(folder: Path) -> None:
    """What a page answered at the start and after a step, with a picture, as the browser hands it over."""
    folder.mkdir(parents=True)
    static = (DATA / "kabq_static.json").read_text()
    for name in ("kabq_start", "kabq_event"):
        (folder / f"{name}.txt").write_text((DATA / f"{name}.txt").read_text())
    (folder / "begun.json").write_text(json.dumps([static, "{kabq_start}"]))
    changes = struct.pack("<III", 1, 3, 4) + bytes((1, 2, 3, 4))
    (folder / "picture.bin").write_bytes(changes)


def spoil_one(folder: Path, draw: Random) -> tuple[str, bool]:
    """Header, tables and pictures of an answer, the airport's tables, and what is no answer at all."""
    way = draw.choice(("header", "header", "static", "static", "numbers", "raw", "begun", "picture"))
    answer = folder / f"{draw.choice(('kabq_start', 'kabq_event'))}.txt"
    begun = json.loads((folder / "begun.json").read_text())
    if way == "picture":
        what, data = spoil.spoil_bytes((folder / "picture.bin").read_bytes(), draw)
        (folder / "picture.bin").write_bytes(data)
    elif way == "begun":
        what, text = spoil.spoil_json(begun, draw)
        (folder / "begun.json").write_text(text)
    elif way == "static":
        what, begun[0] = spoil.spoil_json(json.loads(begun[0]), draw)
        (folder / "begun.json").write_text(json.dumps(begun))
    elif way == "raw":
        what, data = spoil.spoil_bytes(answer.read_bytes(), draw)
        answer.write_bytes(data)
    else:
        what = (_spoil_answer_header if way == "header" else _spoil_numbers)(answer, draw)
    return f"{way} of {answer.stem}: {what}", False


def _spoil_answer_header(answer: Path, draw: Random) -> str:
    header, *rest = answer.read_text().split("\n")
    what, header = spoil.spoil_json(json.loads(header), draw)
    answer.write_text("\n".join([header, *rest]), errors="surrogatepass")
    return what


def _spoil_numbers(answer: Path, draw: Random) -> str:
    header, block, pictures = answer.read_text().split("\n")
    numbers = np.frombuffer(base64.b64decode(block), np.float32).copy()
    values = (np.nan, np.inf, -np.inf, 1e30, -1e9, 0.5, -2.0, 300.0)
    for _ in range(draw.choice((1, 1, 5))):
        numbers[draw.randrange(len(numbers))] = draw.choice(values)
    answer.write_text("\n".join([header, base64.b64encode(numbers.tobytes()).decode(), pictures]))
    return "numbers"


def read(folder: Path) -> set[str]:
    """What collect.game and collect.env make of the answers of a page, from its airport to the scene."""
    answers = {}
    for name in ("kabq_start", "kabq_event"):
        answers[name] = (folder / f"{name}.txt").read_text(errors="surrogateescape")
    try:
        begun = json.loads((folder / "begun.json").read_text(), parse_constant=float)
    except (ValueError, RecursionError):
        raise GameError("the browser itself hands over no such thing") from None
    if isinstance(begun, list) and begun[1:] == ["{kabq_start}"]:
        begun[1] = answers["kabq_start"]
    static, raw = tables.begun(begun)
    columns = np.full(slots.COLUMNS, slots.FREE)
    seen, known, canvas = [static], snapshot.parse(raw), Canvas(PX)
    later = snapshot.parse(answers["kabq_event"], known.callsigns, known.routes)
    picture = base64.b64encode((folder / "picture.bin").read_bytes()).decode()
    for shot in (known, later):
        snapshot.fits(static, shot)
        before = columns.copy()
        columns, _ = slots.assign(columns, slots.aircraft_ids(shot))
        scene = slots.scene_of(shot, columns)
        table = slots.padded_airport(static, shot.routes)
        seen += [shot, scene, table, slots.substeps_of(shot, columns), slots.events_of(shot, before, columns)]
        for callsign_of, route in zip(
            scene.traffic.id[scene.traffic.valid], scene.traffic.route, strict=False
        ):
            seen += [shot.callsigns[int(callsign_of)], shot.routes[int(route)]["waypoints"]]
    seen.append(canvas.paint(picture))
    return {digest(seen)}


READER = Reader("answers", prepare, spoil_one, read, (GameError,))
