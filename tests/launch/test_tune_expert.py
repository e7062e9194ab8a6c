"""The search for an airport's prices: what it plays, keeps and refuses."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.tuning import ExpertTuning
from launch import tune_expert
from launch.shared import players
from rl.arrivals import ExpertParams
from rl.policy import SHIPPED

P = len(tune_expert.NAMES)
BEST = np.linspace(-0.4, 0.4, P)  # changes of the prices at the top of the hill
BEST[tune_expert.OWN == 0.0] = 0.3


class Hill:
    """Hours whose return is known: it falls with the square of the distance from BEST."""

    shares, decisions = 1, 12

    def play(self, candidates, keys, on_step):
        luck = jax.vmap(jax.random.uniform)(keys)  # an hour's, the same for all candidates
        height = -100.0 * np.square(candidates - BEST).sum(-1)[:, None] + 10.0 * np.asarray(luck)
        return {"score": height, "overflow": np.zeros_like(height)}


def test_no_change_leaves_the_expert_s_prices():
    own = tune_expert.prices(np.zeros(len(tune_expert.NAMES)))
    assert {name: float(getattr(own, name)) for name in tune_expert.NAMES} == pytest.approx(
        {name: getattr(ExpertParams(), name) for name in tune_expert.NAMES}, rel=1e-6
    )
    moved = np.zeros(len(tune_expert.NAMES))
    moved[tune_expert.NAMES.index("again")] = 0.5  # nothing is changed by points
    assert [float(tune_expert.prices(sign * moved).again) for sign in (1, -1)] == [0.5, 0.0]
    halved = np.zeros((2, len(tune_expert.NAMES)))
    halved[1, tune_expert.NAMES.index("spacing_s")] = np.log(0.5)
    assert tune_expert.prices(halved).spacing_s.tolist() == pytest.approx([70.0, 35.0])


def test_every_candidate_plays_an_hour_in_the_same_member():
    members, candidates, keys = 4, np.arange(6.0).reshape(3, 2), jax.random.split(jax.random.key(0), 8)
    again, asked = tune_expert.side_by_side(keys, candidates)
    assert asked.shape == (24, 2)
    member = np.arange(24) * members // 24  # contiguous blocks of the batch
    for hour, key in enumerate(jax.random.key_data(keys)):
        its = (np.asarray(jax.random.key_data(again)) == np.asarray(key)).all(-1)
        assert asked[its].tolist() == candidates.tolist()
        assert set(member[its]) == {hour * members // 8}


@pytest.mark.slow
def test_equal_candidates_have_equal_hours(tmp_path):
    hours = tune_expert.Hours.of(ExpertTuning(out=tmp_path, airport="kabq", minutes=1, devices=1))
    assert hours.shares == hours.members > 1
    steps, keys = [], jax.random.split(jax.random.key(0), hours.shares)
    points = hours.play(np.zeros((2, P)), keys, steps.append)
    assert set(points) == {"score", "loss", "stranded", "overflow"}
    assert all(term.shape == (2, len(keys)) for term in points.values())
    assert sum(steps) == 2 * 12 * len(keys)
    assert all((term[0] == term[1]).all() for term in points.values())
    few = replace(hours, sectors=2)  # as many hours as the ensemble has members is the least
    twice = few.play(np.zeros((2, P)), jnp.concatenate([keys, keys]), steps.append)
    assert all((twice[name] == np.tile(term, 2)).all() for name, term in points.items())


def test_a_search_climbs_is_kept_and_ends_in_a_policy(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune_expert.Hours, "of", lambda config: Hill())
    out = tmp_path / "tuned"
    asked = ["--out", str(out), "--pairs", str(P), "--hours", "2", "--judged-hours", "2", "--step", "0.2"]
    tune_expert.main([*asked, "--generations", "6"])
    results = json.loads((out / "results.json").read_text())
    assert results["judged"]["gain"][0] == 0.0
    assert results["chosen"] == np.argmax(results["judged"]["return"]) > 3
    best, found = (vars(p) for p in (tune_expert.prices(BEST), ExpertParams(**results["prices"])))
    assert max(abs(found[name] - best[name]) / max(best[name], 1.0) for name in best) < 0.1
    player = players.make(str(out), 32)
    assert player.name == players.TUNED
    assert player.params.spacing_s == results["prices"]["spacing_s"]

    lines = (out / tune_expert.GENERATIONS).read_text()
    tune_expert.main([*asked, "--generations", "6"])  # has nothing left to play
    assert (out / tune_expert.GENERATIONS).read_text() == lines
    with pytest.raises(SystemExit):
        tune_expert.main([*asked, "--spread", "0.1"])
    assert "choose another --out" in capsys.readouterr().err


def test_a_search_that_was_cut_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_expert.Hours, "of", lambda config: Hill())
    whole, cut = (ExpertTuning(out=tmp_path / n, generations=3, pairs=P, hours=1) for n in ("whole", "cut"))
    expected = tune_expert.tune(whole)
    first = (whole.out / tune_expert.GENERATIONS).read_text().splitlines(keepends=True)[0]
    cut.out.mkdir()
    (cut.out / tune_expert.GENERATIONS).write_text(first)
    assert tune_expert.tune(cut) == expected


def test_a_search_begins_where_it_is_asked_to_and_is_judged_beside_the_expert(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_expert.Hours, "of", lambda config: Hill())
    config = ExpertTuning(out=tmp_path, start="again=0.3,ils=4", generations=1, pairs=P, hours=1, step=1e-9)
    results = tune_expert.tune(config)
    moved = tune_expert.tried("again=0.3,ils=4")
    assert np.flatnonzero(moved).tolist() == [tune_expert.NAMES.index(name) for name in ("ils", "again")]
    heights = [-100.0 * np.square(at - BEST).sum() for at in (np.zeros(P), moved, moved)]
    assert results["judged"]["gain"] == pytest.approx(np.subtract(heights, heights[0]), abs=1e-4)


def test_prices_can_be_tried_without_a_search(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tune_expert.Hours, "of", lambda config: Hill())
    near = ",".join(f"{name}={price}" for name, price in vars(tune_expert.prices(BEST)).items())
    tune_expert.main(["--out", str(tmp_path), "--tries", "again=0.2", near, "--judged-hours", "2"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert (len(results["judged"]["return"]), results["chosen"]) == (3, 2)
    assert results["prices"]["again"] == pytest.approx(0.3)
    assert not (tmp_path / tune_expert.GENERATIONS).exists()
    for wrong in ("again", "again=-1", "gain=1", "again=x"):
        with pytest.raises(SystemExit):
            tune_expert.main(["--out", str(tmp_path), "--tries", wrong])
        assert f"prices hold {wrong!r}, must be NAME=VALUE with a price of: " in capsys.readouterr().err


def test_the_shipped_prices_are_the_expert_s_but_for_what_was_tried():
    found = players.make(str(SHIPPED.parent / "tuned-klas"), 32).params
    assert found == ExpertParams(again=1.0)


def test_fewer_pairs_than_prices_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        tune_expert.main(["--out", str(tmp_path), "--pairs", "3"])
    assert "pairs is 3, must be at least" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{}", '{"prices": {"spacing_s": 60}}', "[", '{"prices": {"ils": "x"}}'])
def test_a_file_without_all_prices_is_refused(tmp_path: Path, text):
    (tmp_path / players.PRICES).write_text(text)
    with pytest.raises(ValueError, match="doesn't hold the prices"):
        players.make(str(tmp_path), 32)
