"""Windows of a recorded hour, drawn by nobody: who is followed, what changes of commands do, what is seen."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from wm.cosmos.scope import commands, crops, hours, rollout
from wm.cosmos.scope.reader import Blips
from wm.cosmos.scope.rollout import Sight, Window
from wm.sector import traffic as tr

RECORDED = Path(__file__).parent / "data" / "kabq-1000.npz"


@pytest.fixture(scope="module")
def hour():
    return hours.load(RECORDED, "train")


def as_recorded(hour, t: int, without: int | None = None) -> Blips:
    """What a reader that never errs says of a recorded picture, less one aircraft."""
    ids = hour.column("id")[t].astype(int)
    here = [c for c in np.flatnonzero(hour.in_view[t]) if ids[c] != without]
    letters = np.zeros((len(here), 8, 37))
    for row, column in enumerate(here):
        letters[row, np.arange(8), crops.letters(hour.callsigns[t, column])] = 1.0
    ones, of = np.ones(len(here)), lambda name: hour.column(name)[t, here]
    return Blips(
        ones > 0, hour.pixels[t, here], letters, np.round(of("altitude_ft"), -2), ones,
        np.round(of("ground_speed_kt"), -1), of("heading_rad"), np.ones((len(here), 2)),
    )  # fmt: skip


def test_a_window_drawn_as_it_was_recorded_has_no_error(hour):
    window = Window.of(hour, 1)
    for t in (2, 3, 4):
        window.slots(32)
        window.see(as_recorded(hour, t))
    assert window.stray == [0, 0, 0]
    for t, course in zip((2, 3, 4), window.course, strict=True):
        for key, (place, altitude) in rollout.true_place(hour, t).items():
            assert course[key].place == pytest.approx(place)
            assert abs(course[key].altitude_ft - altitude) <= 50.0


def test_who_is_not_drawn_is_missed_and_nobody_else(hour):
    lost = next(iter(rollout.true_place(hour, 1)))
    window = Window.of(hour, 1)
    for t in (2, 3):
        window.slots(32)
        window.see(as_recorded(hour, t, without=lost))
    missed = {key: one.missed for key, one in window.course[1].items()}
    assert missed.pop(lost) == 2
    assert set(missed.values()) == {0}


def test_straight_on_is_the_last_displacement_again(hour):
    before, now = rollout.true_place(hour, 1), rollout.true_place(hour, 2)
    ahead = rollout.straight_on(hour, 2, 3)
    key = next(iter(ahead))
    assert ahead[key] == pytest.approx(now[key][0] + 3 * (now[key][0] - before[key][0]))


def test_commanded_aircraft_are_those_that_were_spoken_to(hour):
    names = {hour.spoken[t].split()[0] for t in range(2, 4)}
    ids = hour.column("id")[2].astype(int)
    spelled = {int(ids[c]): hour.callsigns[2, c].tobytes().rstrip(b"\0").decode() for c in range(len(ids))}
    assert {spelled[key] for key in rollout.commanded(hour, 2, 4)} == names


def turned(hour, degrees: float):
    """Slots of a picture in which the first aircraft was just told to turn by so much."""
    slots = commands.slots_of(hour, 2)
    panel = {name: values.copy() for name, values in slots.panel.items()}
    panel["heading_mode"][0], panel["commanded"][:] = tr.MODE_HOLD, 0.0
    panel["commanded"][0] = 1.0
    panel["assigned_heading_rad"][0] = slots.track.heading_rad[0] + np.deg2rad(degrees)
    return slots.replace(panel=panel)


def test_small_turns_are_not_reversed(hour):
    assert not rollout.turning(turned(hour, 20.0)).any()
    assert np.rad2deg(rollout.turning(turned(hour, -90.0))[0]) == pytest.approx(-90.0, abs=1e-3)


def test_a_reversed_turn_stays_reversed(hour):
    window, slots = Window.of(hour, 2), turned(hour, 90.0)
    first = rollout.reverse(slots, window).panel["assigned_heading_rad"][0]
    window.course.append({})
    later = rollout.reverse(slots.replace(panel=slots.panel | {}), window).panel["assigned_heading_rad"][0]
    assert np.rad2deg(first - slots.track.heading_rad[0]) == pytest.approx(-90.0, abs=1e-3)
    assert later == first


def as_it_lands(hour, last_seen: int, **ending) -> hours.Hour:
    """Ten pictures like one of the recorded, whose first aircraft is never drawn after `last_seen`.

    `ending` are columns of that one throughout; its place is in nautical miles from the middle.
    """
    table = np.repeat(hour.table[3:4], 10, 0)
    column = int(np.flatnonzero(hour.in_view[3])[0])
    for name, value in {"category": tr.ARRIVAL, **ending}.items():
        table[:, column, hours.COLUMNS.index(name)] = value
    table[last_seen + 1 :, column, hours.COLUMNS.index("drawn")] = 0.0
    return dataclasses.replace(
        hour, table=table, pictures=np.repeat(hour.pictures[3:4], 10, 0),
        callsigns=np.repeat(hour.callsigns[3:4], 10, 0),
    )  # fmt: skip


def found_landings(short: hours.Hour) -> dict[int, int]:
    each = [as_recorded(short, t) for t in range(len(short.pictures))]
    most = max(len(blips.found) for blips in each)

    def padded(x):  # a blip that is not found fills up
        return np.concatenate([x, np.zeros((most - len(x), *x.shape[1:]), x.dtype)])

    return rollout.landings(short, jax.tree.map(lambda *x: np.stack([padded(y) for y in x]), *each))


ON_THE_RUNWAY = {"x_nm": 1.0, "y_nm": -1.0, "altitude_ft": 5300.0, "phase": tr.LANDING, "ground_speed_kt": 0}


def test_an_arrival_that_vanishes_low_at_the_airport_has_landed(hour):
    short = as_it_lands(hour, 5, **ON_THE_RUNWAY)
    first = int(short.column("id")[0][short.in_view[0]][0])
    assert found_landings(short) == rollout.landed(short) == {first: 6}


@pytest.mark.parametrize("other", [{"altitude_ft": 9000.0}, {"x_nm": 9.0}, {"category": tr.DEPARTURE}])
def test_who_vanishes_high_or_far_off_or_departs_has_not_landed(hour, other):
    short = as_it_lands(hour, 5, **ON_THE_RUNWAY | other)
    lowest = int(np.flatnonzero(short.in_view[0])[1])
    short.table[:, lowest, hours.COLUMNS.index("altitude_ft")] = 5300.0
    assert found_landings(short) == {}


def test_a_landing_in_the_last_pictures_cannot_be_found_and_is_not_asked_for(hour):
    short = as_it_lands(hour, 8, **ON_THE_RUNWAY)
    assert found_landings(short) == rollout.landed(short) == {}


@dataclasses.dataclass
class PerfectEyes:
    """A reader that says what was recorded."""

    hour: hours.Hour
    t: int
    without: int | None = None

    def seen(self, pictures):
        assert pictures.shape == (1, 512, 512, 3)
        return jax.tree.map(lambda x: x[None], as_recorded(self.hour, self.t, self.without))


def scene_and_names(hour) -> tuple[tr.Scene, dict[int, str]]:
    """The aircraft of picture 3 of which the game says all but where they are, and their callsigns."""
    ids = hour.column("id")[3].astype(int)
    outside = ~hour.in_view[3]
    given = tr.empty(tr.Traffic, (len(ids),), np).replace(
        valid=ids >= 0, id=ids, phase=hour.column("phase")[3].astype(int), assigned_speed_kt=ids * 1.0,
        x_nm=hour.column("x_nm")[3] * outside, y_nm=hour.column("y_nm")[3] * outside,
    )  # fmt: skip
    names = [row.tobytes().rstrip(b"\0").decode() for row in hour.callsigns[3]]
    return tr.Scene(given, None, None, None, None, None), dict(zip(ids.tolist(), names, strict=True))


def test_who_is_in_view_and_not_found_is_left_out(hour):
    scene, names = scene_and_names(hour)
    lost = next(iter(rollout.true_place(hour, 3)))
    sight = Sight(PerfectEyes(hour, 3, without=lost), hour.px_per_nm, hour.palette)
    seen = sight(scene, names, hour.pictures[3]).traffic
    gone = np.flatnonzero(scene.traffic.valid & ~seen.valid)
    assert scene.traffic.id[gone].tolist() == [lost]


def test_the_scene_that_is_seen_has_the_pictures_places_and_the_given_rest(hour):
    scene, names = scene_and_names(hour)
    given = scene.traffic
    sight = Sight(PerfectEyes(hour, 3), hour.px_per_nm, hour.palette)
    seen = sight(scene, names, hour.pictures[3]).traffic
    here = np.flatnonzero(hour.in_view[3])
    assert len(here) > 4
    assert seen.x_nm[here] == pytest.approx(hour.column("x_nm")[3, here], abs=1e-4)
    assert seen.y_nm[here] == pytest.approx(hour.column("y_nm")[3, here], abs=1e-4)
    assert (seen.altitude_ft[here] == np.round(hour.column("altitude_ft")[3, here], -2)).all()
    assert (seen.assigned_speed_kt == given.assigned_speed_kt).all()
    assert (given.x_nm[here] == 0).all()
