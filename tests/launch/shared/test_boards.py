"""What a run shows in TensorBoard and at Weights & Biases is what its metrics.jsonl holds."""

import sys

import numpy as np
import pytest

from launch.faults.spoil import largest_file
from launch.shared import boards, training
from tests.launch.shared import event_files


def train(run, total=4, until=None, project=None):
    """Losses of `total` steps, saved after every second; killed in the middle of step `until`."""
    with training.hold(run, {"lr": 0.1}, total, "step") as folder:
        with folder.log(lambda line: line["step"] <= folder.done, "lower it", project) as log:
            for step in range(folder.done + 1, total + 1):
                log.write({"step": step, "loss": 1.0 / step})
                if step == until:
                    raise KeyboardInterrupt
                folder.checkpoint(step, step % 2 == 0, lambda s=step: folder.save(s, {"n": np.int32(s)}, {}))
        return folder.lines()


def test_a_line_is_drawn_over_what_it_counts_by():
    line = {"phase": "ppo", "chunk": 1, "total_steps": 128, "train/kl": 0.5, "steps": 64}
    assert boards.point(line) == (128, {"train/kl": 0.5, "steps": 64.0})
    assert boards.point({"phase": "clone", "chunk": 2, "train/loss": 3.0}) == (2, {"clone/train/loss": 3.0})
    assert boards.point({"step": 7, "epoch": 1, "held_out/loss": 2.0}) == (7, {"held_out/loss": 2.0})


def test_a_run_that_goes_on_shows_no_step_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", until=3)
    assert [step for step, _ in event_files.read(tmp_path / "run")] == [1, 2, 3]
    lines = train(tmp_path / "run")
    shown = event_files.read(tmp_path / "run")
    assert [step for step, _ in shown] == [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [numbers["loss"] for _, numbers in shown] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])


def test_a_run_of_before_gets_its_event_file(tmp_path):
    lines = [{"step": step, "loss": float(step)} for step in range(3)]
    boards.Board(tmp_path, lines).close()
    assert event_files.read(tmp_path) == [(step, {"loss": float(step)}) for step in range(3)]


def test_a_full_disk_is_an_error_and_not_a_hang(tmp_path):
    board = boards.Board(tmp_path, ())
    for step in range(100):
        board.write({"step": step, "loss": 0.5})
    with largest_file(2000), pytest.raises(OSError, match="File too large"):
        board.close()
    board.close()  # with space again
    assert len(event_files.read(tmp_path)) == 100


def test_a_project_without_weights_and_biases_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as where it isn't installed
    message = r"^--wandb needs Weights & Biases: pip install wandb, or leave it out$"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", project="openscope")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.filterwarnings("ignore")  # of the library
def test_weights_and_biases_gets_every_line_of_both_starts(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs Weights & Biases: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    shown, original = [], wandb.sdk.wandb_run.Run.log

    def seen(run, numbers, step):
        shown.append((run.id, step))
        original(run, numbers, step=step)

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log", seen)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", until=3, project="openscope")
    train(tmp_path / "run", project="openscope")
    assert [step for _, step in shown] == [1, 2, 3, 3, 4]
    assert len({run_id for run_id, _ in shown}) == 1
    assert len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 2
