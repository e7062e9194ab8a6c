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


def test_the_summary_sets_the_errors_and_the_controllers_side_by_side():
    def fidelity(median):
        return {"kabq": {"model_commanded_60s": {"p50": median, "p95": 10 * median}}}

    def figure(value):
        return {"value": value, "low": value - 1, "high": value + 1, "unit": "", "n": 8}

    names = ("noop", "random", "shipped", "policy")
    figures = {f"return_imagined_{name}_kabq": figure(100.0 * i) for i, name in enumerate(names)}
    figures["landed_share_policy_kabq_imagined"] = figure(0.5)
    results = {
        "fidelity": fidelity(0.02),
        "shipped_fidelity": fidelity(0.001),
        "shipped": {"figures": figures},
        "real": {"figures": {"return_real_policy_kabq": figure(-7.0)}},
    }
    lines = [" ".join(line.split()) for line in demo.summary(results, "kabq").splitlines()]
    assert "the new model 0.0200 0.2000" in lines
    assert "the shipped model 0.0010 0.0100" in lines
    imagined = lines[lines.index("in the shipped model") + 1 : lines.index("in the real game")]
    assert imagined[0] == "no commands 0 (-1 to 1)"
    assert imagined[3] == "after: the new controller 0.50 (-0.50 to 1.50) 300 (299 to 301)"
    assert lines[lines.index("in the real game") + 1 :] == ["after: the new controller -7 (-8 to -6)"]
    assert "in the new model" not in lines
