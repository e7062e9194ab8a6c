"""The checks of the real game find what they look for, and find it missing where it is."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from collect import GameError
from collect.store import COLLECTOR_VERSION
from configs.game_checks import Kill, Replay, Speed, Timing
from launch import check_game
from launch.game import replay as game_replay
from launch.game import speed as game_speed
from launch.game import timing as game_timing
from launch.game.hours import BusyPage, Hour, first_difference
from launch.shared import processes, records

PARTS = ("aircraft", "substeps", "log")


def hour(commands, states) -> Hour:
    """An hour whose state after each decision is a string per part."""
    digests = tuple(dict(zip(PARTS, state, strict=True)) for state in states)
    return Hour((), tuple(commands), digests, (3,) * len(states))


COMMANDS = (None, "AAL1 fh 010", "AAL2 a 80", "AAL2 fh 350", "AAL1 dct ABQ", "AAL2 a 80")
STATES = ["abc", "dbc", "ebc", "fbc", "gbc", "hbc", "ibc"]


@pytest.fixture(autouse=True)
def a_minute_is_one_decision(monkeypatch):
    monkeypatch.setattr(game_replay, "UNDISTURBED", 1)


def test_the_middle_heading_is_changed_and_nothing_else():
    changed, at = game_replay.with_one_change(COMMANDS)
    assert at == 3
    assert changed == (*COMMANDS[:3], "AAL2 fh 020", *COMMANDS[4:])
    later = ("AAL1 fh 330", None, "AAL1 a 80")
    assert game_replay.with_one_change(later) == (("AAL1 fh 360", *later[1:]), 0)


@pytest.mark.parametrize(
    "commands",
    [
        ("AAL1 fh 330", "AAL1 a 80"),  # corrected at once
        ("AAL1 fh 330", None, "AAL2 a 80"),  # the last one: the aircraft may have left
        (None, "AAL2 a 80", None, "AAL2 sp 180"),
    ],
)
def test_a_heading_that_may_leave_no_trace_is_not_changed(commands):
    with pytest.raises(ValueError, match="no lasting heading"):
        game_replay.with_one_change(commands)


def test_fingerprints_and_first_differences():
    one = hour(COMMANDS, STATES)
    assert first_difference(one, hour(COMMANDS, STATES)) is None
    assert one.fingerprint == hour(COMMANDS, STATES).fingerprint
    other = hour(COMMANDS, [*STATES[:4], "gbx", "hyz", "ibc"])
    assert first_difference(one, other) == {"decision": 4, "parts": ["log"]}
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint != hour(COMMANDS, [*STATES[:5], STATES[6], STATES[5]]).fingerprint


def test_only_equal_hours_repeat_and_only_moved_aircraft_differ():
    one = hour(COMMANDS, STATES)
    moved = hour(COMMANDS, [*STATES[:4], "Gbc", "HBc", "IBc"])
    rows = [
        {"airport": "kabq", "seed": 1, **game_replay.verdict(one, hour(COMMANDS, STATES), one, moved)},
        {"airport": "kabq", "seed": 2, **game_replay.verdict(one, moved, moved, moved)},
    ]
    good, both = (game_replay.figures(some) for some in (rows[:1], rows))
    assert (good["replay_identical"].value, both["replay_identical"].value) == (1, 0)
    assert good["replay_changed_command_differs"].value == both["replay_changed_command_differs"].value == 1
    assert both["replay_identical"].n == 2
    assert (good["replay_plain_identical"].value, both["replay_plain_identical"].value) == (1, 0)
    assert game_replay.faults(rows) == [
        "kabq seed 2 again differs from decision 4 on in aircraft",
        "kabq seed 2 without the shortcuts differs from decision 4 on in aircraft",
    ]


@pytest.mark.parametrize(
    "states",
    [
        STATES,  # nothing differs
        [*STATES[:4], "gbx", "hbx", "ibx"],  # the log alone
        [*STATES[:3], "FBc", "GBc", "HBc", "IBc"],  # before the command
        [*STATES[:4], "Gbc", "hbc", "ibc"],  # a heading that nobody flew
    ],
)
def test_a_changed_command_must_move_aircraft_from_then_on(states):
    one = hour(COMMANDS, STATES)
    row = {"airport": "kabq", "seed": 1, **game_replay.verdict(one, one, one, hour(COMMANDS, states))}
    assert game_replay.figures([row])["replay_changed_command_differs"].value == 0
    assert "does not differ as it should with 'AAL2 fh 020'" in game_replay.faults([row])[0]


def test_speed_is_decisions_over_time_and_wrong_hours_are_named():
    config = Speed(airport="KLAS", window=10)
    ways = list(game_speed.WAYS.values())
    rows = [
        {
            **{"seed": 1, "way": way, "decisions": 20, "wall_s": 0.8 * (i + 1), "same_end": way != ways[2]},
            **{"window_s": [0.2 * (i + 1), 0.6 * (i + 1)], "cpu_s": {"page": 0.6, "driver": 0.2}},
        }
        for i, way in enumerate(ways)
    ]
    rows.append({"seed": 1, "way": game_speed.TWO_PAGES, "decisions": 40, "wall_s": 1.0, "same_end": True})
    rows.append({"seed": 1, "way": game_speed.TWO_WORKERS, "decisions": 40, "wall_s": 0.9, "same_end": True})
    figures = game_speed.figures(rows, config)
    assert figures["decisions_per_s_klas"].value == pytest.approx(20 / 0.8)
    assert figures["decisions_per_s_klas_frames"].value == pytest.approx(20 / 1.6)
    assert figures["decisions_per_s_klas"].low == pytest.approx(10 / 0.6)
    assert figures["decisions_per_s_klas_environment"].n == 2
    assert figures["decision_cpu_ms_page_frames"].value == pytest.approx(30.0)
    assert figures["pages_2_speedup"].value == pytest.approx(1.6)
    assert figures["workers_2_speedup"].value == pytest.approx(1.6 / 0.9)
    (fault,) = game_speed.faults(rows)
    assert "seed 1, state, without shortcuts" in fault


BUSY = "import os, subprocess, sys; os.sched_setaffinity(0, {{{core}}}); {then}"


def test_a_family_s_cores_and_processor_time():
    core = min(os.sched_getaffinity(0))
    child = BUSY.format(core=core, then="print(1, flush=True)\nwhile True: pass")
    parent = BUSY.format(core=core, then=f"subprocess.run([sys.executable, '-c', {child!r}])")
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # the child is running
            members = [int(folder.name) for folder in processes.family(process.pid)]
            assert len(members) == 2
            assert process.pid in members
            assert processes.allowed_cores(process.pid) == {core}
            other = max(os.sched_getaffinity(0))
            processes.bind(process.pid, other)
            assert processes.allowed_cores(process.pid) == {other}
            before = processes.cpu_seconds(process.pid).total()
            while processes.cpu_seconds(process.pid).total() < before + 0.1:  # the child's; the parent waits
                pass
        finally:
            for member in members:
                os.kill(member, 9)


def episode(total, **changes) -> dict:
    wanted = {"page_score": total / 2, "landed": 3.0, "loss_game": 1.0, "overflow": 0, "wall_s": 9.0}
    wanted |= {"commands": 7, "delay_s": None}
    return {"return": {"total": total}, **wanted, **changes}


MAPPED = """
import mmap, sys
file = open(sys.argv[1], "rb")
mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
sum(mapped[::4096])
print("mapped", flush=True)
sys.stdin.readline()
held = bytearray(b"1") * 200_000_000
print("held", flush=True)
sys.stdin.readline()
"""


def test_memory_is_what_a_process_has_of_its_own(tmp_path):
    library = tmp_path / "library"
    library.write_bytes(bytes(50_000_000))
    command = [sys.executable, "-c", MAPPED, str(library)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "mapped\n"
        alone = processes.memory_mb(process.pid)["python"]
        with subprocess.Popen(command, **pipes) as neighbour:  # its share of the file halves the other's
            assert neighbour.stdout.readline() == "mapped\n"
            assert processes.memory_mb(process.pid)["python"] == pytest.approx(alone, abs=2.0)
            neighbour.communicate("\n\n")
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        # The kernel's kB are 1024 bytes; of 1000 it would be 195.
        assert processes.memory_mb(process.pid)["python"] == pytest.approx(alone + 200.0, abs=2.0)
        process.communicate("\n")


def test_timings_are_compared_on_seeds_valid_in_both():
    found = {
        "lock_step": {1: episode(10.0, delay_s=60.0), 2: episode(20.0), 3: episode(30.0)},
        "browser_timing": {1: episode(14.0, delay_s=90.0), 2: episode(26.0, landed=5.0)},
    }
    found["browser_timing"][3] = episode(0.0, overflow=1)
    rows = game_timing.compare(found)
    assert [row["seed"] for row in rows] == [1, 2]
    figures = game_timing.differences(rows, "noop_kabq")
    gain = figures["return_browser_timing_minus_lock_step_noop_kabq"]
    assert (gain.value, gain.low, gain.high, gain.n) == (5.0, 4.0, 6.0, 2)
    assert figures["game_score_browser_timing_minus_lock_step_noop_kabq"].value == 2.5
    assert figures["landings_browser_timing_minus_lock_step_noop_kabq"].value == 1.0
    delay = figures["delay_browser_timing_minus_lock_step_noop_kabq"]
    assert (delay.value, delay.n) == (30.0, 1)  # in the other hour nobody landed
    assert not any("delay" in name for name in game_timing.differences(rows[1:], "noop_kabq"))
    assert figures["loss_game_browser_timing_minus_lock_step_noop_kabq"].value == 0.0


@pytest.mark.parametrize(
    ("check", "wrong", "text"),
    [
        (Replay, {"hours": 0}, "hours is 0"),
        (Replay, {"airports": ()}, "airports is empty"),
        (Replay, {"record": "spine", "minutes": 5}, "only full hours"),
        (Speed, {"window": 721}, "at most 720"),
        (Kill, {"kills": 0}, "kills is 0"),
        (Timing, {"policies": ()}, "policies is empty"),
        (Timing, {"frames_per_s": 25}, "even number"),
        (Timing, {"record": "spine", "minutes": 5}, "only full hours"),
    ],
)
def test_checks_that_cannot_be_made(check, wrong, text):
    with pytest.raises(ValueError, match=text):
        check(**wrong)
    assert Kill(record="spine").minutes == 2  # whose episodes are short on purpose


def run(tmp_path, name, *arguments) -> dict:
    """Run a check; returns its results."""
    check_game.main([name, "--out", str(tmp_path / "out"), *map(str, arguments)])
    return json.loads((tmp_path / "out" / "results.json").read_text())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("replay", ["--policy", "noop", "--airports", "kabq"]),
        ("speed", ["--policy", "noop"]),
        ("timing", ["--policies", "noop"]),
        ("replay", ["--policy", "nobody"]),
        ("speed", ["--core", "4096"]),
    ],
)
def test_what_stops_a_check_is_said_in_one_line(tmp_path, capsys, monkeypatch, name, arguments):
    monkeypatch.chdir(tmp_path)  # where the cache would be
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path, name, "--url", "http://127.0.0.1:9", *arguments)
    assert stopped.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert any(text in line for text in ("not reachable", "policy 'nobody' must be", "core is 4096, must be"))


@pytest.mark.openscope
@pytest.mark.slow
def test_five_minutes_repeat_beside_a_busy_page(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "DIRECTORY", tmp_path)
    arguments = ["--airports", "kabq", "--hours", 1, "--minutes", 5, "--policy", "random"]
    results = run(tmp_path, "replay", *arguments)
    (row,) = results["hours"]
    assert row["decisions"] == 60
    assert row["commands"] > 10
    assert row["beside"] > 10
    assert row["fingerprint"] == row["fingerprint_again"] != row["fingerprint_changed"]
    assert results["figures"]["replay_identical"]["value"] == 1
    assert results["figures"]["replay_plain_identical"]["value"] == 1
    assert results["figures"]["replay_changed_command_differs"]["value"] == 1


@pytest.mark.openscope
def test_a_busy_page_that_stops_is_reported(browser_at_hand):
    page = BusyPage("http://127.0.0.1:9", "kabq", browser_at_hand)
    with pytest.raises(GameError, match="not reachable"), page:
        pass


@pytest.fixture
def browser_at_hand():
    from collect.browser import Browser

    with Browser() as browser:
        yield browser


@pytest.mark.openscope
@pytest.mark.slow
def test_speed_is_measured_on_one_core(tmp_path):
    core = max(os.sched_getaffinity(0))
    arguments = ["--airport", "kabq", "--hours", 1, "--minutes", 2, "--window", 12, "--policy", "random"]
    results = run(tmp_path, "speed", *arguments, "--core", core)
    assert os.sched_getaffinity(0) != {core} or len(os.sched_getaffinity(0)) == 1
    assert results["faults"] == []
    ways = [row["way"] for row in results["hours"]]
    assert ways == [*game_speed.WAYS.values(), game_speed.TWO_PAGES, game_speed.TWO_WORKERS]
    assert all(row["same_end"] for row in results["hours"])
    for row in results["hours"][:-2]:
        assert len(row["window_s"]) == 2
        assert np.sum(row["window_s"]) == pytest.approx(row["wall_s"], rel=0.05)
        assert {"page", "driver", "browser", "python"} <= set(row["cpu_s"])
        assert 0 < sum(row["cpu_s"].values()) < row["wall_s"] + 0.1  # one core
    assert results["figures"]["decisions_per_s_kabq"]["n"] == 2


@pytest.mark.openscope
def test_timings_are_kept_apart_and_resume(tmp_path, monkeypatch):
    arguments = ["--episodes", 1, "--minutes", 1, "--policies", "noop", "--cache", tmp_path / "cache"]
    results = run(tmp_path, "timing", *arguments)
    locked, timed = sorted(path.parts[-5] for path in (tmp_path / "cache").rglob("600000.json"))
    assert re.fullmatch(rf"real-v{COLLECTOR_VERSION}-[0-9a-f]{{8}}", locked)
    assert timed == f"{locked}-60-fps"
    assert len(results["pairs"]["noop"]) == 1
    monkeypatch.setenv("OPENSCOPE_URL", "http://127.0.0.1:9")
    again = run(tmp_path, "timing", *arguments)
    assert again["pairs"] == results["pairs"]


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Replay().hours = 3
