"""The benchmark on a tiny model: every part gives its figures, in its file and in the record."""

import json

import pytest

from configs.cosmos import PARTS, Bench
from launch.cosmos import bench as cosmos_bench
from launch.cosmos import generation_speed as cosmos_generation_speed
from launch.shared import records
from wm.cosmos.networks.config import PRESETS

TINY = ["--model", "tiny", "--small", "32", "--large", "32", "--repeats", "3", "--steps", "1"]
BATCHES = ["--batch-256", "1", "--batch-512", "1", "--batch-lora", "1", "--batch-generate", "1"]
FIGURES = {
    "train_256": {"train_tflops_256"},
    "train_512": {"train_tflops_512"},
    "lora_256": {"lora_samples_per_s_256"},
    "scaling": {"scaling_2_gpus_cosmos"},
    "generate": {"fps_decode", "fps_2_steps", "fps_2_steps_latents", "fps_1_step", "fps_1_step_latents"},
}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["lora_256", "scaling", "generate"])
def test_a_part_gives_its_figures(tmp_path, monkeypatch, part):
    monkeypatch.setattr(records.write, "__defaults__", (tmp_path / "records",))
    few = ["--sampler-steps", "2", "1", "--out", str(tmp_path), "--record", "tiny"]
    cosmos_bench.main([*TINY, *BATCHES, *few, "--parts", part])
    written = json.loads((tmp_path / f"{part}.json").read_text())
    assert set(written["figures"]) == FIGURES[part]
    assert set(json.loads((tmp_path / "records" / "tiny.json").read_text())["figures"]) == FIGURES[part]
    assert all(figure["value"] > 0 and figure["n"] == 3 for figure in written["figures"].values())


def test_flops_are_three_forward_passes_of_the_real_model():
    """Against arithmetic by hand for the 2B with 17 frames: 4.9 TFLOP forward at 256 x 256 and 23.6 at 512,
    of which 0.12 are keys and values of the context, which the clips of a batch share."""
    config = Bench()
    for side, forward in ((256, 4.9 - 0.12 * 2 / 3), (512, 23.6 - 0.12 * 2 / 3)):
        setting = cosmos_bench.Setting(config, side, 3, 1, low_rank=False)
        assert setting.flops == pytest.approx(3 * 3 * forward * 1e12, rel=0.02)


def test_random_weights_have_the_models_shapes_and_scale():
    import jax
    import jax.numpy as jnp

    from wm.cosmos.networks import dit

    model = PRESETS["tiny"]
    shapes = jax.eval_shape(lambda: dit.init(dit.CosmosDiT(model.dit, model.action), jax.random.key(0)))
    params = cosmos_generation_speed.random_params(shapes, jnp.bfloat16)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda s: s.shape, shapes)
    up = params["blocks"]["mlp"]["up"]["kernel"].astype(jnp.float32)
    assert float(up.std()) == pytest.approx(model.dit.width**-0.5, rel=0.05)
    assert bool((params["time_norm"]["scale"] == 1).all())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--repeats", "2"], "repeats is 2, must be at least 3"),
        (["--batch-256", "0"], "batch_256 is 0, must be at least 1"),
        (["--parts", "nothing"], "train_256"),
    ],
)
def test_impossible_options_are_refused(capsys, argv, message):
    with pytest.raises((SystemExit, ValueError)) as stopped:
        cosmos_bench.main(argv)
    assert message in f"{stopped.value} {capsys.readouterr().err}"


def test_an_unknown_model_is_named_in_one_line(capsys):
    with pytest.raises(SystemExit):
        cosmos_bench.main(["--model", "cosmic"])
    assert "no model 'cosmic'" in capsys.readouterr().err


def test_parts_are_those_of_the_command():
    assert set(PARTS) == set(FIGURES)
