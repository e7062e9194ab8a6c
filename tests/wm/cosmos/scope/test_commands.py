"""Commands are relative, normalised, and exchanged between the aircraft of a picture alone."""

from pathlib import Path

import jax
import numpy as np
import pytest

from wm.cosmos.scope import commands, crops, hours
from wm.cosmos.scope.commands import FEATURES, Statistics, Track
from wm.cosmos.scope.hours import PANEL, ScopeError
from wm.sector import traffic as tr

RECORDED = Path(__file__).parent / "data" / "kabq-1000.npz"


@pytest.fixture(scope="module")
def hour():
    return hours.load(RECORDED, "train")


def panel(**columns) -> dict[str, np.ndarray]:
    return {name: np.asarray([columns.get(name, 0.0)], np.float32) for name in (*PANEL, "commanded")}


def feature(name: str, track: Track, told: dict) -> float:
    return float(commands.features(track, told, np.asarray([False]), 36.0)[0, FEATURES.index(name)])


SHOWN = (3.0, 4.0, 5000.0, np.deg2rad(350.0), 216.0, 0.0, 0.9, 300.0)
ONE = Track(*(np.asarray([value]) for value in SHOWN))


def test_a_turn_is_what_is_left_of_it_the_short_way():
    told = panel(heading_mode=tr.MODE_HOLD, assigned_heading_rad=np.deg2rad(30.0))
    assert feature("turn", ONE, told) == pytest.approx(40.0 / 180.0)
    assert feature("turn_sin", ONE, told) == pytest.approx(np.sin(np.deg2rad(40.0)))


def test_on_its_route_an_aircraft_turns_to_its_fix():
    told = panel(heading_mode=tr.HEADING_LNAV, has_fix=1.0, fix_x_nm=13.0, fix_y_nm=4.0)
    assert feature("turn", ONE, told) == pytest.approx(100.0 / 180.0)  # east, from 350 degrees
    assert feature("fix_ahead", ONE, told) == pytest.approx(10 / 30 * np.cos(np.deg2rad(100.0)), abs=1e-6)


def test_climb_and_speed_changes_are_relative():
    modes = {"altitude_mode": tr.MODE_HOLD, "speed_mode": tr.MODE_HOLD}
    told = panel(**modes, assigned_altitude_ft=8000.0, assigned_speed_kt=250.0)
    assert feature("climb", ONE, told) == pytest.approx(0.6)
    # 216 kt over ground at 5,000 ft are 200 kt indicated.
    assert feature("acceleration", ONE, told) == pytest.approx(0.5, abs=1e-5)
    assert feature("east", ONE, told) == pytest.approx(3 / 36)


def test_statistics_are_applied(hour):
    slots = [commands.slots_of(hour, t) for t in range(5)]
    told = jax.tree.map(lambda *x: np.stack(x), *(commands.told(s, s.track, 36.0) for s in slots))
    fitted = Statistics.fit(told)
    normal = fitted(told)
    rows = normal.features[normal.present]
    changing = np.asarray(fitted.std) != 1.0
    assert rows.mean(0) == pytest.approx(0.0, abs=1e-5)
    assert rows.std(0)[changing] == pytest.approx(1.0, abs=1e-4)
    assert (normal.features[~normal.present] == 0).all()
    raw = told.features[told.present]
    assert np.allclose(rows * np.asarray(fitted.std) + fitted.mean, raw, atol=1e-5)


def test_statistics_of_other_commands_are_refused(hour):
    slots = commands.slots_of(hour, 0)
    with pytest.raises(ScopeError, match="trained on 3"):
        Statistics((0.0,) * 3, (1.0,) * 3)(commands.told(slots, slots.track, 36.0))


def test_exchanged_commands_leave_everyone_where_they_are(hour):
    slots = commands.slots_of(hour, 2)
    other = commands.exchanged(slots)
    there = np.flatnonzero((slots.columns >= 0) & ~slots.enters)
    assert len(there) > 2
    assert (other.track.x_nm == slots.track.x_nm).all()
    for name in PANEL:
        assert (other.panel[name][there] == slots.panel[name][np.roll(there, 1)]).all()


def drawn_on_black(**columns) -> np.ndarray:
    """A black picture with the commands of one aircraft in its middle, flying north."""
    track = jax.tree.map(lambda x: np.zeros(1), ONE).replace(speed_kt=np.asarray([200.0]))
    rows = commands.features(track, panel(**columns), np.asarray([False]), 36.0)
    middle = np.full((1, 2), 0.5, np.float32)
    told = commands.Told(rows, middle, middle, np.zeros((1, 8), int), np.asarray([True]))
    return commands.overlay(np.zeros((128, 128, 3), np.uint8), told)


def test_a_turn_is_drawn_towards_its_course_and_a_climb_upwards():
    east = drawn_on_black(heading_mode=tr.MODE_HOLD, assigned_heading_rad=np.pi / 2)
    red = np.argwhere((east[..., 0] > 200) & (east[..., 1] < 100))
    assert set(red[:, 0]) == {64}
    assert (red[:, 1].min(), red[:, 1].max()) == pytest.approx((69, 84), abs=1)
    up = drawn_on_black(altitude_mode=tr.MODE_HOLD, assigned_altitude_ft=10_000.0)
    blue = np.argwhere((up[..., 2] > 200) & (up[..., 0] < 100))
    assert set(blue[:, 1]) == {71}
    assert (blue[:, 0].min(), blue[:, 0].max()) == pytest.approx((56, 64), abs=1)


def test_of_nobody_nothing_is_drawn(hour):
    slots = commands.slots_of(hour, 2)
    told = commands.told(slots, slots.track, 36.0)
    picture = hour.palette[hour.pictures[2]]
    assert (commands.overlay(picture, told) != picture).any()
    silent = told.replace(present=np.zeros_like(told.present))
    assert (commands.overlay(picture, silent) == picture).all()


def test_letters_and_digits():
    assert crops.letters(np.frombuffer(b"AZ09\0", np.uint8)).tolist() == [1, 26, 27, 36, 0]
    assert crops.digits(np.asarray([90, 1234]), 3).tolist() == [[0, 9, 0], [2, 3, 4]]
