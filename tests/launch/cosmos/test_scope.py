"""Learning openScope's pictures from the command line: every stage leaves its part, the judge reads them."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.scope import ScopeJudge, ScopeTrain
from launch.cosmos import scope_judge, scope_train
from launch.shared import film
from wm.cosmos.scope import hours
from wm.cosmos.scope.hours import ScopeError
from wm.cosmos.scope.reader import Aircraft
from wm.cosmos.scope.rollout import Window, true_place
from wm.cosmos.scope.stored import Coder, Pixels

RECORDED = Path(__file__).parents[2] / "wm" / "cosmos" / "scope" / "data" / "kabq-1000.npz"
TINY = ("--coder-width", "8", "--reader-width", "8", "--width", "24", "--blocks", "1", "--heads", "2")
BATCHES = ("--coder-batch", "2", "--reader-batch", "2", "--batch", "2", "--steps", "2")


@pytest.fixture(scope="module")
def hour():
    return hours.load(RECORDED, "train")


def drawn(hour, off_px=(0.0, 0.0), missed=0, off_ft=0.0) -> Window:
    """A window of two pictures in which everyone is drawn off their place."""
    window = Window.of(hour, 1)
    for t in (2, 3):
        course = {}
        for key, (place, altitude) in true_place(hour, t).items():
            where = (place + off_px, np.zeros(2), altitude + off_ft)
            course[key] = Aircraft(np.zeros(8, int), *where, 0.0, 0.0, missed=missed)
        window.course.append(course)
        window.stray.append(1)
    return window


def test_errors_are_nautical_miles_and_feet_of_commanded_aircraft(hour):
    place, altitude, still, straight = scope_judge.errors([drawn(hour, (hour.px_per_nm, 0.0), 0, 300.0)], 2)
    assert place == pytest.approx([1.0] * len(place))
    assert altitude == pytest.approx([300.0] * len(place))
    assert len(place) == len(still) == len(straight) > 0
    assert max(still) < 4.0  # no aircraft flies farther in half a minute


def test_a_lost_aircraft_counts_ten_miles_and_a_hidden_one_does_not(hour):
    assert set(scope_judge.errors([drawn(hour, missed=2)], 2)[0]) == {10.0}
    assert set(scope_judge.errors([drawn(hour, missed=1)], 2)[0]) == {0.0}


def test_lost_and_invented_aircraft_are_counted(hour):
    count = len(true_place(hour, 3))
    assert scope_judge.astray([drawn(hour)], 2) == [(1, count)]
    assert scope_judge.astray([drawn(hour, missed=2)], 2) == [(count + 1, count)]


def test_a_number_that_the_reader_is_sure_of_may_be_wrong(hour):
    window = drawn(hour)
    for column in np.flatnonzero(hour.in_view[3]):
        key, speed = int(hour.column("id")[3, column]), float(hour.column("ground_speed_kt")[3, column])
        sure = {"readable": True, "speed_kt": np.floor(speed / 10 + 0.5) * 10}
        window.course[1][key] = dataclasses.replace(window.course[1][key], **sure)
    found = scope_judge.legible([window], 2)
    assert len(found) > 2
    assert set(found) == {(True, True)}
    for key, one in window.course[1].items():
        window.course[1][key] = dataclasses.replace(one, altitude_ft=one.altitude_ft + 100.0)
    assert set(scope_judge.legible([window], 2)) == {(True, False)}
    assert set(scope_judge.legible([drawn(hour)], 2)) == {(False, False)}


def test_a_landing_counts_where_it_is_found_within_a_picture():
    rows = scope_judge.hits({1: 10, 2: 20, 4: 5}, {1: 11, 2: 22, 3: 7})
    assert rows == [(2, 2), (0, 2), (0, 1), (0, 1)]
    assert scope_judge.ratio(np.asarray(rows)) == pytest.approx(2 / 6)  # 1 right, 3 found, 3 true


def test_equal_pictures_are_alike_and_others_are_not():
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    assert film.ssim_map(one, one) == pytest.approx(np.ones((32, 32)))
    # Of a constant difference only the means differ: (2 a b + c) / (a² + b² + c).
    flat = [np.full((32, 32, 3), value, np.uint8) for value in (100, 200)]
    assert film.ssim_map(*flat) == pytest.approx(np.full((32, 32), 40006.5025 / 50006.5025), abs=1e-4)


def test_a_ratio_is_of_sums():
    assert scope_judge.ratio(np.asarray([[1.0, 2.0], [5.0, 2.0]])) == 1.5


@pytest.mark.slow
def test_all_stages_and_the_judge(hour, tmp_path, capsys):
    small = dataclasses.replace(hour, pictures=hour.pictures[:, 128:384, 128:384])
    for use, seeds in (("train", (0, 1)), ("test", (600_000,))):
        (tmp_path / use).mkdir()
        for seed in seeds:
            hours.save(tmp_path / use / f"kabq-{seed}.npz", dataclasses.replace(small, seed=seed))
    run = tmp_path / "run"
    scope_train.main(["--data", f"{tmp_path}/train", "--out", str(run), *TINY, *BATCHES])
    scope_train.main(["--data", f"{tmp_path}/train", "--out", str(run), *TINY, *BATCHES])
    assert capsys.readouterr().out.count("is there already") == 4
    coder = Coder.load(run / "coder")
    assert coder.airports == ("kabq",)
    with pytest.raises(ScopeError, match="never seen klas, only kabq"):
        coder.number("klas")
    with pytest.raises(ScopeError, match="another palette"):
        coder.check(hour)
    assert Pixels.load(run / "model", coder).config.side == 32
    few = ["--pictures", "4", "--windows", "1", "--batch", "1", "--sampler-steps", "1"]
    judged = ["--out", f"{tmp_path}/judged", *few]
    hours_of_six = dataclasses.replace(small, seed=600_000)
    hours.save(tmp_path / "test" / "kabq-600000.npz", hours_of_six)
    scope_judge.main(["--run", str(run), "--data", f"{tmp_path}/test", *judged])
    figures = json.loads((tmp_path / "judged" / "results.json").read_text())["figures"]
    assert {"reader_recall", "reader_false", "lost_60s", "numbers_right_60s"} <= set(figures)
    assert {"psnr_60s", "ssim_aircraft_60s"} <= set(figures)
    assert (tmp_path / "judged" / "drawn.png").exists()
    assert (tmp_path / "judged" / "drawn.mp4").exists()


def test_a_stage_that_was_stopped_goes_on_to_the_bit(hour, tmp_path, monkeypatch, capsys):
    small = dataclasses.replace(hour, pictures=hour.pictures[:, 192:320, 192:320])
    (tmp_path / "train").mkdir()
    for seed in (0, 1):
        hours.save(tmp_path / "train" / f"kabq-{seed}.npz", dataclasses.replace(small, seed=seed))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = ["--data", f"{tmp_path}/train", *TINY, *BATCHES, "--steps", "5"]
    scope_train.main([*command, "--out", str(whole), "--stages", "coder", "latents", "model"])
    parts.mkdir()
    shutil.copytree(whole / "coder", parts / "coder")
    shutil.copy(whole / "latents.npy", parts)
    command += ["--out", str(parts), "--stages", "model"]
    saves = scope_train.Pace.saves
    monkeypatch.setattr(scope_train.Pace, "saves", lambda pace: signal.raise_signal(signal.SIGTERM) or False)
    with pytest.raises(SystemExit) as stopped:
        scope_train.main(command)
    monkeypatch.setattr(scope_train.Pace, "saves", saves)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert "1 of 5 steps are saved" in capsys.readouterr().err
    scope_train.main(command)
    coder = Coder.load(whole / "coder")
    one, other = (Pixels.load(folder / "model", coder).params for folder in (whole, parts))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))
    log = (parts / "training" / "model" / "metrics.jsonl").read_text()
    last = json.loads(log.splitlines()[-1])
    assert last["step"] == 5
    assert {"loss", "exchanged_loss_ratio"} <= set(last)
    shutil.rmtree(parts / "model")
    with pytest.raises(SystemExit):
        scope_train.main([*command, "--width", "48"])
    assert "a run with width = 24, this command has 48" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "wrong", "message"),
    [
        (ScopeTrain, {"shortcut_share": 1.0}, "shortcut_share is 1.0"),
        (ScopeTrain, {"coder_minutes": 0.0}, "coder_minutes is 0.0"),
        (ScopeJudge, {"pictures": 3}, "pictures is 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(config, wrong, message):
    needed = {"run": Path("r")} if config is ScopeJudge else {}
    with pytest.raises(ValueError, match=message):
        config(data=Path("d"), out=Path("o"), **needed, **wrong)
