"""Hours of pictures come back exactly, or say in one line why not."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from wm.cosmos.scope import commands, crops, hours
from wm.cosmos.scope.hours import ScopeError

RECORDED = Path(__file__).parent / "data" / "kabq-1000.npz"  # six pictures of the real game


@pytest.fixture(scope="module")
def hour():
    return hours.load(RECORDED, "train")


def test_pictures_and_tables_come_back_exactly(hour, tmp_path):
    hours.save(tmp_path / "a.npz", hour)
    again = hours.load(tmp_path / "a.npz", "train")
    assert (again.pictures == hour.pictures).all()
    assert (again.table == hour.table).all()
    assert (again.airport, again.seed, again.spoken) == ("kabq", 1000, hour.spoken)


def test_blips_are_bright_where_the_tables_say_that_aircraft_are(hour):
    bright = hour.palette.max(-1)[hour.pictures]
    for t, column in np.argwhere(hour.in_view):
        x, y = np.floor(hour.pixels[t, column]).astype(int)
        assert bright[t, y, x] > 180


def test_text_is_drawn_where_the_blocks_are_and_not_beside_them(hour):
    bright = hour.palette.max(-1)[hour.pictures].astype(float)
    empty = np.median(bright, 0)
    beside = []
    for t in range(len(bright)):
        whole = crops.clear(hour, t).all(-1)
        boxes = crops.blocks(hour.pixels[t], hour.callsigns[t]).astype(int)
        for column in np.flatnonzero(whole & hour.in_view[t]):
            for left, top, right, bottom in boxes[column, :2]:
                text = bright[t, top:bottom, left:right] - empty[top:bottom, left:right]
                above = bright[t, top - 3 : top, left:right] - empty[top - 3 : top, left:right]
                assert text.max() > 100
                beside.append(above.max())
    assert len(beside) > 6
    assert np.median(beside) < 60  # now and then somebody else's blip or leader is there


def test_an_hour_is_for_one_use(tmp_path, hour):
    hours.save(tmp_path / "a.npz", dataclasses.replace(hour, seed=600_000))
    with pytest.raises(ScopeError, match="train takes 0 to 499999"):
        hours.load(tmp_path / "a.npz", "train")


@pytest.mark.parametrize("content", [b"", b"PK nothing", RECORDED.read_bytes()[:9000]])
def test_a_damaged_hour_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ScopeError, match="pack it again") as caught:
        hours.load(tmp_path / "a.npz", "train")
    assert "\n" not in str(caught.value)


def test_hours_of_other_pictures_are_not_mixed(hour):
    smaller = dataclasses.replace(hour, pictures=hour.pictures[:, :256, :256])
    hours.check_alike([hour, hour])
    with pytest.raises(ScopeError, match="256 px"):
        hours.check_alike([hour, smaller])


def test_a_folder_without_hours_says_what_makes_some(tmp_path):
    with pytest.raises(ScopeError, match="scope_pack"):
        hours.find(tmp_path)


def test_more_aircraft_than_slots_are_refused(hour):
    with pytest.raises(ScopeError, match="2 slots"):
        commands.slots_of(hour, 0, 2)
