"""A disk that is full while an export is written: one line that names it, and nothing half done stays."""

import numpy as np
import pytest

from launch import export as command
from launch.faults.models import random_leaves
from launch.faults.spoil import largest_file
from launch.faults.subjects import SHIPPED
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.weights import export, models
from wm.cosmos.weights.sources import WeightsError
from wm.store import checkpoints


def test_no_film_that_was_cut_short_is_kept(tmp_path):
    config = command.Video(SHIPPED / "clips", tmp_path)
    with (
        largest_file(1000),
        pytest.raises(OSError, match=r"mp4 could not be written whole: is the disk full\?"),
    ):
        command.video(config)
    assert list(tmp_path.iterdir()) == []
    command.video(config)
    assert len(list(tmp_path.glob("*.mp4"))) == 2


def test_no_packed_episode_that_was_cut_short_is_kept(tmp_path):
    config = command.Pack(SHIPPED / "clips", tmp_path)
    with largest_file(1000), pytest.raises(OSError, match=r"is the disk full\?.*\.episode"):
        command.pack(config)
    assert list(tmp_path.iterdir()) == []


def test_no_exported_weights_that_were_cut_short_are_kept(tmp_path):
    config = PRESETS["tiny"]
    model = models.Model(config, models.tree_of(random_leaves(config)), None, {})
    with largest_file(3000), pytest.raises(WeightsError, match="File too large"):
        export.export(tmp_path / "out", model)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_does_not_fit_leaves_the_step_before(tmp_path):
    checkpoints.save(tmp_path, 1, {"w": np.ones(3, np.float32)}, {})
    with (
        largest_file(100),
        pytest.raises(checkpoints.CheckpointError, match="what was saved before is as it was"),
    ):
        checkpoints.save(tmp_path, 2, {"w": np.ones(3, np.float32)}, {})
    assert checkpoints.latest_step(tmp_path) == 1
