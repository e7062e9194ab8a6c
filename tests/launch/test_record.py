"""The command that records: what it plays, how it shares the work out, and how it ends."""

import errno
import fcntl
import os
import queue
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from collect import dataset, store
from collect.validate import validate
from configs import cli
from configs.recording import PLANS, RecordingConfig, Wind
from launch.record import CPU_ONLY, Stopped, jobs_of, main, root_of, terminate, watch
from launch.shared import runs

ROOT = Path(__file__).parents[2]


def planned(*argv):
    return cli.parse_preset(RecordingConfig, PLANS, argv, "plan")


def report_of(directory):
    *_, report = validate(directory)
    return report


def command(out, *options) -> list[str]:
    return [sys.executable, "-m", "launch.record", "--out", str(out), "--policies", "noop", *options]


@pytest.mark.openscope
@pytest.mark.slow
def test_killed_recordings_go_on(tmp_path):
    """kill -9 of the parent alone, whose workers must notice; launch.check_game kills them all, and often."""
    options = ["--episodes", "8", "--minutes", "10", "--workers", "2"]
    moments, stored = random.Random(0), 0
    for _ in range(2):
        process = subprocess.Popen(command(tmp_path, *options), cwd=ROOT, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(5, 40))
        process.kill()
        process.wait()
        if not store.written_directories(tmp_path):
            continue
        report = report_of(tmp_path)
        assert [f"{finding.path}: {finding.text}" for finding in report.faults] == []
        assert report.episodes >= stored
        stored = report.episodes
    final = subprocess.run(command(tmp_path, *options), cwd=ROOT, capture_output=True, text=True)
    assert final.returncode == 0, final.stderr
    assert "8 of 8 episodes" in final.stdout
    assert report_of(tmp_path).episodes == 8
    assert report_of(tmp_path).faults == []


@pytest.mark.openscope
@pytest.mark.slow
def test_sigterm_says_what_is_stored(tmp_path):
    process = subprocess.Popen(
        command(tmp_path, "--episodes", "40", "--minutes", "60"),
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None and not store.written_directories(tmp_path):
        time.sleep(0.1)  # until a worker records
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "of 40 episodes are stored" in text
    assert "goes on" in text


def test_a_second_sigterm_does_not_interrupt_the_end():
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            terminate(signal.SIGTERM, None)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_wrong_configuration_is_one_line():
    process = subprocess.run(
        [sys.executable, "-m", "launch.record", "--episodes", "0"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 2
    assert "episodes is 0, must be at least 1" in process.stderr
    assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"traffic": (1.2,)}, "steps of 0.5"),
        ({"minutes": 0.01}, "multiple of 5 seconds"),
        ({"airports": ()}, "airports is empty"),
        ({"pictures": 3}, "must be 1, 2, 5 or 10"),
        ({"picture_px": 4}, "must be 64 to 4096"),
        ({"pages": 0}, "pages is 0"),
        ({"first_seed": 499_999, "episodes": 6}, "cross the border"),
        ({"first_seed": 700_000}, "within 0 to 699999"),
    ],
)
def test_configurations_that_cannot_be_recorded(wrong, text):
    with pytest.raises(ValueError, match=text):
        RecordingConfig(**wrong)
    with pytest.raises(ValueError, match="steps of 10"):
        Wind(95, 5)


def test_episodes_mix_airports_policies_traffic_and_wind():
    config = RecordingConfig(
        episodes=48,
        first_seed=10,
        policies=("noop", "expert"),
        traffic=(1.0, 1.5),
        winds=(None, Wind(90, 10)),
    )
    jobs = list(jobs_of(config, {"noop": "a", "expert": "b"}))
    assert len({job.key for job in jobs}) == 48
    assert {job.seed for job in jobs} == set(range(10, 34))
    mixes = {(j.airport, j.policy, j.traffic, j.wind) for j in jobs}
    assert len(mixes) == 2 * 2 * 2 * 2


def test_the_plans_are_what_they_say():
    seed = planned("seed", "--minutes", "5", "--out", "elsewhere")
    assert (seed.minutes, seed.out, seed.picture_px) == (5.0, Path("elsewhere"), 512)
    jobs = list(jobs_of(seed, dict.fromkeys(seed.policies, "")))
    assert Counter(job.policy for job in jobs) == {"random": 50, "expert": 50}
    model = planned("world-model")
    jobs = list(jobs_of(model, dict.fromkeys(model.policies, "")))
    hours = Counter()
    for job in jobs:
        hours[job.airport] += job.episode_s / 3600
    assert len(hours) >= 12
    assert min(hours.values()) >= 50
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.traffic for job in jobs} == {0.5, 1.0, 1.5}
    for icao in hours:  # every airport meets every policy, rate and nearly every wind
        own = [job for job in jobs if job.airport == icao]
        assert {job.policy for job in own} == set(model.policies)
        assert {job.traffic for job in own} == set(model.traffic)
        assert len({job.wind for job in own}) >= 8


def test_an_unknown_plan_names_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        planned("sead")
    assert "plan 'sead' must be one of seed, world-model" in capsys.readouterr().err


def test_tasks_of_an_array_share_the_episodes_and_write_apart(tmp_path):
    config = RecordingConfig(out=tmp_path, episodes=10, share=(1, 3))
    assert root_of(config) == tmp_path / "task-001"
    assert root_of(RecordingConfig(out=tmp_path)) == tmp_path
    script = (ROOT / "launch" / "slurm" / "record.sbatch").read_text()
    assert '--share "${SLURM_ARRAY_TASK_ID}" "${SLURM_ARRAY_TASK_COUNT}"' in script
    with pytest.raises(ValueError, match="share is"):
        RecordingConfig(share=(3, 3))


@pytest.mark.openscope
@pytest.mark.slow
def test_two_tasks_record_all_episodes_once(tmp_path):
    for task in ("0", "1"):
        options = ["--episodes", "3", "--minutes", "0.5", "--airports", "kabq", "--share", task, "2"]
        done = subprocess.run(command(tmp_path, *options), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in store.find_directories(tmp_path)} == {"task-000", "task-001"}
    assert report_of(tmp_path).episodes == 3
    assert report_of(tmp_path).faults == []
    assert sorted(episode.seed for episode in dataset.load(tmp_path)) == [0, 1, 2]


@pytest.mark.openscope
@pytest.mark.slow
def test_two_pages_of_a_worker_record_into_one_directory(tmp_path):
    options = ["--episodes", "4", "--minutes", "0.5", "--airports", "kabq", "--pages", "2"]
    done = subprocess.run(command(tmp_path, *options), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in store.find_directories(tmp_path)] == ["worker-000"]
    assert report_of(tmp_path).episodes == 4
    assert report_of(tmp_path).faults == []


def test_seeds_that_were_left_out_are_counted(capsys):
    reports = queue.Queue()
    for report in [("step", 1), ("refused", "no such fleet"), ("episode", "key"), ("done", None)]:
        reports.put(report)
    with runs.progress(24, "decision") as line:
        assert watch([None], reports, line, total=2) == 1
        assert line.total == 12
    assert "note: no such fleet; its episode is left out" in capsys.readouterr().err


def test_where_the_server_leads_to_is_said_once(capsys):
    reports = queue.Queue()
    for report in [("moved", "http://there/"), ("moved", "http://there/"), ("done", None), ("done", None)]:
        reports.put(report)
    with runs.progress(24, "decision") as line:
        assert watch([None, None], reports, line, total=2) == 0
    assert capsys.readouterr().err.count("note: the server leads to http://there/, which is played") == 1


@pytest.mark.parametrize(("kind", "goes_on"), [("error", True), ("unfit", False)])
def test_what_the_same_command_cannot_mend_is_told_apart(kind, goes_on):
    reports = queue.Queue()
    reports.put((kind, "why"))
    with runs.progress(24, "decision") as line, pytest.raises(Stopped, match="why") as stopped:
        watch([None], reports, line, total=2)
    assert stopped.value.goes_on is goes_on


def last_words(done: subprocess.CompletedProcess) -> str:
    """The one line that a recording ended with; its progress line aside."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("error:")]
    return line


def test_a_folder_that_cannot_be_made_is_one_line():
    done = subprocess.run(command("/sys/recordings"), cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.startswith("error: /sys/recordings: ")
    assert "goes on" not in last_words(done)


def test_a_folder_of_another_layout_is_not_promised_to_go_on(tmp_path):
    with store.EpisodeWriter(tmp_path / "worker-000", picture_px=64) as writer:
        writer._write_splits_metadata()
    done = subprocess.run(command(tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert "worker-000 holds recordings of another layout" in last_words(done)
    assert "goes on" not in last_words(done)


def test_a_file_system_without_locks_is_said_before_anything_starts(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(sys, "argv", command(tmp_path, "--episodes", "2")[2:])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in CPU_ONLY:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    with pytest.raises(SystemExit, match="1"):
        main()
    said = capsys.readouterr().err
    assert said.startswith(f"error: the file system of {tmp_path}/worker-000 does not lock files (")
    assert "goes on" not in said
    assert len(said.splitlines()) == 1
