"""The coverage report counts what is there and names what is not."""

import json

import episodes
import numpy as np
import pytest

from collect import dataset
from collect.coverage import VERBS, Coverage, count_go_arounds, cover, level_distances
from launch import coverage as command
from wm.sector import traffic as tr
from wm.sector.commands import HEADING


@pytest.fixture
def recorded(tmp_path, stored_answer, static):
    """Two recorded episodes of six decisions; in each a heading is typed in every one."""
    answer = stored_answer("kabq_start")
    episodes.write(tmp_path / "worker-000", [episodes.example(answer, static, seed) for seed in (7, 8)])
    return list(dataset.load(tmp_path))


def test_counts_add_up(recorded):
    found = cover(recorded)
    valid = recorded[0].scene.traffic.valid
    assert (found.episodes, found.decisions) == (2, 12)
    assert found.phases.sum() == 2 * valid.sum()
    assert found.verbs.sum() == found.verbs[HEADING].sum() == 12
    assert found.events == {"DEPARTURE": 2}
    assert found.settings["airport", "kabq"] == pytest.approx(12 * 5 / 3600)
    assert found.streams["kabq"].sum() == 2 * (recorded[0].scene.traffic.stream[0][valid[0]] >= 0).sum()


def test_gaps_name_what_is_missing_and_nothing_else(recorded):
    gaps = cover(recorded).gaps()
    assert "no aircraft in phase LANDING" in gaps
    assert not any("phase CRUISE" in gap for gap in gaps)
    assert any(gap.startswith("kabq: no aircraft of ") for gap in gaps)
    (events,) = [gap for gap in gaps if gap.startswith("no event")]
    assert "ARRIVAL" in events
    assert "DEPARTURE" not in events
    assert "SEPARATION_LOSS" not in events  # the game never awards it
    full = Coverage(
        phases=np.full(len(tr.PHASES), 99),
        verbs=np.full((len(VERBS), len(tr.PHASES)), 99),
        approaches=np.full(9, 99),
        go_arounds=1,
        events=dict.fromkeys(tr.EVENT_NAMES, 1),
    )
    assert full.gaps() == []


def two(**changes) -> tr.Traffic:
    """Two decisions of two flying aircraft, 3 nm and 500 ft apart."""
    plain = {
        "valid": np.ones((2, 2), bool), "id": np.asarray([[0, 1]] * 2), "x_nm": np.asarray([[0.0, 3.0]] * 2),
        "altitude_ft": np.asarray([[8000.0, 8500.0]] * 2), "phase": np.full((2, 2), tr.DESCENT),
    }  # fmt: skip
    return tr.empty(tr.Traffic, (2, 2), np).replace(**plain | changes)


def test_pairs_at_one_level_are_measured():
    flying = np.ones((2, 2), bool)
    np.testing.assert_allclose(level_distances(two(), flying), [3.0, 3.0])
    apart = two(altitude_ft=np.asarray([[8000.0, 9000.0], [8000.0, 8999.0]]))
    np.testing.assert_allclose(level_distances(apart, flying), [3.0])
    np.testing.assert_allclose(level_distances(two(), np.asarray([[True, True], [True, False]])), [3.0])


def test_only_an_approach_that_ends_in_the_air_is_a_go_around():
    def count(before, after, **changes):
        return count_go_arounds(two(phase=np.asarray([[before, tr.CLIMB], [after, tr.CLIMB]]), **changes))

    assert count(tr.APPROACH, tr.DESCENT) == 1
    assert count(tr.LANDING, tr.DESCENT) == 1
    assert count(tr.APPROACH, tr.LANDING) == 0
    assert count(tr.DESCENT, tr.APPROACH) == 0
    landed = {"valid": np.asarray([[True, True], [False, True]])}
    assert count(tr.LANDING, -1, **landed) == 0
    reused = {"id": np.asarray([[0, 1], [2, 1]])}
    assert count(tr.LANDING, tr.DESCENT, **reused) == 0


def test_the_command_writes_text_picture_and_results(tmp_path, recorded, capsys):
    command.main(["--data", str(tmp_path), "--out", str(tmp_path / "report")])
    out = capsys.readouterr().out
    assert "2 episodes, 0.0 h, 12 decisions" in out
    assert "Not seen, or hardly:" in out
    assert (tmp_path / "report" / "coverage.png").stat().st_size > 10_000
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert results["counts"]["verbs"]["heading"] == cover(recorded).verbs[HEADING].tolist()
