"""A world model on disk: back exactly as saved, or refused in one line; and what goes into one."""

import json
import shutil
from pathlib import Path

import gymnax
import jax
import numpy as np
import pytest

import wm
from tests.wm import recordings as rc
from wm.sector import traffic as tr
from wm.state import bundle, features, labels
from wm.state import network as net
from wm.state.make import make
from wm.store import checkpoints, manifest
from wm.store.checkpoints import CheckpointError, CheckpointWarning
from wm.store.provenance import write_json

ROWS = 8


@pytest.fixture(scope="module")
def flown():
    """Two recordings; in the second an aircraft appears at step 10."""
    first, second = rc.cruise(2)
    return [first, rc.appearing(second, slot=5, step=10)]


@pytest.fixture(scope="module")
def params(flown):
    place, renumbered = labels.airport_of(flown)
    airports, recordings = [place, place], [renumbered, renumbered[1:]]
    return bundle.build(rc.untrained(), airports, recordings, rows=ROWS, slots=rc.SLOTS)


@pytest.fixture(scope="module")
def saved(params, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model") / "wm"
    bundle.save_bundle(directory, params, {"airports": ["aaaa", "bbbb"]}, {"data_fingerprint": "none"})
    return directory


def copied(saved, tmp_path):
    """A copy of the saved model to spoil."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def largest(directory):
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def refusal(directory, airport=None) -> str:
    """Message of the CheckpointError that loading raises; it has to fit on one line."""
    with pytest.raises(CheckpointError) as error:
        bundle.load_bundle(directory, airport)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_comes_back_exactly_as_saved_through_gymnax(saved, params):
    model, loaded = gymnax.make(wm.NAME, checkpoint=saved)
    assert model.name == wm.NAME
    for (path, wanted), (other, found) in zip(
        *(jax.tree_util.tree_leaves_with_path(tree) for tree in (params, loaded)), strict=True
    ):
        assert path == other
        assert np.asarray(wanted).dtype == np.asarray(found).dtype, path
        np.testing.assert_array_equal(wanted, found, err_msg=str(path))


def test_one_airport_can_be_loaded_alone(saved, params):
    alone = bundle.load_bundle(saved, "bbbb")
    of_second = np.asarray(params.rows.airport_id) == 1
    assert len(alone.rows.airport_id) == of_second.sum() > 0
    np.testing.assert_array_equal(alone.rows.airport_id, 0)
    np.testing.assert_array_equal(alone.rows.scene.time_s, params.rows.scene.time_s[of_second])
    assert alone.airports.elevation_ft.shape == (1,)
    assert "knows aaaa, bbbb, not 'cccc': choose" in refusal(saved, "cccc")


def test_some_airports_are_numbered_as_they_are_asked_for(saved, params):
    turned = bundle.load_bundle(saved, ["bbbb", "aaaa"])
    was = np.asarray(params.rows.airport_id)
    np.testing.assert_array_equal(turned.rows.airport_id, 1 - was)
    np.testing.assert_array_equal(turned.spawns.count, np.asarray(params.spawns.count)[::-1])
    np.testing.assert_array_equal(turned.own_wind, np.asarray(params.own_wind)[::-1])


def test_slots_can_be_added_and_stay_empty(saved, params):
    wide = bundle.load_bundle(saved, slots=rc.SLOTS + 3).rows.scene.traffic
    np.testing.assert_array_equal(wide.valid[:, : rc.SLOTS], params.rows.scene.traffic.valid)
    assert not np.any(wide.valid[:, rc.SLOTS :])
    with pytest.raises(ValueError, match=f"slots is 2, but the world model has {rc.SLOTS}"):
        bundle.load_bundle(saved, slots=2)


def test_options_of_the_environment_are_fields_of_its_parameters(saved):
    model = make(saved, airport="aaaa", sample=False, traffic_high=1.5, max_steps_in_episode=7)
    params = model.default_params
    assert (params.traffic_low, params.traffic_high, params.max_steps_in_episode) == (1.0, 1.5, 7)
    with pytest.raises(TypeError, match="trafic_high"):
        make(saved, trafic_high=1.5)


def test_episodes_begin_before_the_time_limit(saved, params):
    begun = np.round(np.asarray(params.rows.scene.time_s) / tr.STEP_S)
    limit = int(np.sort(begun)[len(begun) // 2])
    rows = make(saved, max_steps_in_episode=limit).default_params.rows
    assert 0 < len(rows.airport_id) == np.sum(begun < limit) < len(begun)
    assert np.all(rows.scene.time_s < limit * tr.STEP_S)
    with pytest.raises(ValueError, match="before every recorded state: raise it"):
        make(saved, max_steps_in_episode=0)


def test_a_model_with_other_columns_is_refused(params, tmp_path, monkeypatch):
    arrays = bundle._arrays(params)
    airports = {"elevation": arrays["airports"]["elevation_ft"]}
    monkeypatch.setattr(bundle, "_arrays", lambda _: arrays | {"airports": airports})
    bundle.save_bundle(tmp_path / "old", params, {"airports": ["aaaa"]}, {})
    assert "was saved with other columns" in refusal(tmp_path / "old")


def test_a_renamed_feature_is_refused(saved, monkeypatch):
    """Columns are stacked by name: under another name a column would take another one's place."""
    known = features.dynamics_features

    def renamed(scene, airport):
        columns = known(scene, airport)
        return {"a_new_name" if name == "phase_APPROACH" else name: v for name, v in columns.items()}

    monkeypatch.setattr(features, "dynamics_features", renamed)
    assert "trained with other features (phase_APPROACH for a_new_name" in refusal(saved)


def test_a_renamed_head_is_refused(saved, monkeypatch):
    heads = {"speed_guide" if name == "speed" else name: n for name, n in net.CATEGORICAL.items()}
    monkeypatch.setattr(net, "CATEGORICAL", heads)
    assert "trained with other heads (speed:7 for speed_guide:7" in refusal(saved)


def test_a_model_saved_before_names_were_stored_loads(saved, tmp_path):
    directory = copied(saved, tmp_path)
    (config,) = directory.rglob("config.json")
    write_json(config, {k: v for k, v in json.loads(config.read_text()).items() if k != "names"})
    manifest.write_manifest(config.parent)
    same = bundle.load_bundle(directory).weights, bundle.load_bundle(saved).weights
    jax.tree.map(np.testing.assert_array_equal, *same)


def test_a_changed_byte_is_refused(saved, tmp_path):
    directory = copied(saved, tmp_path)
    damaged = largest(directory)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert f"{damaged.name} is not what was saved; copy it again" in refusal(directory)


def test_a_changed_configuration_is_refused(saved, tmp_path):
    directory = copied(saved, tmp_path)
    (config,) = directory.rglob("config.json")
    text = config.read_text()
    config.write_text(text.replace('"aaaa"', '"cccc"'))
    assert config.read_text() != text
    assert "config.json is not what was saved" in refusal(directory)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"torn")])
def test_a_torn_model_is_refused(saved, tmp_path, spoil):
    directory = copied(saved, tmp_path)
    spoil(largest(directory))
    with pytest.warns(CheckpointWarning, match="incomplete"):
        assert "no complete checkpoint in" in refusal(directory)


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ({"w": [[4], "float32"]}, "shape of 'w' is [3], the program has [4]"),
        ({"w": [[3], "int32"]}, "dtype of 'w' is float32, the program has int32"),
        ({"w": [[3], "float32"]}, "holds 'x', which the program doesn't have"),
        ({"w": [[3], "float32"], "v": [[3], "float32"]}, "lacks 'v'"),
    ],
)
def test_a_configuration_of_other_arrays_is_refused(tmp_path, leaves, message):
    arrays = {"w": np.zeros(3, np.float32), "x": np.zeros(1, np.float32)}
    checkpoints.save(tmp_path, 0, arrays, {"kind": "world model", "training": {}, "leaves": leaves})
    assert message in refusal(tmp_path)


def test_what_is_not_a_world_model_is_refused(tmp_path):
    assert "no checkpoint in" in refusal(tmp_path / "nowhere")
    checkpoints.save(tmp_path / "policy", 3, {"w": np.zeros(3)}, {"kind": "policy"})
    message = refusal(tmp_path / "policy")
    assert "holds 'policy', not a world model: give the directory that launch.train_wm wrote" in message


def test_first_sights_are_those_after_the_start_by_stream(flown):
    table = bundle.spawn_table(flown, streams=2)
    np.testing.assert_array_equal(table.count, [1, 0])  # who is there at the start was not seen to come
    seen = jax.tree.map(lambda x: x[10, 5], flown[1].scene.traffic)
    row = jax.tree.map(lambda x: x[0, 0], table.rows)
    for name in tr.schema(tr.Traffic):
        np.testing.assert_array_equal(getattr(seen, name), getattr(row, name), err_msg=name)
    assert not table.rows.valid[0, 1:].any()


def test_reset_scenes_begin_with_the_first_of_every_recording(flown):
    scenes, rates = bundle.reset_scenes(flown, rows=ROWS, slots=rc.SLOTS)
    assert rates == [recording.traffic_rate for recording in flown][:1] * len(scenes)
    assert len(scenes) == ROWS
    for scene, recording in zip(scenes, flown, strict=False):
        assert scene.time_s == 0
        present = recording.scene.traffic.id[0][recording.scene.traffic.valid[0]]
        np.testing.assert_array_equal(scene.traffic.id[scene.traffic.valid], present)
    assert all(scene.time_s > 0 for scene in scenes[2:])


def test_slots_take_who_is_in_play_and_refuse_an_overflow(flown):
    t = jax.tree.map(lambda x: x[0].copy(), flown[0].scene.traffic)
    t.removable[1], t.controllable[1] = True, False  # handed off
    t.hit[3] = True  # falling
    taken = bundle.take_slots(t, 5)
    np.testing.assert_array_equal(taken.id[:4], t.id[[0, 2, 4, 5]])
    np.testing.assert_array_equal(taken.valid, [True] * 4 + [False])
    assert bundle.take_slots(t, 3) is None


def test_built_rows_hold_the_observation_of_their_scene(params):
    shapes = {x.shape[0] for x in jax.tree.leaves(params.rows)}
    assert shapes == {ROWS}
    np.testing.assert_array_equal(params.rows.next_id, params.rows.scene.traffic.id.max(-1) + 1)
    np.testing.assert_array_equal(params.rows.observation["aircraft_mask"], params.rows.scene.traffic.valid)
    np.testing.assert_array_equal(np.bincount(params.rows.airport_id), [4, 4])
    assert 0.0 < float(params.disagreement_limit) < 1.0


def test_moments_without_room_are_left_out(flown):
    assert flown[0].scene.traffic.valid.sum(-1).min() > 3
    assert bundle.reset_scenes(flown[:1], rows=4, slots=3) == ([], [])
