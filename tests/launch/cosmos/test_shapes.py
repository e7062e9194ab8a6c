"""Moving shapes from end to end, far too small to learn anything: what a run leaves and does not do again."""

import json

import jax
import pytest

from configs.cosmos import OptimizerConfig, Shapes
from launch.cosmos import shapes as cosmos_shapes
from launch.cosmos import shapes_further as cosmos_shapes_further
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.vae import initial_params
from wm.cosmos.training.train import Trainer
from wm.cosmos.weights import models

SMALL = OptimizerConfig(warmup=1, compute="float32", moments="float32", ema="float32", ema_decay=0.9)


@pytest.mark.slow
def test_shapes_leave_figures_of_every_part(tmp_path, monkeypatch):
    monkeypatch.setattr(cosmos_shapes_further, "FEW", 2)
    monkeypatch.setattr(cosmos_shapes_further, "FEW_STEPS", 2)
    monkeypatch.setattr(cosmos_shapes_further, "OPPOSITE_EPOCHS", 2)
    monkeypatch.setattr(cosmos_shapes_further, "OPPOSITE", 1)
    config = Shapes(
        out=tmp_path,
        model="tiny",
        clips=4,
        test=2,
        size=32,
        frames=5,
        shapes=1,
        vae_clips=4,
        vae_frames=5,
        epochs=1,
        batch=2,
        sampler_steps=2,
        optimizer=SMALL,
    )
    vae = PRESETS["tiny"].vae
    params = jax.jit(initial_params, static_argnums=0)(vae, jax.random.key(0))
    models.save(tmp_path / "vae", vae, jax.device_get(params))  # training one takes minutes to compile
    killed = tmp_path / "few-run" / "metrics.jsonl"  # of a run that had no checkpoint yet
    killed.parent.mkdir()
    killed.touch()
    figures = cosmos_shapes.learn(config)
    assert figures["shapes_resumed_arrays_identical"]["value"] == 1.0
    merged, adapters = (figures[f"shapes_position_error_opposite_{x}"] for x in ("merged", "adapters"))
    assert merged["value"] == pytest.approx(adapters["value"], abs=0.05)
    for name in ("1_plain", "1_learned", "last_step"):
        assert f"shapes_drifter_solidity_{name}" in figures
    assert json.loads((tmp_path / "results.json").read_text())["figures"] == figures
    assert (tmp_path / "drawn.png").stat().st_size > 0
    monkeypatch.delattr(Trainer, "_gradients")  # nothing is trained twice
    del figures["shapes_minutes"]
    assert cosmos_shapes.learn(config) == figures
