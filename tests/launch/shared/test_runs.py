"""Run folders, results, progress and the last line of a command that fails."""

import json
import re
import subprocess
import sys

import jax
import pytest

from launch.shared import runs


def test_each_run_gets_its_own_folder(tmp_path):
    folders = [runs.create("fit", tmp_path / "runs") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(folder.is_dir() for folder in folders)
    assert re.fullmatch(r"fit-\d{8}-\d{6}", folders[0].name)


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "é"])
def test_names_that_are_not_folder_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="run name"):
        runs.create(name, tmp_path)


def test_results_say_where_they_came_from(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys, "argv", [str(runs.ROOT / "launch" / "fit.py"), "--note", "two words", "--steps", "3"]
    )
    results = json.loads(runs.write_results(tmp_path, {"loss": 0.5}).read_text())
    assert results["loss"] == 0.5
    assert results["command"] == "python -m launch.fit --note 'two words' --steps 3"
    assert results["versions"]["jax"] == jax.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", results["date"])
    assert results["device"].endswith("cores")


def test_results_that_are_not_json_leave_the_old_ones(tmp_path):
    runs.write_results(tmp_path, {"loss": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        runs.write_results(tmp_path, {"loss": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert json.loads((tmp_path / "results.json").read_text())["loss"] == 0.5


def test_a_log_goes_on_without_what_will_be_done_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    with runs.reopen_log(path, lambda line: line["step"] <= 2) as log:
        log.write('{"step": 4}\n')
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 4}\n'
    with runs.reopen_log(tmp_path / "new.jsonl", lambda line: True) as log:
        log.write("{}\n")
    assert (tmp_path / "new.jsonl").read_text() == "{}\n"


def test_progress_shows_count_rate_and_unit(capsys):
    with runs.progress(5000, "step") as line:
        line.update(5000)
    shown = capsys.readouterr().err
    assert "5.00k/5.00k" in shown
    assert "step/s" in shown
    assert "100%" in shown


def test_progress_goes_on_where_a_resumed_run_begins(capsys):
    with runs.progress(5000, "step", done=4000) as line:
        line.update(500)
        assert line.format_dict["initial"] == 4000  # the rate is that of this run alone
    assert "4.50k/5.00k" in capsys.readouterr().err


def test_track_yields_every_item(capsys):
    assert list(runs.track((n * n for n in range(4)), "episode")) == [0, 1, 4, 9]
    assert "4/4" in capsys.readouterr().err


def test_fail_is_one_line_and_a_status():
    program = "from launch.shared import runs; runs.fail('no recording in\\n  runs/x; record one')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "error: no recording in runs/x; record one\n"


def test_only_the_named_errors_become_one_line(capsys):
    with pytest.raises(SystemExit) as caught, runs.one_line_errors(KeyError, ValueError):
        raise ValueError("width is 0, must be positive")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: width is 0, must be positive\n"
    with pytest.raises(TypeError), runs.one_line_errors(ValueError):
        raise TypeError("a bug")


def test_errors_of_the_system_name_the_file_before_the_reason(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()
    assert runs.in_one_line(caught.value) == f"{tmp_path}/missing: No such file or directory"
    assert runs.in_one_line(OSError("no\n locks")) == "no locks"


def test_the_commit_is_that_of_the_start(monkeypatch):
    """A tree that is edited while a command works was not edited for it."""
    commits = iter(["a", "a-dirty"])
    monkeypatch.setattr(runs, "git_commit", lambda: next(commits))
    runs.commit.cache_clear()
    try:
        assert runs.commit() == "a"
        assert runs.provenance()["commit"] == "a"
    finally:
        runs.commit.cache_clear()
