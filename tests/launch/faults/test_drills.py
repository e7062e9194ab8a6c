"""Broken runs and damaged inputs: what a drill does to them, and that it sees what goes wrong."""

import pytest

from configs.fault_checks import Drill
from launch import check_faults
from launch.faults import damaged, drills
from launch.faults.damaged import COMMANDS, DAMAGES
from launch.faults.drills import Bench, Row
from launch.faults.subjects import SUBJECTS
from launch.shared import records

QUICK = [d for d in DAMAGES if d.command in ("validate", "train_wm", "pack", "eval_policy of it")]


def test_thirty_faults_and_more_are_drilled_and_none_twice():
    pairs = [*((damage.command, damage.fault) for damage in DAMAGES), *drills.plan()]
    assert len(set(pairs)) == len(pairs) >= 50
    assert {name for name, _ in drills.plan()} == set(SUBJECTS)
    assert {damage.command for damage in DAMAGES} == set(COMMANDS)


@pytest.mark.parametrize("damage", QUICK, ids=lambda damage: f"{damage.command}-{damage.fault}")
def test_a_damaged_input_is_refused_in_one_line(tmp_path, damage):
    row = damaged.refuse(Bench(tmp_path, 0), damage)
    assert (row.status, row.lost, row.problems) == (1, [], [])
    assert row.said.startswith("error: ")


def test_what_is_not_refused_is_a_problem(tmp_path):
    whole = damaged.Damage("validate", "nothing", lambda folder: None, "torn")
    row = damaged.refuse(Bench(tmp_path, 0), whole)
    assert len(row.problems) == 2
    assert "ended with status 0" in row.problems[0]
    assert "has no 'torn'" in row.problems[1]


def test_tracebacks_statuses_and_missing_words_are_problems():
    row = Row("pack", "full disk", 2)
    drills.check_words(
        row, "Traceback (most recent call last)\n 10%|#  | 1/10\nKeyError: 1\n", (1,), "error: "
    )
    assert row.said == "KeyError: 1"
    assert [problem.split()[0] for problem in row.problems] == ["ended", "shows", "says"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    """Inputs and undisturbed runs, made once; every fault has folders of its own."""
    return Bench(tmp_path_factory.mktemp("bench"), 0)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["SIGKILL", "SIGTERM", "full disk"])
def test_a_broken_pack_keeps_what_it_has_and_goes_on(bench, fault):
    row = drills.drill(bench, "unpack" if fault == "full disk" else "pack", fault)
    assert (row.lost, row.problems) == ([], [])


@pytest.mark.slow
def test_a_lost_file_is_seen(bench):
    subject = SUBJECTS["pack"]
    _, wanted = bench.whole(subject)
    row = bench.finish(subject, bench.fresh("again"), Row("pack", "a fault"), {**wanted, "gone": "x"})
    assert row.lost == ["gone"]
    assert row.kept == len(wanted) + 1


def test_the_command_counts_and_writes_the_table(tmp_path, monkeypatch, capsys):
    written = {}
    monkeypatch.setattr(records, "write", lambda name, figures: written.update({name: figures}))
    monkeypatch.setattr(damaged, "DAMAGES", QUICK[:1])
    config = Drill(commands=("validate",), out=tmp_path)
    assert check_faults.check(config) == []
    lines = (tmp_path / "table.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:5] == ["command", "fault", "status", "kept", "lost"]
    assert cells[2][:5] == ["validate", "flipped byte", "1", "0", "0"]
    with pytest.raises(SystemExit):
        check_faults.check(Drill(commands=("validate",), out=tmp_path, record="people"))
    assert "record takes 30 faults or more, these are 1" in capsys.readouterr().err
    assert written == {}
