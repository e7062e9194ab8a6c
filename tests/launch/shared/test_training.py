"""What training commands share: the run folder, the checkpoint at a signal, sizes for other devices."""

import os
import signal

import numpy as np
import pytest

from launch.shared import training
from launch.shared.training import Stopped, TrainingError
from wm.store import checkpoints

RECORD = {"lr": 0.1, "net": {"width": 4, "depth": 2}}


def train(out, until=6, record=RECORD, every=2, sent=None):
    """Counts to `until`; `sent` are signals that come in its fourth step."""
    with training.hold(out, record, until, "step") as folder:
        count = int(folder.restore({"n": np.int32(0)})["n"]) if folder.begun else 0
        with folder.log(lambda line: line["step"] <= folder.done, "lower it") as log:
            for step in range(folder.done + 1, until + 1):
                count += 1
                log.write({"step": step, "loss": 1.0 / step})
                if step == 4:
                    for number in sent or ():
                        os.kill(os.getpid(), number)
                folder.checkpoint(
                    step, step % every == 0, lambda s=step, n=count: folder.save(s, {"n": np.int32(n)}, {})
                )
        return count, [line["step"] for line in folder.lines()]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, number, status, capsys):
    said = r"^stopped: 4 of 6 steps are saved in .*; the same command goes on$"
    with pytest.raises(Stopped, match=said) as stop:
        train(tmp_path / "run", every=100, sent=[number])
    assert stop.value.status == status
    assert checkpoints.latest_step(tmp_path / "run" / "resume") == 4
    assert train(tmp_path / "run", every=100) == (6, [1, 2, 3, 4, 5, 6])
    assert "goes on after 4 of 6 steps" in capsys.readouterr().err


def test_a_stopped_command_ends_with_its_status_and_one_line(capsys):
    with pytest.raises(SystemExit) as ended, training.ends():
        raise Stopped("stopped: 4 of 6 steps are saved in x; the same command goes on", 143)
    assert ended.value.code == 143
    assert capsys.readouterr().err.count("\n") == 1


def test_a_second_signal_ends_at_once_and_the_first_handler_is_back_afterwards(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", sent=[signal.SIGINT, signal.SIGINT])
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoints.latest_step(tmp_path / "run" / "resume") == 2
    assert train(tmp_path / "run") == (6, [1, 2, 3, 4, 5, 6])


def test_a_signal_in_the_last_step_does_not_keep_it_from_its_end(tmp_path):
    assert train(tmp_path / "run", until=4, sent=[signal.SIGTERM]) == (4, [1, 2, 3, 4])


def test_another_configuration_is_refused_by_its_first_difference(tmp_path):
    train(tmp_path / "run")
    other = {"lr": 0.1, "net": {"width": 8, "depth": 3}}
    message = "holds a run with net.width = 4, this command has 8: use the same, or another --out$"
    with pytest.raises(TrainingError, match=message):
        train(tmp_path / "run", record=other)
    with pytest.raises(TrainingError, match=r"a run with net.depth = 2, this command has nothing"):
        train(tmp_path / "run", record={"lr": 0.1, "net": {"width": 4}})


def test_what_is_not_a_number_names_metric_and_step(tmp_path):
    with (
        training.hold(tmp_path / "run", RECORD, 1, "step") as folder,
        folder.log(lambda line: True, "lower it") as log,
        pytest.raises(TrainingError, match=r"^loss is nan in step 3: lower it$"),
    ):
        log.write({"step": 3, "loss": float("nan")})


def test_devices_share_what_the_run_began_with(tmp_path, capsys):
    assert training.per_device(tmp_path, 4, 3, "rows") == 4  # a new run: as asked for
    checkpoints.save(tmp_path / "resume", 1, {"x": np.int32(0)}, {}, {training.ALL_DEVICES: 24})
    assert training.per_device(tmp_path, 4, 6, "rows") == 4
    assert capsys.readouterr().err == ""
    assert training.per_device(tmp_path, 4, 3, "rows") == 8
    assert "has 24 rows; each of the 3 devices here takes 8 of them" in capsys.readouterr().err
    with pytest.raises(TrainingError, match=r"shares 24 rows .* which 5 can't: use 4 or 6 \(--devices\)"):
        training.per_device(tmp_path, 4, 5, "rows")
    with pytest.raises(TrainingError, match=r"which 8 can't: use 6 \(--devices\)"):
        training.per_device(tmp_path, 4, 8, "rows", fits=lambda size: size % 4 == 0)


def test_a_folder_is_replaced_when_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "model"

    def write(text, fails=False):
        def make(path):
            path.mkdir()
            (path / "a").write_text(text)
            if fails:
                raise KeyboardInterrupt

        return make

    running = training.Folder(tmp_path, {}, 10, "step", 5, [])
    running.product("model", write("one"))
    with pytest.raises(KeyboardInterrupt):
        running.product("model", write("half", fails=True))
    assert (folder / "a").read_text() == "one"
    running.product("model", write("two"))
    assert (folder / "a").read_text() == "two"
    finished = training.Folder(tmp_path, {}, 10, "step", 10, [])
    finished.product("model", write("three"))
    assert (folder / "a").read_text() == "two"  # other runs know it by its content
    (folder / "a").unlink()
    folder.rmdir()
    finished.product("model", write("three"))
    assert (folder / "a").read_text() == "three"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
