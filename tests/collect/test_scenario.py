"""Scenarios say in BlueSky's syntax what aircraft were steered for. The parser here is the test's own."""

import re

import flown
import pytest

from collect import scenario

NUMBER = r"-?\d+(\.\d+)?"
PLACE = rf"{NUMBER},{NUMBER}"
ACID = r"[A-Z][A-Z0-9]*"
# Arguments as BlueSky's own help gives them: CRE acid,type,lat,lon,hdg,alt,spd and so on.
ARGUMENTS = {
    "WIND": rf"{PLACE}(,{NUMBER},{NUMBER},{NUMBER})+",
    "CRE": rf"{ACID},[A-Z0-9]+,{PLACE},{NUMBER},{NUMBER},{NUMBER}",
    "ADDWPT": rf"{ACID},{PLACE}",
    "DELRTE": ACID,
    "ALT": rf"{ACID},\d+,\d+",
    "SPD": rf"{ACID},\d+",
    "HDG": rf"{ACID},\d{{3}}",
    "DEL": ACID,
}


def parse(text: str) -> list[tuple[float, str, list[str]]]:
    """(seconds, command, arguments) of every line; fails on anything else, and on times that go back."""
    found = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"(\d\d):([0-5]\d):([0-5]\d\.\d\d)>([A-Z]+) (\S+)", line)
        assert match, line
        hours, minutes, seconds, command, arguments = match.groups()
        assert re.fullmatch(ARGUMENTS[command], arguments), line
        found.append((3600 * int(hours) + 60 * int(minutes) + float(seconds), command, arguments.split(",")))
    assert found == sorted(found, key=lambda one: one[0])
    return found


@pytest.fixture
def lines(static):
    return parse(scenario.text(flown.scene(), static, flown.ROUTES, flown.CALLSIGNS))


def of(lines, acid: str) -> list[tuple[float, str, list[str]]]:
    return [(seconds, command, rest) for seconds, command, (name, *rest) in lines if name == acid]


def test_an_arrival_follows_its_route_until_it_gets_a_heading(lines):
    told = of(lines, "SWA12")
    assert [(seconds, command) for seconds, command, _ in told] == [
        (0.0, "CRE"), (0.0, "ADDWPT"), (0.0, "ADDWPT"), (0.0, "ALT"), (0.0, "SPD"),
        (10.0, "HDG"), (20.0, "DEL"),
    ]  # fmt: skip
    create, first, second, altitude, speed, heading, _ = (rest for *_, rest in told)
    # KABQ lies at 35.038917; 20 sin 8.8 = 3.0597 nm less are 34.987956.
    assert create == ["A320", "34.987956", "-106.206252", "278.8", "10000", "300"]
    assert first == ["34.987956", "-106.206252"]  # the fix EAST, over which it appears
    assert float(second[1]) < float(first[1])  # and then west; the heading leg ends the route
    assert altitude == ["8000", "1400"]  # 70 % of the type's 2,000 ft/min
    assert speed == ["300"]
    assert heading == ["189"]  # 180 magnetic and 8.8 of declination


def test_a_departure_appears_when_it_leaves_the_ground(lines):
    told = of(lines, "SIM0009")
    assert [(seconds, command) for seconds, command, _ in told] == [
        (15.0, "CRE"), (15.0, "HDG"), (15.0, "ALT"), (15.0, "SPD"),
    ]  # fmt: skip
    assert told[0][2][-2:] == ["5500", "130"]
    assert told[2][2] == ["12000", "2100"]


def test_aircraft_that_shared_a_slot_are_two(lines):
    assert [command for _, command, _ in of(lines, "SIM0005")] == ["CRE", "HDG", "ALT", "SPD", "DEL"]
    assert [seconds for seconds, _, _ in of(lines, "SIM0005")] == [0.0] * 4 + [5.0]
    assert [command for _, command, _ in of(lines, "N3164")] == ["CRE", "HDG", "ALT", "SPD"]
    assert of(lines, "N3164")[0][2][0] == scenario.PROPELLER


def test_only_changes_are_told(static):
    scene = flown.scene()
    t = scene.traffic
    t.target_speed_kt[3:, 1] = (130.2, 180.0)
    t.target_altitude_ft[3:, 1] = (12000.0, 12049.0)
    lines = of(parse(scenario.text(scene, static, flown.ROUTES, {})), "SIM0009")
    assert [(seconds, command) for seconds, command, _ in lines[4:]] == [(20.0, "SPD")]


def test_a_route_taken_up_again_replaces_the_first(static):
    scene = flown.scene()
    t = scene.traffic
    t.heading_mode[3, 0], t.leg[3, 0] = 2, 3  # LNAV, beyond the heading leg
    told = of(parse(scenario.text(scene, static, flown.ROUTES, flown.CALLSIGNS)), "SWA12")
    assert [command for seconds, command, _ in told if seconds == 15.0] == ["DELRTE", "ADDWPT"]


def test_the_wind_comes_from_true_directions_and_grows(lines):
    # From 90 magnetic; 2 % a thousand feet over 39,645 ft make 10 kt 17.9.
    assert lines[0] == (
        0.0,
        "WIND",
        ["35.038917", "-106.608307", "5355", "99", "10.0", "45000", "99", "17.9"],
    )


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.0, "00:00:00.00"), (59.996, "00:01:00.00"), (3661.5, "01:01:01.50")]
)
def test_times(seconds, clock):
    assert scenario.clock(seconds) == clock
