"""A saved controller says what its columns mean; one that means other columns is refused."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import rl
import tests.wm.scenes as scenes
import wm
from configs.ppo import NetworkConfig
from rl.networks import HEADS, OUTPUTS, SetNetwork
from rl.policy import NAMES, describe, load_policy
from tests.rl.acting import observed
from tests.rl.toys import Sector
from wm.store.checkpoints import CheckpointError
from wm.store.manifest import write_manifest
from wm.store.provenance import write_json

SHIPPED = Path(rl.__file__).parent / "data" / "default"


def altered(folder, change):
    """A copy of the shipped controller with `change(config)` as its configuration."""
    shutil.copytree(SHIPPED, folder)
    (step,) = folder.iterdir()
    write_json(step / "config.json", change(json.loads((step / "config.json").read_text())))
    write_manifest(step)
    return folder


def renamed(what, change):
    """A change of configuration that passes one list of names through `change`."""
    return lambda config: {**config, "names": {**config["names"], what: change(config["names"][what])}}


def without_names(config):
    return {name: value for name, value in config.items() if name != "names"}


def test_a_controller_from_before_columns_had_names_is_the_same(tmp_path):
    _, named = load_policy(SHIPPED)
    _, unnamed = load_policy(altered(tmp_path / "old", without_names))
    for a, b in zip(jax.tree.leaves(named), jax.tree.leaves(unnamed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_output_has_a_name():
    assert len(OUTPUTS) == len(set(OUTPUTS)) == 1 + sum(HEADS.values())
    assert NAMES["output"][1:6] == ["verb altitude", "verb heading", "verb speed", "verb ils", "verb direct"]
    assert HEADS == {"verb": 5, "altitude": 9, "heading": 7, "speed": 4}


def test_a_sector_of_its_own_features_has_no_names():
    env = Sector()
    observation, _ = jax.eval_shape(env.reset, jax.random.key(0), env.default_params)
    assert describe(SetNetwork(NetworkConfig()), observation)["names"] is None


def narrower(config):
    aircraft = {**config["observation"]["aircraft"], "shape": [32, 80]}
    return without_names(config) | {"observation": {**config["observation"], "aircraft": aircraft}}


def flat(config):
    return without_names(config) | {"choices": [2], "observation": {"shape": [3], "dtype": "float32"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("aircraft feature", lambda n: [n[1], n[0], *n[2:]]), "aircraft feature 0 is y_nm there"),
        (renamed("global feature", lambda n: [*n[:3], "roof_ft", *n[4:]]), "global feature 3 is roof_ft"),
        (renamed("output", lambda n: n[:-1]), "output 25 is missing there, and speed 300 kt in this program"),
        (narrower, "it has 80 columns called aircraft feature, this program has 81"),
        (lambda config: {"kind": "diary"}, "holds no controller but a diary; name the policy folder"),
        (lambda config: {"network": {"depth": 3}}, "holds no controller; name the policy folder"),
        (lambda config: {**config, "observation": {"x": {"shape": [3], "dtype": "int8"}}}, "no controller"),
    ],
)  # fmt: skip
def test_what_is_no_controller_of_this_program_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message) as refused:
        load_policy(altered(tmp_path / "policy", change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (narrower, "it has 80 columns called aircraft feature, this program has 81"),
        (flat, "policy holds another environment's controller, not one of openScope's"),
    ],
)
def test_a_controller_of_other_observations_is_not_loaded_to_act(tmp_path, change, message):
    run = tmp_path / "run"
    altered(run / "policy", change)
    with pytest.raises(CheckpointError, match=message) as refused:
        rl.load(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("slots", [8, 64])
def test_a_controller_acts_in_sectors_of_other_sizes(slots):
    traffic = scenes.traffic(slots, x_nm=[12.0, -9.0], y_nm=[3.0, 8.0], altitude_ft=[9000.0, 12000.0])
    observation = observed(traffic)
    action = np.asarray(rl.load()(observation))
    assert action.shape == (5,)
    assert observation["action_mask"]["aircraft"][action[0]]


def test_a_world_model_is_no_controller():
    with pytest.raises(CheckpointError, match="holds no controller but a world model"):
        load_policy(Path(wm.__file__).parent / "data" / "default")
