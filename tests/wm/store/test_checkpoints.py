"""A checkpoint comes back exactly, on any number of devices, or is refused in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState

from launch.shared import parallel
from wm.sector.traffic import SCHEMA_VERSION
from wm.store import checkpoints
from wm.store.checkpoints import CheckpointError, CheckpointWarning

CONFIG = {"seed": 3, "network": {"width": 8, "layers": [4, 4]}}


NET = nn.Dense(8)
OPTIMIZER = optax.adam(1e-3)


@jax.jit
def make_state():
    params = NET.init(jax.random.key(0), jnp.zeros((1, 4)))["params"]
    return TrainState.create(apply_fn=NET.apply, params=params, tx=OPTIMIZER)


RESTORE_ON_ONE_DEVICE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import jax
from tests.wm.store.test_checkpoints import make_state
from wm.store import checkpoints
assert jax.device_count() == 1
state = jax.device_put(checkpoints.restore(sys.argv[2], jax.eval_shape(make_state)))
print(json.dumps(state.params["kernel"].tolist()))
"""


def tree_of(value):
    return {"w": np.full((4, 3), value, np.float32), "step": np.int32(value)}


def saved(directory, *steps):
    for step in steps:
        checkpoints.save(directory, step, tree_of(step), CONFIG)
    return directory


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def array_file(folder):
    """The largest file of array data."""
    return max((p for p in (folder / "arrays").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def refusal(call):
    """Message of the CheckpointError that `call` raises; it has to fit on one line."""
    with pytest.raises(CheckpointError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# What comes back


def test_train_state_comes_back_exactly(tmp_path):
    state = make_state()
    checkpoints.save(tmp_path, 7, state, CONFIG)
    assert_same(checkpoints.restore(tmp_path, jax.eval_shape(make_state)), jax.device_get(state))


def test_every_kind_of_leaf_comes_back(tmp_path):
    tree = {
        "bf16": jnp.asarray([1.5, -2.0], jnp.bfloat16),
        "flag": np.asarray([True, False]),
        "number": 3,
        "empty": np.zeros((0, 5), np.float32),
        "nothing": None,
        "a/b.c": [np.float64(0.1), (np.uint8(255),)],
    }
    checkpoints.save(tmp_path, 0, tree, {})
    expected = jax.tree.map(np.asarray, tree | {"number": np.int32(3)})  # a Python number as jax takes it
    assert_same(checkpoints.restore(tmp_path, tree), expected)


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_random_keys_continue_where_they_were(tmp_path, implementation):
    def make():
        return {"key": jax.random.key(5, impl=implementation)}

    checkpoints.save(tmp_path, 0, make(), {})
    restored = checkpoints.restore(tmp_path, jax.eval_shape(make))
    expected = jax.random.normal(make()["key"], (4,))
    np.testing.assert_array_equal(jax.random.normal(restored["key"], (4,)), expected)


def test_saved_on_eight_devices_restored_on_one(tmp_path):
    state = make_state()
    replicated = parallel.replicate(state)
    assert len(replicated.params["kernel"].sharding.device_set) == 8
    checkpoints.save(tmp_path, 1, parallel.unreplicate(replicated), CONFIG)
    one_device = os.environ | {"XLA_FLAGS": ""}
    command = [sys.executable, "-c", RESTORE_ON_ONE_DEVICE, str(Path.cwd()), str(tmp_path)]
    output = subprocess.run(command, env=one_device, capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == state.params["kernel"].tolist()


def test_config_and_metadata_say_where_it_came_from(tmp_path):
    checkpoints.save(tmp_path, 2, tree_of(2), CONFIG, {"data_fingerprint": "abc", "loss": 0.5})
    assert checkpoints.load_config(tmp_path) == CONFIG
    metadata = checkpoints.load_metadata(tmp_path)
    assert metadata["schema_version"] == SCHEMA_VERSION
    assert (metadata["step"], metadata["data_fingerprint"], metadata["loss"]) == (2, "abc", 0.5)
    assert metadata["versions"]["jax"] == jax.__version__
    assert metadata["leaves"]["w"] == {"shape": [4, 3], "dtype": "float32"}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert (metadata["commit"] or "").removesuffix("-dirty") == head


# Which steps there are


def test_newest_step_is_taken_and_older_ones_are_removed(tmp_path):
    saved(tmp_path, 1, 2, 3, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000002", "00000003", "00000010"]
    assert checkpoints.latest_step(tmp_path) == 10
    assert_same(checkpoints.restore(tmp_path, tree_of(0)), jax.tree.map(np.asarray, tree_of(10)))
    assert_same(checkpoints.restore(tmp_path, tree_of(0), step=2), jax.tree.map(np.asarray, tree_of(2)))


def test_no_checkpoint(tmp_path):
    assert checkpoints.latest_step(tmp_path / "nowhere") is None
    assert "no checkpoint in" in refusal(lambda: checkpoints.restore(tmp_path / "nowhere", tree_of(0)))


def test_a_step_is_never_overwritten(tmp_path):
    saved(tmp_path, 1)
    assert "exists already" in refusal(lambda: checkpoints.save(tmp_path, 1, tree_of(9), CONFIG))
    assert checkpoints.restore(tmp_path, tree_of(0))["step"] == 1


def damage_empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def damage_truncate(folder):
    file = array_file(folder)
    os.truncate(file, file.stat().st_size // 2)


DAMAGES = {
    "empty folder": damage_empty,
    "truncated array": damage_truncate,
    "lost array": lambda folder: array_file(folder).unlink(),
    "lost config": lambda folder: (folder / "config.json").unlink(),
    "lost manifest": lambda folder: (folder / "manifest.json").unlink(),
    "torn manifest": lambda folder: os.truncate(folder / "manifest.json", 40),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_incomplete_newest_step_is_passed_over_aloud(tmp_path, damage):
    saved(tmp_path, 1, 2)
    damage(tmp_path / "00000002")
    with pytest.warns(CheckpointWarning, match="00000002 is incomplete"):
        restored = checkpoints.restore(tmp_path, tree_of(0))
    assert restored["step"] == 1
    assert checkpoints.latest_step(tmp_path) == 1
    message = refusal(lambda: checkpoints.restore(tmp_path, tree_of(0), step=2))
    assert "complete steps are: 1" in message
    checkpoints.save(tmp_path, 2, tree_of(2), CONFIG)  # training again reaches step 2 and mends it
    assert checkpoints.restore(tmp_path, tree_of(0))["step"] == 2


def test_only_an_incomplete_step(tmp_path):
    saved(tmp_path, 1)
    damage_truncate(tmp_path / "00000001")
    with pytest.warns(CheckpointWarning):
        message = refusal(lambda: checkpoints.restore(tmp_path, tree_of(0)))
    assert "no complete checkpoint" in message


# What is refused


@pytest.mark.parametrize("which", ["array", "config.json", "metadata.json"])
def test_a_changed_byte_is_refused(tmp_path, which):
    folder = saved(tmp_path, 1, 2) / "00000002"
    file = array_file(folder) if which == "array" else folder / which
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    message = refusal(lambda: checkpoints.restore(tmp_path, tree_of(0)))
    assert re.search(rf"{re.escape(file.name)} is not what was saved", message)


def test_changed_config_is_refused_when_read_alone(tmp_path):
    file = saved(tmp_path, 1) / "00000001" / "config.json"
    file.write_text(file.read_text().replace("3", "4"))
    assert "config.json is not what was saved" in refusal(lambda: checkpoints.load_config(tmp_path))


@pytest.mark.parametrize(
    ("abstract", "cause"),
    [
        (
            {"w": np.zeros((4, 5), np.float32), "step": np.int32(0)},
            "shape of 'w' is [4, 3], the program has [4, 5]",
        ),
        (
            {"w": np.zeros((4, 3), np.float16), "step": np.int32(0)},
            "dtype of 'w' is float32, the program has float16",
        ),
        ({"w": np.zeros((4, 3), np.float32)}, "holds 'step', which the program doesn't have"),
        ({**tree_of(0), "bias": np.zeros(3)}, "lacks 'bias'"),
        ({"w": np.zeros((4, 3), np.float32), "steps": np.int32(0)}, "lacks 'steps' (it has 'step')"),
    ],
)
def test_another_tree_is_refused(tmp_path, abstract, cause):
    saved(tmp_path, 1)
    message = refusal(lambda: checkpoints.restore(tmp_path, abstract))
    assert cause in message
    assert "load_config" in message


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ({"seed": 4, "network": {"width": 8, "layers": (4, 4)}}, "saved with seed = 3, this run has 4"),
        (
            {"seed": 3, "network": {"width": 9, "layers": (4, 4)}},
            "saved with network.width = 8, this run has 9",
        ),
        ({"seed": 3, "network": {"width": 8}}, "saved with network.layers = [4, 4], this run has nothing"),
    ],
)
def test_another_configuration_is_refused(tmp_path, config, cause):
    saved(tmp_path, 1)
    assert cause in refusal(lambda: checkpoints.restore(tmp_path, tree_of(0), config=config))


def test_the_same_configuration_passes(tmp_path):
    saved(tmp_path, 1)
    config = {"network": {"layers": (4, 4), "width": 8}, "seed": 3}
    assert checkpoints.restore(tmp_path, tree_of(0), config=config)["step"] == 1


@pytest.mark.parametrize(
    ("tree", "config", "metadata", "cause"),
    [
        ({}, {}, {}, "the tree holds no arrays"),
        ({"a": np.ones(1), "airport": "ksea"}, {}, {}, "'airport' is a str, not an array"),
        ({"a": {"b": np.ones(1)}, "a/b": np.ones(1)}, {}, {}, "two leaves are called 'a/b'"),
        ({"a": np.ones(1)}, {"rate": float("nan")}, {}, "not JSON compliant"),
        ({"a": np.ones(1)}, {"path": Path()}, {}, "not JSON serializable"),
        ({"a": np.ones(1)}, {}, {"commit": "x"}, "metadata key 'commit' is written by save itself"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_left(tmp_path, tree, config, metadata, cause):
    assert cause in refusal(lambda: checkpoints.save(tmp_path, 1, tree, config, metadata))
    assert list(tmp_path.iterdir()) == []


# A killed save

KILLED_SAVE = """
import os, signal, sys
sys.path.insert(0, {root!r})
import numpy as np
from wm.store import checkpoints
real_rename = os.replace
def rename(source, target):
    if str(target).endswith({before!r}):
        os.kill(os.getpid(), signal.SIGKILL)
    real_rename(source, target)
os.replace = rename
checkpoints.save({directory!r}, 2, {{"w": np.full((4, 3), 2, np.float32), "step": np.int32(2)}}, {{}})
"""


@pytest.mark.parametrize("before", ["metadata.json", "manifest.json", "00000002"])
def test_a_killed_save_leaves_the_step_before(tmp_path, before):
    saved(tmp_path, 1)
    script = KILLED_SAVE.format(root=str(Path.cwd()), directory=str(tmp_path), before=before)
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.iterdir())) == 2  # step 1 and the unfinished folder
    assert checkpoints.latest_step(tmp_path) == 1
    assert checkpoints.restore(tmp_path, tree_of(0))["step"] == 1
    saved(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]
    assert json.loads((tmp_path / "00000002" / "config.json").read_text()) == CONFIG


def test_leaves_come_back_by_name_without_the_programs_tree(tmp_path):
    keys = jax.random.split(jax.random.key(3), 4)
    tree = {"a": {"b": np.arange(3, dtype=np.int8)}, "keys": keys, "empty": np.zeros((0, 2), np.float32)}
    checkpoints.save(tmp_path, 1, tree, {})
    leaves = checkpoints.load_leaves(tmp_path)
    assert leaves.keys() == {"a/b", "keys", "empty"}
    np.testing.assert_array_equal(leaves["a/b"], [0, 1, 2])
    np.testing.assert_array_equal(leaves["keys"], jax.random.key_data(keys))
    assert leaves["empty"].shape == (0, 2)


def test_a_step_has_one_fingerprint_wherever_it_lies(tmp_path):
    for name, value in (("one", 1.0), ("other", 2.0)):
        checkpoints.save(tmp_path / name, 0, {"x": np.float32(value)}, {})
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    one, copy, other = (checkpoints.fingerprint(tmp_path / name) for name in ("one", "copy", "other"))
    assert one == copy != other
