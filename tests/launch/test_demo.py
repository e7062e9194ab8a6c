"""The demonstration's folder: what it may delete. CI runs the demonstration itself."""

import pytest

from launch import demo


def test_an_earlier_demonstration_is_replaced(tmp_path):
    out = tmp_path / "demo"
    demo.clear(out)
    (out / demo.MARK).write_text("{}")
    (out / "wm").mkdir()
    (out / "wm" / "results.json").write_text("{}")
    demo.clear(out)
    assert list(out.iterdir()) == []


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="choose another --out"):
        demo.clear(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_command_says_so_in_one_line(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as stop:
        demo.main(["--short", "--out", str(tmp_path)])
    assert stop.value.code != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
