"""The search for an airport's prices: what it plays, keeps and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs.tuning import ExpertTuning
from launch import tune_expert
from launch.shared import players
from rl.arrivals import ExpertParams

SMALL = [
    "--airport", "kabq", "--minutes", "1", "--generations", "1", "--hours", "1", "--judged-hours", "1",
    "--pairs", str(len(tune_expert.NAMES)),
]  # fmt: skip


def test_no_change_of_logarithms_leaves_the_expert_s_prices():
    own = tune_expert.prices(np.zeros(len(tune_expert.NAMES)))
    assert {name: float(getattr(own, name)) for name in tune_expert.NAMES} == pytest.approx(
        {name: getattr(ExpertParams(), name) for name in tune_expert.NAMES}, rel=1e-6
    )
    halved = np.zeros((2, len(tune_expert.NAMES)))
    halved[1, tune_expert.NAMES.index("spacing_s")] = np.log(0.5)
    assert tune_expert.prices(halved).spacing_s.tolist() == pytest.approx([70.0, 35.0])


@pytest.mark.slow
def test_a_search_ends_in_a_policy_and_is_not_played_twice(tmp_path, capsys):
    out = tmp_path / "tuned"
    tune_expert.main(["--out", str(out), *SMALL])
    (line,) = (out / tune_expert.GENERATIONS).read_text().splitlines()
    assert np.linalg.norm(json.loads(line)["next"]) in (0.0, pytest.approx(ExpertTuning(out=out).step))
    results = json.loads((out / "results.json").read_text())
    assert len(results["judged"]["return"]) == 2
    assert results["judged"]["gain"][0] == 0.0
    player = players.make(str(out), 32)
    assert player.name == players.TUNED
    assert player.params.spacing_s == results["prices"]["spacing_s"]
    with pytest.raises(SystemExit):
        tune_expert.main(["--out", str(out), *SMALL, "--spread", "0.1"])
    assert "choose another --out" in capsys.readouterr().err
    assert (out / tune_expert.GENERATIONS).read_text().splitlines() == [line]


def test_fewer_pairs_than_prices_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tune_expert.main(["--out", str(tmp_path), "--pairs", "3"])
    assert "pairs is 3, must be at least" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", '{"prices": {"spacing_s": 60}}', "[", '{"prices": {"ils": "x"}}'])
def test_a_file_without_all_prices_is_refused(tmp_path: Path, text):
    (tmp_path / players.PRICES).write_text(text)
    with pytest.raises(ValueError, match="doesn't hold the prices"):
        players.make(str(tmp_path), 32)
