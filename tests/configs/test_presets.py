"""The presets called shipped hold what the packaged world model and controller were made with."""

import json
from pathlib import Path

import pytest

from configs import cli
from configs.ppo import PRESETS as PPO
from configs.ppo import PPOTraining
from configs.recording import AIRPORTS, PLANS
from configs.world_model import PRESETS as WORLD_MODEL
from configs.world_model import WorldModelConfig

ROOT = Path(__file__).parents[2]


def stored(folder: str, name: str) -> dict:
    [path] = (ROOT / folder).glob(f"*/{name}.json")
    return json.loads(path.read_text())


def test_the_world_models_preset_is_its_configuration():
    """Field by field; what it lacks are paths and how the run went on its machine."""
    preset = cli.to_json(WORLD_MODEL["shipped"])
    trained = stored("wm/data/default", "config")["training"]
    assert {name: preset[name] for name in trained} == trained
    elsewhere = {"data", "test", "out", "backend", "devices", "save_every", "wandb"}
    assert preset.keys() - trained.keys() == elsewhere
    assert preset["data"] == [str(PLANS[name].out) for name in ("world-model", "starts")]


def test_the_plan_records_the_seeds_that_the_world_model_saw():
    """The hours of one plan and the starts of another, as launch/records/shipped.md says."""
    seen = stored("wm/data/default", "metadata")["seeds"]
    seeds = {airport: [] for airport in AIRPORTS}
    for plan, episodes in ((PLANS["world-model"], 183), (PLANS["starts"], 360)):
        assert plan.airports == AIRPORTS
        for episode in range(episodes):
            turn, airport = divmod(episode, len(AIRPORTS))
            seeds[AIRPORTS[airport]].append(plan.first_seed + turn)
    assert seeds == seen


def test_the_controllers_preset_is_its_configuration():
    """Its checkpoint tells network and environment, and in its step after how many chunks it stopped."""
    preset, made = PPO["shipped"], stored("rl/data/default", "config")
    assert cli.to_json(preset.ppo.network) == made["network"]
    assert preset.env == made["env"]
    assert preset.checkpoint is None  # the packaged world model
    ppo = preset.ppo
    chunk = ppo.num_envs * ppo.rollout_length * ppo.chunk * preset.devices
    step = stored("rl/data/default", "metadata")["step"]
    assert (step - 1) * chunk < preset.stop_after_steps <= step * chunk
    assert step % preset.save_every == 0
    assert ppo.updates(preset.devices) == 100  # 13 million decisions of 131,072 an update, in chunks of ten
    assert ppo.clone.updates == 100


@pytest.mark.parametrize(
    ("kind", "presets"), [(WorldModelConfig, WORLD_MODEL), (PPOTraining, PPO)], ids=["world model", "ppo"]
)
def test_a_preset_is_the_first_word_and_options_change_it(kind, presets):
    config = cli.parse_preset(kind, presets, ["shipped", "--out", "elsewhere"])
    assert config.out == Path("elsewhere")
    assert {**cli.to_json(config), "out": ""} == {**cli.to_json(presets["shipped"]), "out": ""}


def test_the_controllers_preset_is_the_command_that_made_it():
    """As it was typed, with a stop instead of an end by hand."""
    words = """--out runs/ppo-shipped --airport kabq --devices 1 --stop-after-steps 2600000 --save-every 2
        --ppo.total-steps 13000000 --ppo.num-envs 4096 --ppo.rollout-length 32 --ppo.epochs 3
        --ppo.minibatches 4 --ppo.learning-rate 1e-4 --ppo.entropy-coef 0 --ppo.network.width 128
        --ppo.network.blocks 2 --ppo.network.heads 4 --ppo.clone.updates 100 --ppo.clone.student-share 0.8"""
    assert cli.parse(PPOTraining, words.split()) == PPO["shipped"]
