"""The survey's table and figures; its look at the real game, at airports that load and that do not."""

import json

import pytest

from launch import survey

ROW = {
    **{
        "icao": "kabq",
        "name": "Albuquerque",
        "level": "beginner",
        "aircraft_mean": 12.25,
        "aircraft_most": 15,
    },
    **{"controllable_most": 6, "streams": 11, "arrivals_per_h": 8.2, "departures_per_h": 8.5, "runways": 6},
    **{"restricted": 0, "decisions_per_core_s": 31.5, "not_read": ""},
}
BROKEN = {"icao": "kdca", "name": "Washington", "level": "easy", "error": "listed without a usable file"}


def test_every_airport_is_a_line_and_only_those_that_load_have_figures():
    rows = [ROW, ROW | {"icao": "klas", "not_read": "stream of an aircraft"}, BROKEN]
    lines = survey.table(rows, 10).splitlines()[2:]
    assert len(lines) == 5
    assert {line.count("|") for line in lines} == {len(survey.TITLES) + 1}
    assert "12.2" in lines[2]
    assert "listed without a usable file" in lines[4]
    figures = survey.figures(rows)
    counts = [figures[f"survey_{name}"].value for name in ("enabled", "loaded", "all_read")]
    assert counts == [3, 2, 1]
    assert figures["survey_aircraft_most_klas"].value == 15
    assert not any(name.endswith("kdca") for name in figures)


def test_a_survey_needs_a_game(tmp_path, capsys):
    with pytest.raises(SystemExit):
        survey.main(["--url", "http://127.0.0.1:9", "--out", str(tmp_path)])
    assert "has no list of airports" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.openscope
def test_two_minutes_at_an_airport_and_at_one_that_is_disabled(tmp_path):
    survey.main(["--airports", "kabq", "EGLL", "--minutes", "2", "--out", str(tmp_path)])
    played, disabled = json.loads((tmp_path / "results.json").read_text())["airports"]
    assert played["aircraft_mean"] > 3
    assert played["runways"] == 6
    assert played["not_read"] == ""
    assert disabled["error"].startswith('airport "egll" is disabled')
    assert (tmp_path / "survey.png").stat().st_size > 5_000
