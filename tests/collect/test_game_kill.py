"""A recording's ledger notices every episode that is lost or changed; a killed recording goes on."""

import json

import episodes
import pytest

from collect import store
from configs.game_checks import Kill
from launch import check_game
from launch.game import kill as game_kill


@pytest.fixture
def recording(tmp_path, stored_answer, static):
    """Two workers' directories with three episodes, and the ledger of them."""
    for worker, seeds in (("a", (1, 2)), ("b", (3,))):
        made = [episodes.example(stored_answer("kabq_start"), static, seed) for seed in seeds]
        episodes.write(tmp_path / worker, made)
    ledger = {}
    game_kill.acknowledge(tmp_path, ledger)
    return tmp_path, ledger


def test_whole_recordings_lose_nothing(recording):
    out, ledger = recording
    assert len(ledger) == 3
    found = game_kill.look(out, ledger)
    assert (found["acknowledged"], found["readable"]) == (3, 3)
    assert found["lost"] == found["faults"] == found["half_done"] == []


def test_episodes_that_came_later_join_the_ledger(recording, stored_answer, static):
    out, ledger = recording
    episodes.write(out / "b", [episodes.example(stored_answer("kabq_start"), static, 4)])
    found = game_kill.look(out, ledger)
    assert found["acknowledged"] == len(ledger) == 4
    assert found["lost"] == []


def remove(path):
    path.unlink()


def change(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def forget(path):
    (path.parent / "dataset_info.json").unlink()


@pytest.mark.parametrize("damage", [remove, change, forget])
def test_lost_and_changed_episodes_are_named(recording, damage):
    out, ledger = recording
    path = store.shards(out / "b")[0]
    damage(path)
    assert game_kill.look(out, ledger)["lost"] == [str(path.relative_to(out))]


def test_what_a_kill_interrupted_is_told(recording):
    out, ledger = recording
    (out / "b" / "openscope-train.array_record-00001").write_bytes(b"cut short")
    (out / "a" / ".metadata-x").mkdir()
    found = game_kill.look(out, ledger)
    assert sorted(found["half_done"]) == [".metadata-x", "openscope-train.array_record-00001"]
    assert found["lost"] == found["faults"] == []


def test_verdict():
    good = {"acknowledged": 2, "readable": 2, "lost": [], "faults": [], "half_done": []}
    rows = [{"kill": 1, **good, "acknowledged": 0, "readable": 0}, {"kill": 2, **good, "half_done": ["x"]}]
    end = {**good, "status": 0, "validate_status": 0, "episodes": 5}
    figures = game_kill.figures(rows, 0)
    assert {name: (f.value, f.n) for name, f in figures.items()} == {
        "episodes_lost": (0, 2),
        "kills_after_an_acknowledged_episode": (1, 2),
        "kills_inside_a_store": (1, 2),
    }
    assert game_kill.faults(rows, end, Kill(episodes=5)) == []
    bad = {"kill": 3, **good, "readable": 1, "lost": ["a/0"], "faults": ["a/0: is torn"]}
    end |= {"status": 1, "validate_status": 1}
    assert len(game_kill.faults([*rows, bad], end, Kill(episodes=5))) == 5


@pytest.mark.openscope
@pytest.mark.slow
def test_a_killed_recording_goes_on(tmp_path):
    out = tmp_path / "out"
    arguments = ["--kills", "1", "--episodes", "6", "--minutes", "1", "--workers", "1", "--policy", "noop"]
    check_game.main(["kill", "--out", str(out), "--window-s", "0.5", *arguments])
    results = json.loads((out / "results.json").read_text())
    assert results["faults"] == results["lost"] == []
    assert results["kills"][0]["acknowledged"] >= 1
    assert results["end"]["episodes"] == results["end"]["readable"] == 6
    with pytest.raises(SystemExit, match="1"):
        check_game.main(["kill", "--out", str(out), *arguments])
