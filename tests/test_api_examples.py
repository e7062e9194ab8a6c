"""The examples of how this project is used from Python, at most six lines each, run as they stand.

To load a simulator, a controller, recordings or a Cosmos checkpoint and use them takes three lines or less,
the imports aside.

launch/guides/learner.md collects experience and learns from it under jit.
"""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

import rl
import wm
import wm.cosmos
from configs.cosmos import Finetune
from launch.shared.runs import write_config
from tests.wm.cosmos.parity.case import random_tree
from wm.cosmos.networks import autoencoder, dit
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.sampling.sample import rollout
from wm.cosmos.weights import models
from wm.cosmos.weights.sources import WeightsError
from wm.store.checkpoints import CheckpointError

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    "step the simulator": """
import jax, wm
env, params = wm.load()
keys = jax.random.split(jax.random.key(0), 3)
observation, state = env.reset(keys[0], params)
action = env.action_space(params).sample(keys[1])
observation, state, reward, ended, truncated, info = jax.jit(env.step)(keys[2], state, action, params)
""",
    "act in many sectors": """
import jax, rl, wm
(env, params), controller = wm.load(), rl.load()
keys = jax.random.split(jax.random.key(3), (2, 8))
observation, state = jax.vmap(env.reset, (0, None))(keys[0], params)
step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
observation, state, reward, ended, truncated, info = step(keys[1], state, controller(observation), params)
""",
    "read the shipped recording": """
import pathlib, tensorflow_datasets as tfds
folders = sorted(pathlib.Path("collect/data/shipped/test").glob("worker-*"))
source = tfds.builder_from_directories(folders).as_data_source("train")
steps = source[0]["steps"]
step = next(iter(steps))
""",
    "continue a picture with Cosmos": """
import jax, numpy as np, wm.cosmos
generator = wm.cosmos.load("runs/cosmos", steps=1)
video = generator(np.zeros((1, 1, 16, 32, 3)), np.ones((1, 8, 3)), jax.random.key(0))
""",
    "learn outside JAX": """
import gymnasium, wm
envs = gymnasium.make_vec("OpenScopeWM-v0", num_envs=8)
observations, infos = envs.reset(seed=0)
for _ in range(2):
    observations, rewards, ended, truncated, infos = envs.step(envs.action_space.sample())
""",
    "learn with Stable-Baselines3": """
import gymnasium, wm
from gymnasium.wrappers import FlattenObservation
from stable_baselines3 import PPO
env = FlattenObservation(gymnasium.make("OpenScopeWM-v0"))
learner = PPO("MlpPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu").learn(8)
""",
}


def run(name: str) -> dict:
    """The names that an example leaves behind."""
    left: dict = {}
    exec(compile(EXAMPLES[name], name, "exec"), left)
    return left


@pytest.fixture(scope="module")
def played() -> dict:
    """What the examples of the controller in JAX leave behind, with the experience of three decisions."""
    left = run("act in many sectors")
    experience, seen, state = [], left["observation"], left["state"]
    for key in jax.random.split(jax.random.key(4), 3):
        action = left["controller"](seen)
        keys = jax.random.split(key, 8)
        after, state, *outcome, _ = left["step"](keys, state, action, left["params"])
        experience.append((seen, action, *outcome))
        seen = after
    return left | {"experience": jax.tree.map(lambda *rows: np.stack(rows), *experience)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short(name):
    lines = EXAMPLES[name].strip().splitlines()
    assert len(lines) <= 6
    assert all(len(line) <= 110 for line in lines)


def test_importing_the_packages_is_cheap():
    heavy = ("jax", "flax", "gymnax", "gymnasium", "tensorflow_datasets", "numpy")
    code = f"import sys, rl, wm, wm.cosmos; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_the_simulator_steps():
    left = run("step the simulator")
    assert not left["ended"]
    assert left["state"].time.shape == ()
    assert left["action"].shape == (5,)
    assert np.isfinite(left["reward"])
    made, params = wm.load("shipped")
    assert type(made) is type(left["env"])
    assert jax.tree.structure(params) == jax.tree.structure(left["params"])


@pytest.mark.slow
def test_the_controller_acts_in_many_sectors(played):
    assert played["reward"].shape == (8,)
    observations, actions, rewards, ended, truncated = played["experience"]
    assert actions.shape == (3, 8, 5)
    assert rewards.shape == ended.shape == truncated.shape == (3, 8)
    assert observations["aircraft"].shape[:2] == (3, 8)
    # Time moves on: no two decisions see the same.
    assert np.abs(np.diff(observations["aircraft"], axis=0)).max() > 0.0


@pytest.mark.slow
def test_a_batch_one_sector_and_plain_numpy_are_answered_alike(played):
    """The real game hands over one observation at a time, in NumPy (collect.env)."""
    controller, seen = played["controller"], jax.tree.map(lambda x: x[1], played["experience"][0])
    many = np.asarray(controller(seen))
    assert many.shape == (8, 5)
    assert many.dtype == np.int32
    mask = seen["action_mask"]["aircraft"]
    assert np.all(np.asarray(mask)[np.arange(8), many[:, 0]])  # what it commands may be commanded
    assert (many[:, 0] < 32).any()  # and it commands somebody
    alone = [controller(jax.tree.map(lambda x, i=i: np.asarray(x[i]), seen)) for i in range(8)]
    assert alone[0].shape == (5,)
    np.testing.assert_array_equal(many, np.stack(alone))
    as_argument = jax.jit(lambda controller, seen: controller(seen))
    np.testing.assert_array_equal(many, as_argument(controller, seen))


def test_the_shipped_recording_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    left = run("read the shipped recording")
    assert len(left["source"]) == 2
    assert left["step"]["observation"]["traffic"]["x_nm"].shape == (64,)
    assert left["step"]["is_first"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of a tiny transformer and its autoencoder."""
    folder, tiny = tmp_path_factory.mktemp("weights"), PRESETS["tiny"]
    network = CosmosDiT(tiny.dit, tiny.action)
    models.save(
        folder / "model", tiny, random_tree(jax.eval_shape(lambda: dit.init(network, jax.random.key(0))), 0)
    )
    coder = jax.eval_shape(lambda: autoencoder.initial_params(tiny.vae, jax.random.key(0)))
    models.save(folder / "vae", tiny.vae, random_tree(coder, 1))
    return folder


@pytest.fixture
def fine_tuned(weights, tmp_path):
    """A folder as a fine-tuning run leaves it; the autoencoder lies elsewhere."""
    run = tmp_path / "runs" / "cosmos"
    shutil.copytree(weights / "model", run / "model")
    shutil.copytree(weights / "vae", tmp_path / "vae")
    asked = Finetune(data=tmp_path, vae=tmp_path / "vae", out=run, model="tiny", frames=5, shift=2.0)
    write_config(run / "config.json", asked)
    (run / "normaliser.json").write_text('{"mean": [1.0, 1.0, 1.0], "std": [2.0, 2.0, 2.0]}')
    return run


@pytest.mark.slow
def test_a_fine_tuned_model_continues_a_picture(fine_tuned, monkeypatch):
    monkeypatch.chdir(fine_tuned.parents[1])
    left = run("continue a picture with Cosmos")
    assert left["video"].shape == (1, 9, 16, 32, 3)  # the picture, and two chunks of four
    assert (left["generator"].frames, left["generator"].how.shift) == (5, 2.0)
    generator, key = left["generator"], jax.random.key(0)
    np.testing.assert_array_equal(left["video"][:, 0], 0.0)
    scaled = np.zeros((1, 8, 3), np.float32)  # (1 - mean) / deviation
    start = np.zeros((1, 1, 16, 32, 3), np.float32)
    chunks = list(rollout(generator.world, start, scaled, key, generator.how, 5))
    np.testing.assert_array_equal(left["video"][:, 1:], np.concatenate(chunks, 1))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: shutil.rmtree(run.parents[1] / "vae"), "/vae"),
        (lambda run: (run / "normaliser.json").write_text("{}"), "isn't the scale of actions: 'mean'"),
        (lambda run: (run / "config.json").write_text("[]"), "isn't the configuration of a fine-tuning run"),
        (lambda run: shutil.rmtree(run / "model"), "has no autoencoder: name the folder"),
    ],
)
def test_a_cosmos_checkpoint_that_is_not_whole_is_refused_in_one_line(fine_tuned, spoil, said):
    spoil(fine_tuned)
    with pytest.raises((WeightsError, CheckpointError)) as refused:
        wm.cosmos.load(fine_tuned)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_learners_outside_jax_step_many_sectors():
    left = run("learn outside JAX")
    assert left["rewards"].shape == (8,)
    assert type(left["observations"]["aircraft"]) is np.ndarray


@pytest.mark.slow
def test_stable_baselines3_learns():
    pytest.importorskip("stable_baselines3", reason="needs stable-baselines3: pip install stable-baselines3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and of the library
        learner = run("learn with Stable-Baselines3")["learner"]
    assert learner.num_timesteps == 8
    assert learner._n_updates == 1


@pytest.mark.parametrize(
    ("load", "folder", "said"),
    [
        (rl.load, "tests", "/tests; name a directory that a training command wrote"),
        (wm.load, "tests", "/tests; name a directory that a training command wrote"),
        (rl.load, "wm/data/default", "wm/data/default holds no controller but a world model"),
        (wm.load, "rl/data/default", "not a world model: give the directory that launch.train_wm wrote"),
    ],
)
def test_other_folders_are_refused_in_one_line(load, folder, said, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(CheckpointError) as refused:
        load(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
