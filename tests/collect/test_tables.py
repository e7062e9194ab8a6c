"""What a page answers is taken only where every part of it is what its readers take it for."""

import base64
import json

import numpy as np
import pytest

from collect import GameError, tables
from collect.pictures import Canvas
from collect.snapshot import fits, on_time, parse
from wm.sector import traffic as tr


def with_header(raw: str, **changes) -> str:
    header, *rest = raw.split("\n")
    return "\n".join([json.dumps(json.loads(header) | changes), *rest])


def with_number(raw: str, index: int, value: float) -> str:
    header, block, pictures = raw.split("\n")
    numbers = np.frombuffer(base64.b64decode(block), np.float32).copy()
    numbers[index] = value
    return "\n".join([header, base64.b64encode(numbers.tobytes()).decode(), pictures])


def test_the_real_page_fits(stored_answer, static):
    first = parse(stored_answer("kabq_start"))
    later = parse(stored_answer("kabq_event"), first.callsigns, first.routes)
    assert tables.airport_fault(static, list(later.routes)) is None
    assert tables.begun([json.dumps(static), "raw"]) == (static, "raw")
    fits(static, first, 0, 0)
    fits(static, later, tr.FRAMES_PER_STEP, 0)
    on_time(335.0, 340.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"time_s": None}, "header.time_s is None, must be a number"),
        ({"time_s": True}, "must be a number"),
        ({"score": float("nan")}, "header.score is nan"),
        ({"score": 10**400}, "header.score is a huge number"),
        ({"wind": [1]}, "must be two numbers"),
        ({"aircraft": [10**18, 10**18]}, "a huge number"),
        ({"aircraft": [-1, 11]}, "aircraft has the shape"),
        ({"aircraft": [3]}, "aircraft has the shape"),
        ({"since_spawn_s": []}, "since_spawn_s has the shape"),
        ({"events": [[0, 99, 1]]}, "is no event"),
        ({"events": [[0, 1]]}, "is no event"),
        ({"events": [{"__proto__": 1}]}, "must be a list"),
        ({"log": [["a"]]}, "a line and whether it warns"),
        ({"callsigns": {"__proto__": "AAL1"}}, "must be numbered"),
        ({"callsigns": {"1": 1}}, "a callsign is no text"),
        ({"routes": {"0": {}}}, "has no waypoints"),
        ({"routes": []}, "must be an object"),
        ({"picture_pages": "x"}, "must be a list"),
    ],
)
def test_a_header_of_something_else_is_refused(stored_answer, changes, text):
    with pytest.raises(GameError, match="open the game again") as caught:
        parse(with_header(stored_answer("kabq_start"), **changes))
    assert text in str(caught.value)


@pytest.mark.parametrize("raw", [None, 7, ["a"], "[" * 100_000 + "\n\n", "\n\n"])
def test_what_is_no_answer_is_refused(raw):
    with pytest.raises(GameError, match="open the game again"):
        parse(raw)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_number_is_refused(stored_answer, value):
    with pytest.raises(GameError, match="holds what is no number"):
        parse(with_number(stored_answer("kabq_start"), 5, value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", -1), ("id", 0.5), ("id", 5000), ("id", 1), ("route", 99), ("route", -1), ("runway", 6)],
)
def test_an_aircraft_that_leads_nowhere_is_refused(stored_answer, static, name, value):
    snapshot = parse(with_number(stored_answer("kabq_start"), list(tr.schema(tr.Traffic)).index(name), value))
    with pytest.raises(GameError, match="aircraft"):
        fits(static, snapshot)


def test_a_snapshot_of_another_airport_or_length_is_refused(stored_answer, static):
    snapshot = parse(stored_answer("kabq_start"))
    for changed in ({"runways": static["runways"][:2]}, {"streams": []}):
        with pytest.raises(GameError, match="must have"):
            fits(static | changed, snapshot)
    with pytest.raises(GameError, match="has 0 frames, must have 10"):
        fits(static, snapshot, 10)
    with pytest.raises(GameError, match="has 0 pictures, must have 1"):
        fits(static, snapshot, 0, 1)


@pytest.mark.parametrize(
    "found", [None, 7, "x", [], [None, "x"], ["{}"], ["[", "x"], ["null", "x"], ["[" * 10**5, "x"]]
)
def test_a_page_that_begins_with_something_else_is_refused(found):
    with pytest.raises(GameError, match="set OPENSCOPE_URL"):
        tables.begun(found)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"runways": []}, "has 0 runways"),
        ({"airspace": []}, "has 0 volumes"),
        ({"airspace": [{"floor_ft": 0, "ceiling_ft": 1, "polygon_nm": []}]}, "corners"),
        ({"runway_parallel_minimum_nm": [[1]]}, "6 by 6"),
        ({"streams": [{"category": "boat", "rate_per_h": 1, "speed_kt": 1}]}, "must be a category"),
        ({"elevation_ft": "high"}, "'high', must be a number"),
        ({"elevation_ft": "\ud800"}, r"\ud800"),
        ({"arrival_runway": 3}, "must be a text or null"),
    ],
)
def test_an_airport_of_something_else_is_refused(static, changes, text):
    assert text in tables.airport_fault(static | changes, [])


def test_more_routes_than_an_airport_has_are_refused(static, stored_answer):
    route = parse(stored_answer("kabq_start")).routes[0]
    assert "are more than" in tables.airport_fault(static, [route] * 3000)
    assert "are more than" in tables.routes_fault([route | {"waypoints": route["waypoints"] * 200}])


@pytest.mark.parametrize("now", [0.0, 4.0, 1e9, -5.0])
def test_a_clock_that_stands_or_jumps_is_refused(now):
    with pytest.raises(GameError, match="clock went from 0"):
        on_time(0.0, now)


@pytest.mark.parametrize("block", [b"", b"\x01", b"\xff" * 12, b"\x00\x00\x00\x00abc"])
def test_changes_of_no_picture_are_refused(block):
    with pytest.raises(GameError, match="picture cannot be read"):
        Canvas(4).paint(base64.b64encode(block).decode())
