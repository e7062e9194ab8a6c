"""What is written is what is read, by us and by plain TFDS; damage and misuse are named."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import episodes
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from collect import dataset, layout, store
from collect.slots import aircraft_ids
from collect.snapshot import parse
from collect.validate import validate
from launch.faults.spoil import largest_file
from wm.sector import traffic as tr
from wm.store import lock


@pytest.fixture
def one(stored_answer, static):
    """A function that makes an episode of six decisions with a given seed."""
    return lambda seed=7: episodes.example(stored_answer("kabq_start"), static, seed)


def faults(directory, use=None) -> list[str]:
    *_, report = validate(directory, use)
    return [finding.text for finding in report.faults]


def test_an_episode_comes_back_as_it_was_but_for_the_stated_rounding(tmp_path, one, stored_answer):
    episodes.write(tmp_path, [one()])
    (episode,) = dataset.load(tmp_path)
    snapshot = parse(stored_answer("kabq_start"))
    original = tr.from_table(tr.Traffic, snapshot.aircraft)
    count = len(original.id)
    assert (episode.icao, episode.seed, episode.policy) == ("kabq", 7, "random")
    assert episode.scene.time_s.tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert (episode.scene.traffic.valid.sum(1) == count).all()
    for name in tr.schema(tr.Traffic):
        stored = getattr(episode.scene.traffic, name)[0, :count]
        step = layout.STEPS.get(name.rsplit("_", 1)[-1], 0.0)
        np.testing.assert_allclose(stored, getattr(original, name), rtol=0, atol=step / 2)
    assert episode.routes == list(snapshot.routes)
    assert episode.callsigns == snapshot.callsigns
    assert episode.score.tolist() == [0, 0, 0, 0, 10, 10, 10]
    assert episode.terms["score"].tolist() == [0, 0, 0, 10, 0, 0]
    assert episode.command == [f"step {t}" for t in range(6)]


def test_actions_and_events_name_the_aircraft_s_column(tmp_path, one, stored_answer):
    episodes.write(tmp_path, [one()])
    (episode,) = dataset.load(tmp_path)
    ids = aircraft_ids(parse(stored_answer("kabq_start")))
    # Slots are given in the reverse order of columns: slot t is the aircraft ids[-1 - t].
    assert episode.slot_action[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert episode.action[:, 0].tolist() == [len(ids) - 1 - t for t in range(6)]
    expected = (3, 2, tr.EVENT_NAMES.index("DEPARTURE"))
    assert [tuple(i) for i in np.argwhere(episode.events)] == [expected]


def test_a_noop_is_the_number_of_columns():
    slots = np.asarray([[0, -1, 1], [0, -1, 1]])
    action = np.asarray([[1, 2, 0, 0, 0], [2, 0, 0, 0, 0]])
    assert dataset.by_column(action, slots).tolist() == [[2, 2, 0, 0, 0], [3, 0, 0, 0, 0]]


def test_plain_tfds_reads_it_without_tensorflow(tmp_path, one):
    for name, seed in (("a", 1), ("b", 2)):
        episodes.write(tmp_path / name, [one(seed)])
    directories = [str(tmp_path / "a"), str(tmp_path / "b")]
    source = tfds.builder_from_directories(directories).as_data_source("train")
    assert [int(e["episode_metadata"]["seed"]) for e in source] == [1, 2]
    steps = list(source[1]["steps"])
    assert [bool(s["is_first"]) for s in steps] == [True] + [False] * 6
    assert steps[3]["reward"] == 10
    assert steps[0]["observation"]["traffic"]["x_nm"].shape == (128,)
    assert "tensorflow" not in sys.modules


def test_episodes_are_appended_and_known_by_their_keys(tmp_path, one):
    episodes.write(tmp_path, [one(1)])
    episodes.write(tmp_path, [one(2), one(3)])
    assert sorted(json.loads(key)["seed"] for key in store.stored_keys([tmp_path])) == [1, 2, 3]
    assert faults(tmp_path) == []


def test_one_writer_at_a_time(tmp_path):
    with store.EpisodeWriter(tmp_path):
        with pytest.raises(store.DataError, match="another process is recording"):
            store.EpisodeWriter(tmp_path)
        with pytest.raises(store.DataError, match="wait for it"):
            store.wait_until_free(tmp_path, 0.3)
    store.wait_until_free(tmp_path, 0.0)
    store.EpisodeWriter(tmp_path).close()


def test_a_folder_that_is_read_only_has_no_writer_to_wait_for(tmp_path, monkeypatch):
    def refuse(folder):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    monkeypatch.setattr(lock, "hold", refuse)
    store.wait_until_free(tmp_path, 60.0)


def test_folders_that_refuse_to_be_synced_are_written_all_the_same(tmp_path, one, monkeypatch):
    sync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    episodes.write(tmp_path, [one(1)])
    assert len(store.stored_keys([tmp_path])) == 1

    def refuse_all(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse_all)
    with pytest.raises(OSError, match="Input/output"):
        episodes.write(tmp_path, [one(2)])


def test_another_layout_is_not_mixed_in(tmp_path, one):
    episodes.write(tmp_path, [one()])
    with pytest.raises(store.DataError, match="another layout"):
        store.EpisodeWriter(tmp_path, picture_px=64)


@pytest.mark.parametrize(
    ("seed", "use", "owner"),
    [
        (500_000, "train", "select"),
        (600_000, "train", "test"),
        (650_000, "select", "test"),
        (3, "test", "train"),
    ],
)
def test_seeds_kept_for_something_else_are_refused(tmp_path, one, seed, use, owner):
    episodes.write(tmp_path, [one(seed)])
    with pytest.raises(store.DataError, match=f"seed {seed}, kept for {owner}"):
        list(dataset.load(tmp_path, use))
    assert len(list(dataset.load(tmp_path, owner))) == 1
    assert faults(tmp_path, use) != []


def test_too_few_columns_are_refused(tmp_path, one):
    episodes.write(tmp_path, [one()])
    with pytest.raises(store.DataError, match="columns=11 or more"):
        list(dataset.load(tmp_path, columns=10))
    (episode,) = dataset.load(tmp_path, columns=11)
    assert episode.scene.traffic.x_nm.shape == (7, 11)


def test_recordings_of_fewer_columns_say_the_same(tmp_path, one):
    episodes.write(tmp_path / "wide", [one()])
    episodes.write(tmp_path / "narrow", [episodes.narrow(one(8))], columns=64)
    assert faults(tmp_path / "narrow") == []
    for width in (None, 64, 128):
        narrow, wide = dataset.load(tmp_path, columns=width)
        assert narrow.slots.shape == wide.slots.shape == (7, width or 64)
        jax.tree.map(np.testing.assert_array_equal, narrow.scene, wide.scene)
        for name in ("action", "events", "slots", "command"):
            np.testing.assert_array_equal(getattr(narrow, name), getattr(wide, name))


def test_an_episode_is_as_wide_as_its_aircraft_need(tmp_path, one):
    example = one()
    for step in example["steps"]:
        traffic, slots = step["observation"]["traffic"], step["observation"]["slots"]
        for column in (*traffic.values(), slots):
            column[100] = column[0]
        traffic["id"][100], slots[100] = 999, -1
    episodes.write(tmp_path / "full", [example])
    episodes.write(tmp_path / "empty", [one(8)])
    empty, full = dataset.load(tmp_path)
    assert (empty.slots.shape[1], full.slots.shape[1]) == (64, 128)
    assert (full.scene.traffic.id[:, 100] == 999).all()
    wide = dataset.widened(empty, 128)
    (expected,) = dataset.load(tmp_path / "empty", columns=128)
    jax.tree.map(np.testing.assert_array_equal, wide.scene, expected.scene)
    for name in ("action", "events", "slots"):
        np.testing.assert_array_equal(getattr(wide, name), getattr(expected, name))


def test_recordings_of_another_width_are_not_mixed_in(tmp_path, one):
    episodes.write(tmp_path, [episodes.narrow(one())], columns=64)
    with pytest.raises(store.DataError, match=r"number of aircraft\): record into a new directory"):
        store.EpisodeWriter(tmp_path)
    assert len(store.shards(tmp_path)) == 1


def test_a_torn_episode_is_named_and_the_others_stay(tmp_path, one):
    episodes.write(tmp_path, [one(1), one(2)])
    torn = store.shards(tmp_path)[1]
    torn.write_bytes(torn.read_bytes()[:70_000])
    (finding,) = faults(tmp_path)
    assert "torn" in finding
    with pytest.raises(store.DataError, match=torn.name):
        list(dataset.load(tmp_path))


def test_flipped_bytes_are_noticed(tmp_path, one):
    episodes.write(tmp_path, [one()])
    (path,) = store.shards(tmp_path)
    data = bytearray(path.read_bytes())
    middle = next(i for i in range(2000, len(data)) if data[i : i + 8] != bytes(8))
    data[middle : middle + 8] = os.urandom(8)
    path.write_bytes(data)
    assert len(faults(tmp_path)) == 1


def test_a_missing_episode_is_named(tmp_path, one):
    episodes.write(tmp_path, [one()])
    store.shards(tmp_path)[0].unlink()
    assert "missing" in faults(tmp_path)[0]


def test_an_unfinished_episode_is_no_fault_and_is_replaced(tmp_path, one):
    episodes.write(tmp_path, [one(1)])
    stray = store.shards(tmp_path)[0].with_name("openscope-train.array_record-00001")
    stray.write_bytes(b"cut short")
    *_, report = validate(tmp_path)
    assert report.faults == []
    assert "unfinished" in report.findings[0].text
    episodes.write(tmp_path, [one(2)])
    *_, report = validate(tmp_path)
    assert report.findings == []
    assert report.episodes == 2


def test_a_recording_under_way_can_be_listed(tmp_path, one):
    """The writer's folders for new metadata come and go meanwhile."""
    episodes.write(tmp_path / "a", [one()])
    prefix = str(tmp_path / "a" / store.METADATA_PREFIX)
    come_and_go = f"import os, tempfile\nwhile True:\n    os.rmdir(tempfile.mkdtemp('', {prefix!r}, '.'))"
    with subprocess.Popen([sys.executable, "-c", come_and_go]) as writer:
        try:
            while not list((tmp_path / "a").glob(f"{store.METADATA_PREFIX}*")):
                pass
            for _ in range(5000):
                assert store.written_directories(tmp_path) == [tmp_path / "a"]
        finally:
            writer.kill()


def test_the_same_episode_twice_is_named(tmp_path, one):
    episodes.write(tmp_path / "a", [one(1)])
    episodes.write(tmp_path / "b", [one(1)])
    assert "same episode" in faults(tmp_path)[0]


def damage_gap(steps):
    for step in steps[3:]:
        step["observation"]["time_s"] += np.float32(5)


def damage_nan(steps):
    steps[2]["observation"]["traffic"]["x_nm"][1] = np.nan


def damage_score(steps):
    steps[5]["observation"]["score"] += 25


def damage_column(steps):
    ids = steps[4]["observation"]["traffic"]["id"]
    ids[0], ids[1] = ids[1], ids[0]


def damage_action(steps):
    steps[1]["action"][1] = 5


def damage_event(steps):
    steps[3]["events"][0, 1] = 99


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (damage_gap, "time does not go on"),
        (damage_nan, "traffic/x_nm is not a number at step 2"),
        (damage_score, "do not add up"),
        (damage_column, "changes hands at step 4"),
        (damage_action, "actions outside"),
        (damage_event, "none of the 14 known"),
    ],
)
def test_wrong_contents_are_named(tmp_path, one, damage, text):
    example = one()
    damage(example["steps"])
    episodes.write(tmp_path, [example])
    assert any(text in fault for fault in faults(tmp_path))


def test_another_schema_version_is_named_and_a_later_one_refused(tmp_path, one):
    example = one()
    example["episode_metadata"]["schema_version"] = tr.SCHEMA_VERSION + 1
    episodes.write(tmp_path, [example])
    assert "schema version" in faults(tmp_path)[0]
    with pytest.raises(store.DataError, match="update it"):
        list(dataset.load(tmp_path))


def test_fields_an_older_recording_lacks_get_their_defaults():
    stored = {"x_nm": np.ones((3, 4), np.float32)}
    traffic = dataset._struct(tr.Traffic, stored, 4)
    assert (traffic.x_nm == 1).all()
    assert (traffic.runway_class == 3).all()


def test_foreign_directories_are_refused(tmp_path):
    with pytest.raises(store.DataError, match="holds no recordings"):
        list(dataset.load(tmp_path))
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(store.DataError, match="unreadable metadata"):
        list(dataset.load(tmp_path))


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path, one):
    with store.EpisodeWriter(tmp_path) as writer:
        writer.write(one(1))
        with largest_file(70_000), pytest.raises(OSError, match=r"could not be written .*File too large"):
            writer.write(one(2))
        assert faults(tmp_path) == []
        assert len(store.stored_keys([tmp_path])) == 1
        writer.write(one(2))
    assert len(store.stored_keys([tmp_path])) == 2
    assert faults(tmp_path) == []


WRITE_FOR_EVER = """
import json, os, sys
sys.path[:0] = {path!r}
import episodes
from collect import store
answer, static = json.loads(sys.stdin.readline())
for line in sys.stdin:  # each line asks for one more writer; what they import is imported once
    writes = os.fork()
    if not writes:
        print(os.getpid(), flush=True)
        writer = store.EpisodeWriter({directory!r})
        for seed in range(10_000):
            writer.write(episodes.example(answer, static, seed))
            print(seed, flush=True)
    os.waitpid(writes, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path, stored_answer, static):
    here = Path(__file__).parent
    script = WRITE_FOR_EVER.format(path=[str(here), str(here.parents[1])], directory=str(tmp_path))
    generator = np.random.default_rng(0)
    stored = 0
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        print(json.dumps([stored_answer("kabq_start"), static]), file=process.stdin, flush=True)
        for _ in range(5):
            print("write", file=process.stdin, flush=True)
            writer = int(process.stdout.readline())
            process.stdout.readline()  # the first episode of this writer is stored
            time.sleep(generator.uniform(0.0, 0.5))
            os.kill(writer, signal.SIGKILL)
            acknowledged = 1 + sum(1 for _ in iter(process.stdout.readline, "ended\n"))
            count = sum(1 for _ in dataset.load(tmp_path))
            assert count >= stored + acknowledged
            stored = count
