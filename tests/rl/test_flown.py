"""Figures of air traffic control in small scenes, worked out by hand."""

import numpy as np
import pytest

from rl import evaluate, flown
from wm.sector import commands
from wm.sector import traffic as tr

STEPS = 200


def tracks(slots=3):
    """Nobody anywhere, `[T + 1, N]`."""
    empty = tr.empty(tr.Traffic, (STEPS + 1, slots), np)
    columns = {name: np.array(getattr(empty, name)) for name in evaluate.TRACK_FIELDS}
    blank = {name: np.zeros((STEPS + 1, slots), np.float32) for name in ("unimpeded_s", "along_nm")}
    return columns | blank


def fly(columns, slot, number, begin, end, **values):
    """Put an arrival under control into a slot from step `begin` up to before `end`."""
    about = {"valid": True, "id": number, "controllable": True, "category": tr.ARRIVAL, "phase": tr.DESCENT}
    for name, value in (about | values).items():
        columns[name][begin:end, slot] = value


def landing(columns, slot, number, over_s, runway=0):
    """Let an arrival pass the threshold of a runway at 0.2 nm a decision, and roll for four decisions."""
    end = int(over_s // tr.STEP_S) + 5
    along = 0.2 * (over_s / tr.STEP_S - np.arange(end - 30, end))
    fly(columns, slot, number, end - 30, end, along_nm=along, x_nm=along, runway=runway, phase=tr.LANDING)


def test_two_landings_a_minute_apart():
    columns = tracks()
    landing(columns, 0, 1, over_s=302.5)
    landing(columns, 1, 2, over_s=362.5)
    landing(columns, 2, 3, over_s=330.0, runway=1)  # has its own runway
    landing(columns, 0, 4, over_s=600.0)
    assert flown.threshold_spacings_s(columns) == [60.0, 237.5]
    assert [flown.over_threshold(f) for f in flown.flights(columns)] == pytest.approx([60.5, 72.5, 66, 120])
    # A departure that rolls over a threshold does not land, nor does an arrival that flies over it.
    columns["category"][:, 1] = tr.DEPARTURE
    assert flown.threshold_spacings_s(columns) == [297.5]
    columns["phase"][:100, 0] = tr.APPROACH
    assert flown.threshold_spacings_s(columns) == []


def test_delay_counts_landed_arrivals_from_first_contact():
    columns = tracks()
    fly(columns, 0, 1, 10, 110, phase=tr.LANDING, unimpeded_s=400.0)
    columns["controllable"][:20, 0] = False
    fly(columns, 1, 2, 0, STEPS + 1, phase=tr.LANDING, unimpeded_s=1.0)  # still there at the end
    fly(columns, 2, 3, 0, 50)  # flew away
    fly(columns, 2, 4, 60, 90, category=tr.DEPARTURE, phase=tr.LANDING)
    assert [flown.delay_s(f) for f in flown.landed_flights(columns)] == [90 * 5.0 - 400.0]


def test_extra_track_miles_are_those_to_the_threshold_less_the_unimpeded():
    columns = tracks()
    # 3 nm east and 4 nm north 20 times, then 1.5 nm to the threshold; what it rolls doesn't count.
    fly(columns, 0, 1, 0, 25, phase=tr.LANDING, along_nm=1.5)
    at = np.minimum(np.arange(25), 20)
    columns["x_nm"][:25, 0], columns["y_nm"][:25, 0] = 0.3 * at, 0.4 * at
    columns["along_nm"][21:25, 0], columns["x_nm"][21:25, 0] = -0.5, 7.5
    columns["unimpeded_s"][:25, 0] = 8.0 / 210.0 * 3600.0  # 8 nm
    (flight,) = flown.landed_flights(columns)
    assert flown.extra_nm(flight) == pytest.approx(20 * 0.5 + 1.5 - 8.0, abs=1e-5)


def descent(*parts):
    """Altitudes (ft) of a descent from 10,000 ft: (decisions, ft/min) each."""
    rates = np.concatenate([np.full(decisions, rate) for decisions, rate in parts])
    return 10000.0 - np.concatenate([[0.0], np.cumsum(rates) * tr.STEP_S / 60.0])


@pytest.mark.parametrize(
    ("parts", "segments"),
    [
        ([(10, 0), (60, 1200)], 0),  # level at cruise
        ([(20, 1200), (4, 0), (30, 1200)], 1),  # 20 s
        ([(20, 1200), (3, 0), (30, 1200)], 0),  # 15 s
        ([(20, 1200), (8, 299), (20, 1200), (30, 0), (5, 1200)], 2),
        ([(20, 1200), (8, 301), (20, 1200)], 0),  # too steep for level flight
        ([(9, 1200), (6, 0), (30, 1200)], 0),  # at 91 % of the highest altitude: still cruise
        ([(10, 1200), (6, 0), (30, 1200)], 1),  # at 90 %
    ],
)
def test_level_segments_are_20_seconds_below_cruise(parts, segments):
    altitude = descent(*parts)
    columns, end = tracks(), len(altitude)
    fly(columns, 0, 1, 0, end, along_nm=1.0, phase=tr.LANDING, altitude_ft=altitude)
    # The roll on the ground is level, but behind the threshold.
    fly(columns, 0, 1, end, end + 10, along_nm=-1.0, phase=tr.LANDING, altitude_ft=altitude[-1])
    (flight,) = flown.landed_flights(columns)
    assert flown.level_segments(flight) == segments


def test_a_go_around_is_an_approach_that_ends_in_the_air():
    columns = tracks(4)
    for slot in range(4):
        fly(columns, slot, slot, 0, 20)
        fly(columns, slot, slot, 20, 40, phase=tr.APPROACH, approach_clearance=True)
    fly(columns, 0, 0, 40, 60)  # the game finds it off the glideslope
    fly(columns, 1, 1, 40, 60, phase=tr.APPROACH, approach_clearance=False)  # called off by the controller
    fly(columns, 2, 2, 40, 60, phase=tr.LANDING)  # lands without its clearance
    assert flown.go_arounds(columns) == 2  # the fourth was removed while on approach
    fly(columns, 0, 0, 60, 80, phase=tr.APPROACH, approach_clearance=True)
    fly(columns, 0, 0, 80, 90)
    assert flown.go_arounds(columns) == 3  # once more by the same aircraft


def orders(*told):
    """Actions `[T, 5]` of (step, column, degrees), no-ops elsewhere; and whether there is one."""
    action = np.zeros((STEPS, 5), int)
    action[:, 0] = 3
    for step, column, degrees in told:
        action[step] = [column, commands.HEADING, 0, commands.HEADING_CHANGES_DEG.index(degrees), 0]
    return action, action[:, 0] < 3


def test_reversals_are_turns_to_the_other_side_within_a_minute():
    ids = np.tile([7, 8, 9], (STEPS + 1, 1))
    action, obeyed = orders((0, 0, 20), (1, 1, -20), (12, 0, -45), (13, 1, -90), (25, 0, 90), (26, 1, 20))
    # Aircraft 7: right, left 60 s later, right 65 s later. Aircraft 8: left, left, right 65 s later.
    assert flown.reversals(action, obeyed, ids) == 1
    assert flown.reversals(action, obeyed & (np.arange(STEPS) != 12), ids) == 0  # refused
    ids[10:, 0] = 70  # another aircraft in that column
    assert flown.reversals(action, obeyed, ids) == 0
    between = orders((0, 2, 20), (5, 2, 0), (6, 2, -20))  # to keep the heading is no turn
    assert flown.reversals(*between, ids) == 1
    other = orders((0, 2, 20), (6, 2, -20))[0]
    other[:, 1] = commands.SPEED
    assert flown.reversals(other, obeyed, ids) == 0
