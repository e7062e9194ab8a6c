"""Recording the real game survives whatever ends it, and goes on with the same command."""

import itertools
import json
import re
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from collect import GameFault, dataset, slots, store
from collect.env import OpenScopeEnv
from collect.pictures import View
from collect.record import Job, Listener, SharedBrowser, acts_in, play, record
from collect.validate import validate

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "collect" / "data" / "shipped"


class Descend:
    """Sends slot 0, 1, 2, ... to the lowest level, legal or not."""

    def reset(self, seed):
        self.step = seed

    def __call__(self, observation):
        self.step += 1
        return np.asarray([self.step % 12, 0, 0, 0, 0], np.int32)


def report_of(directory):
    *_, report = validate(directory)
    return report


@pytest.mark.openscope
def test_recorded_episodes_are_what_was_played_and_are_not_played_twice(tmp_path):
    jobs = [Job("kabq", seed, "descend", wind=(90, 10), episode_s=60.0) for seed in (1, 2)]
    with store.EpisodeWriter(tmp_path) as writer:
        assert list(record(jobs, {"descend": Descend()}, writer)) == jobs
    assert {job.key for job in jobs} == store.stored_keys([tmp_path])
    assert report_of(tmp_path).faults == []
    first, second = dataset.load(tmp_path)
    assert (first.seed, second.seed) == (1, 2)
    assert first.action.shape == (12, 5)
    assert first.scene.wind_speed_kt.tolist() == [10] * 13
    sent = [bool(command) for command in first.command]
    assert any(sent)
    callsigns = [command.split()[0] for command in first.command if command]
    columns = first.action[sent, 0]
    ids = first.scene.traffic.id[np.flatnonzero(sent), columns]
    assert [first.callsigns[int(i)] for i in ids] == callsigns


def test_a_job_that_acts_in_every_decision_has_the_key_it_always_had():
    job = Job("kabq", 1, "descend")
    assert "every" not in job.key
    assert Job("kabq", 1, "descend", every=3).key != job.key


def test_of_every_three_decisions_the_second_has_a_player():
    assert all(acts_in(decision, 1) for decision in range(6))
    assert [acts_in(decision, 3) for decision in range(6)] == [False, True, False] * 2


@pytest.mark.openscope
def test_every_third_decision_has_a_picture_of_altitudes_and_the_only_command(tmp_path):
    job = Job("kabq", 1, "descend", episode_s=60.0, every=3)
    with store.EpisodeWriter(tmp_path, 128) as writer:
        list(record([job], {"descend": Descend()}, writer, view=View(128)))
    (episode,) = dataset.load(tmp_path)
    assert np.flatnonzero(episode.slot_action[:, 0] != 32).tolist() == [1, 4, 7, 10]
    builder = store.open_directory(tmp_path)
    (record_bytes,) = store.read_records(store.shards(tmp_path)[0])
    seen = store.parse_record(record_bytes, builder)["steps"]["observation"]
    pages = np.asarray(seen["picture_page"])
    assert pages[1:].tolist() == [*(0, -1, -1) * 4][:12]
    assert seen["picture"][1] == seen["picture"][2] == seen["picture"][3] != seen["picture"][4]
    assert episode.metadata["every"] == 3


@pytest.mark.openscope
def test_a_browser_that_crashes_costs_only_the_episode_under_way(tmp_path, monkeypatch):
    from collect import record as module

    killed = []
    make = module.OpenScopeEnv

    def remember(*args, **kwargs):
        killed.append(make(*args, **kwargs))
        return killed[-1]

    monkeypatch.setattr(module, "OpenScopeEnv", remember)
    steps = 0

    def kill_in_the_second_episode():
        nonlocal steps
        steps += 1
        if steps == 8:
            killed[-1].game._browser.kill()

    listener = Listener(on_step=kill_in_the_second_episode)
    jobs = [Job("kabq", seed, "descend", episode_s=25.0) for seed in (1, 2)]
    with store.EpisodeWriter(tmp_path) as writer:
        done = record(jobs, {"descend": Descend()}, writer, listener=listener)
        assert list(done) == jobs
    assert len(killed) == 2
    assert report_of(tmp_path).episodes == 2
    assert report_of(tmp_path).faults == []


@pytest.mark.openscope
def test_a_seed_that_the_game_cannot_start_is_left_out(tmp_path, monkeypatch):
    from collect import game, page

    original = game.bridge_script

    def broken_for_seed_2(config):
        throws = "Math.random = () => { if (window.prop) throw new Error('no such fleet'); return 0.5; };"
        return original(config) + (throws if config["seed"] == 2 else "")

    monkeypatch.setattr(game, "bridge_script", broken_for_seed_2)
    monkeypatch.setattr(page, "FAILED_S", 1.0)
    jobs, refused = [Job("kabq", seed, "descend", episode_s=10.0) for seed in (1, 2, 3)], []
    with store.EpisodeWriter(tmp_path) as writer:
        done = record(jobs, {"descend": Descend()}, writer, listener=Listener(on_fault=refused.append))
        assert [job.seed for job in done] == [1, 3]
        with pytest.raises(GameFault, match="choose another seed"):
            list(record(jobs[1:2], {"descend": Descend()}, writer))
    assert len(refused) == 1
    assert re.search("kabq with seed 2 .*no such fleet", refused[0])


@pytest.mark.openscope
def test_a_lost_browser_is_replaced_once_for_all_its_pages():
    browsers = SharedBrowser()
    try:
        first = browsers.get()
        assert browsers.get() is first
        first.lost = True
        assert browsers.get() is browsers.get() is not first
    finally:
        browsers.close()


@pytest.mark.openscope
def test_a_picture_a_second_is_stored_in_the_course_of_its_step(tmp_path):
    job = Job("kabq", 1, "descend", episode_s=15.0)
    with store.EpisodeWriter(tmp_path, 128, 5) as writer:
        list(record([job], {"descend": Descend()}, writer, view=View(128, 5)))
    assert report_of(tmp_path).faults == []
    (episode,) = tfds.builder_from_directories([str(tmp_path)]).as_data_source("train")
    steps = list(episode["steps"])
    assert [list(step["between"]) for step in steps] == [
        [f"page_{i}" for i in range(1, 5)] + [f"picture_{i}" for i in range(1, 5)]
    ] * 4
    shots = [steps[0]["observation"]["picture"], *(steps[0]["between"][f"picture_{i}"] for i in range(1, 5))]
    assert all((a != b).any() for a, b in itertools.pairwise([*shots, steps[1]["observation"]["picture"]]))
    assert (steps[3]["between"]["picture_4"] == steps[3]["observation"]["picture"]).all()


@pytest.mark.openscope
def test_pictures_are_stored_as_png(tmp_path):
    job = Job("kabq", 1, "descend", episode_s=15.0)
    with store.EpisodeWriter(tmp_path, picture_px=128) as writer:
        list(record([job], {"descend": Descend()}, writer, view=View(128)))
    assert report_of(tmp_path).faults == []
    (episode,) = tfds.builder_from_directories([str(tmp_path)]).as_data_source("train")
    pictures = np.stack([step["observation"]["picture"] for step in episode["steps"]])
    assert pictures.shape == (4, 128, 128, 3)
    assert pictures.dtype == np.uint8
    assert all(picture.std() > 5 for picture in pictures)
    assert (pictures[0] != pictures[3]).any()
    assert [int(step["observation"]["picture_page"]) for step in episode["steps"]] == [1, 0, 0, 1]
    (plain,) = dataset.load(tmp_path)
    assert plain.action.shape == (3, 5)


def test_the_shipped_clips_load_and_show_motion():
    clips = SHIPPED / "clips"
    assert report_of(clips).faults == []
    recorded = list(dataset.load(clips, "train"))
    assert {episode.icao for episode in recorded} == {"kabq", "klas"}
    source = tfds.builder_from_directories([str(clips / "worker-000")]).as_data_source("train")
    frames = 0
    for episode in source:
        pictures = np.stack([step["observation"]["picture"] for step in episode["steps"]])
        assert pictures.dtype == np.uint8
        assert pictures.shape[1:] == (256, 256, 3)
        assert (pictures[1:] != pictures[:-1]).any((1, 2, 3)).all()
        frames += len(pictures)
    assert frames <= 40
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 6e6


@pytest.mark.openscope
def test_a_sector_that_is_too_full_ends_its_episode_and_no_more(monkeypatch):
    monkeypatch.setattr(slots, "WIDTHS", (12, 13))  # kabq starts with 12
    env = OpenScopeEnv(slots=12)
    try:
        example = play(env, Descend(), Job("kabq", 1, "descend", traffic=10.0, slots=12))
    finally:
        env.close()
    about = json.loads(example["episode_metadata"]["about"])
    assert "more than the 13" in about["cut"]
    times = [float(step["observation"]["time_s"]) for step in example["steps"]]
    assert times == [5.0 * t for t in range(len(times))]
    assert len(times) > 2
    assert [step["is_last"] for step in example["steps"]] == [False] * (len(times) - 1) + [True]


@pytest.mark.openscope
def test_a_game_that_fails_in_play_ends_its_episode_and_no_more(tmp_path, monkeypatch):
    from collect import game

    original = game.bridge_script
    throws = "setInterval(() => { throw new Error('no such airline'); }, 12000);"
    monkeypatch.setattr(game, "bridge_script", lambda config: original(config) + throws)
    jobs = [Job("kabq", 1, "descend", episode_s=seconds) for seconds in (60.0, 10.0)]
    with store.EpisodeWriter(tmp_path) as writer:
        assert list(record(jobs, {"descend": Descend()}, writer)) == jobs
    cut, whole = dataset.load(tmp_path)
    assert cut.scene.time_s.tolist() == whole.scene.time_s.tolist() == [0.0, 5.0, 10.0]
    (note,) = report_of(tmp_path).findings
    assert not note.fault
    assert note.text == 'ends early: the game itself fails ("no such airline"): choose another seed'


@pytest.mark.openscope
def test_a_table_that_grew_judges_as_one_that_was_wide(monkeypatch):
    job, played = Job("kabq", 1, "descend", traffic=10.0, episode_s=600.0, slots=12), []
    for widths in ((12, 128), (128,)):
        monkeypatch.setattr(slots, "WIDTHS", widths)
        env = OpenScopeEnv(slots=12)
        try:
            played.append(play(env, Descend(), job))
        finally:
            env.close()
    assert len(env.columns) == 128
    grown, wide = ([step["observation"] | step["terms"] for step in one["steps"]] for one in played)
    aircraft = [step["traffic"]["valid"].sum() for step in grown]
    assert min(aircraft) <= 12 < max(aircraft)
    jax.tree.map(np.testing.assert_array_equal, grown, wide)


@pytest.mark.openscope
def test_a_clock_that_jumps_changes_nothing_that_was_played(monkeypatch):
    job, played = Job("kabq", 1, "descend", episode_s=30.0), []
    real, days = time.time, itertools.cycle((-86_400.0, 0.0, 86_400.0))
    for clock in (real, lambda: real() + next(days)):
        monkeypatch.setattr(time, "time", clock)
        env = OpenScopeEnv()
        try:
            played.append(play(env, Descend(), job))
        finally:
            env.close()
    steps = [[step["command"] for step in example["steps"]] for example in played]
    assert steps[0] == steps[1]
    rows = [example["steps"][-1]["observation"]["traffic"] for example in played]
    for name, values in rows[0].items():
        np.testing.assert_array_equal(values, rows[1][name])
