"""Training commands that are killed go on to the same end; the check that says so sees where they don't."""

import json
import random

import numpy as np
import pytest

from configs.training_checks import TrainingCheck
from launch import check_training
from launch.check_training import PRODUCTS, Trial
from wm.store import checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("command", PRODUCTS)
def test_a_command_survives_one_kill_of_each_kind(tmp_path, command):
    config = TrainingCheck(commands=(command,), kills=2, out=tmp_path / "check")
    assert check_training.check(config, config.out) == []
    results = json.loads((config.out / "results.json").read_text())
    assert {kill["signal"] for kill in results["kills"]} == {"SIGTERM", "SIGKILL"}
    lost = results["figures"]["training_kills_lost"]
    assert (lost["value"], lost["n"]) == (0, 2)


def test_a_difference_of_one_bit_is_seen(tmp_path):
    trial = Trial("train_ppo", tmp_path, random.Random(0))
    for out in (tmp_path / "whole", trial.out):
        for part in ("resume", "policy"):
            other = (out.name, part) == ("whole", "policy")
            last = np.nextafter(np.float32(2), 0) if other else np.float32(2)
            checkpoints.save(out / part, 4, {"weights": np.array([1.0, last], np.float32)}, {})
    assert trial.differences() == ["policy/weights differs after kills"]


def test_a_checkpoint_that_a_kill_takes_away_is_seen(tmp_path):
    trial = Trial("train_ppo", tmp_path, random.Random(0))
    checkpoints.save(trial.out / "resume", 4, {"x": np.float32(1)}, {})
    trial._killed(1, check_training.signal.SIGKILL, -9, 0.0, before=6)
    assert trial.faults == ["train_ppo, kill 1: step 6 was saved and is lost"]


def test_a_record_takes_the_whole_check():
    with pytest.raises(ValueError, match="record takes ten kills of every command"):
        TrainingCheck(kills=2, record="recorder")
