"""A fine-tuning run of a tiny model: what it leaves behind, that it resumes to the bit, what it refuses."""

import json
import os
import shutil
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

import wm.cosmos
from configs.cosmos import Finetune, LoRAConfig, OptimizerConfig
from launch.cosmos import __main__ as cosmos
from launch.cosmos import finetune as cosmos_finetune
from launch.cosmos import run as cosmos_run
from launch.cosmos.finetune import train
from launch.shared import training
from tests.launch.shared import event_files
from wm.cosmos.networks import dit
from wm.cosmos.networks.config import PRESETS, ActionConfig
from wm.cosmos.networks.vae import initial_params
from wm.cosmos.training import clips
from wm.cosmos.training.clips import Clip
from wm.cosmos.weights import models
from wm.store import checkpoints

FRAMES, SIDE, ACTIONS, CLIPS = 5, 16, 3, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips and an autoencoder with random weights."""
    root = tmp_path_factory.mktemp("cosmos")
    (root / "clips").mkdir()
    generator = np.random.default_rng(0)
    for number in range(CLIPS):
        frames = generator.integers(0, 256, (FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
        actions = generator.normal(5.0, 3.0, (FRAMES - 1, ACTIONS)).astype(np.float32)
        clips.write(root / "clips" / f"{number:02d}.npz", Clip(frames, actions))
    vae = PRESETS["tiny"].vae
    params = jax.jit(initial_params, static_argnums=0)(vae, jax.random.key(0))
    models.save(root / "vae", vae, jax.device_get(params))
    return root


def options(folder, name, **changes) -> Finetune:
    asked = Finetune(
        data=folder / "clips",
        vae=folder / "vae",
        out=folder / name,
        model="tiny",
        frames=FRAMES,
        height=SIDE,
        width=SIDE,
        epochs=2,
        batch=2,
        devices=2,
        holdout=4,
        pictures=1,
        sampler_steps=2,
        optimizer=OptimizerConfig(warmup=1, compute="float32"),
    )
    return replace(asked, **changes)


@pytest.fixture(scope="module")
def whole(folder):
    """A run of two epochs of two steps, from beginning to end."""
    return train(options(folder, "whole"))[0]


def lines(folder, name):
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_run_leaves_what_it_says(folder, whole):
    run = folder / "whole"
    for name in ("config.json", "curves.png", "epoch-0001.png", "epoch-0002.png", "results.json"):
        assert (run / name).stat().st_size > 0
    steps = [line for line in lines(folder, "whole") if "loss" in line]
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    assert all(line["grad_norm"] > 0 for line in steps)
    assert all(line["tflops"] > 0 for line in steps[1:])
    assert whole["steps"] == 4
    judged = [line for line in lines(folder, "whole") if "held_out/loss" in line]
    assert [line["epoch"] for line in judged] == [0, 1]
    shown = event_files.read(run)
    assert len(shown) == len(steps) + len(judged)
    assert shown[-2][1]["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert shown[-1][1]["held_out/loss"] == pytest.approx(whole["held_out/loss"], rel=1e-6)
    model = models.load(run / "model")
    assert model.config.action.width == ACTIONS
    actions = np.concatenate([clips.read(path).actions for path in clips.find(folder / "clips")[: CLIPS - 4]])
    normaliser = json.loads((run / "normaliser.json").read_text())
    np.testing.assert_allclose(normaliser["mean"], actions.mean(0), rtol=1e-5)
    generator = wm.cosmos.load(run)
    assert (generator.frames, generator.scale.mean) == (FRAMES, tuple(normaliser["mean"]))


def ended_by_a_signal(monkeypatch, asked):
    """A run that is sent SIGTERM right after the checkpoint of its first epoch."""
    original = training.Folder.save

    def signalled(folder, step, *rest):
        original(folder, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training.Folder, "save", signalled)
    with pytest.raises(training.Stopped, match="3 of 4 steps are saved") as stopped:
        train(asked)
    monkeypatch.undo()
    assert stopped.value.status == 143


@pytest.mark.slow
def test_a_run_that_was_cut_equals_the_whole_one_to_the_bit(folder, whole, monkeypatch):
    """Cut before its first checkpoint, by --minutes after an epoch, and by a signal within the other."""
    (folder / "cut").mkdir()
    (folder / "cut" / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "lo')
    train(options(folder, "cut", minutes=1e-9))
    assert checkpoints.latest_step(folder / "cut" / "resume") == 2
    train(options(folder, "cut", minutes=1e-9))  # has had its time: nothing is left to do
    assert checkpoints.latest_step(folder / "cut" / "resume") == 2
    ended_by_a_signal(monkeypatch, options(folder, "within"))
    assert checkpoints.latest_step(folder / "within" / "resume") == 3
    for name in ("cut", "within"):
        train(options(folder, name))
        kept = [checkpoints.load_metadata(folder / n / "resume", 4)["leaves"] for n in ("whole", name)]
        assert kept[0] == kept[1]
        shapes = {n: jax.ShapeDtypeStruct(tuple(x["shape"]), x["dtype"]) for n, x in kept[0].items()}
        trees = [_leaves(folder / n / "resume", shapes) for n in ("whole", name)]
        for leaf, array in trees[0].items():
            assert array.tobytes() == trees[1][leaf].tobytes(), leaf
        losses = [[x["loss"] for x in lines(folder, n) if "loss" in x] for n in ("whole", name)]
        assert losses[0] == losses[1]
        judged = [[x["epoch"] for x in lines(folder, n) if "loss" not in x] for n in ("whole", name)]
        assert judged == [[0, 1], [0, 1]]


@pytest.mark.slow
def test_inputs_are_known_by_their_content(folder, whole, tmp_path):
    """The same clips and autoencoder elsewhere are the same run; another autoencoder in its place isn't."""
    for name in ("clips", "vae"):
        shutil.copytree(folder / name, tmp_path / name)
    again, _ = train(options(folder, "whole", data=tmp_path / "clips", vae=tmp_path / "vae"))
    assert again["loss"] == whole["loss"]
    shutil.rmtree(tmp_path / "vae")
    other = models.load(folder / "vae")
    changed = jax.tree.map(lambda leaf: leaf * 1.5, other.params)
    models.save(tmp_path / "vae", other.config, changed)
    with pytest.raises(ValueError, match=r"holds a run with data = .*: use the same, or another --out"):
        train(options(folder, "whole", vae=tmp_path / "vae"))


def _leaves(directory, shapes):
    """Arrays of a checkpoint by name, whatever structures they were saved in."""
    from flax.traverse_util import flatten_dict, unflatten_dict

    return flatten_dict(checkpoints.restore(directory, unflatten_dict(shapes, sep="/")), sep="/")


@pytest.mark.slow
def test_adapters_start_from_a_finished_model_with_other_actions(folder, whole):
    """LoRA on the model that the first run made, on clips whose actions have another width."""
    other = folder / "wide"
    other.mkdir()
    for path in clips.find(folder / "clips"):
        clip = clips.read(path)
        clips.write(other / path.name, Clip(clip.frames, np.concatenate([clip.actions] * 2, axis=1)))
    adapters = {"mode": "lora", "lora": LoRAConfig(rank=2), "epochs": 1, "backend": "fsdp"}
    start = folder / "whole" / "model"
    train(options(folder, "lora", data=other, init=start, **adapters))
    before, after = models.load(start), models.load(folder / "lora" / "model")
    assert after.config.action.width == 2 * ACTIONS
    old, new = (x.params["action"]["to_d"]["fc2"]["kernel"] for x in (before, after))
    assert old.shape == new.shape
    np.testing.assert_array_equal(before.params["patch"]["kernel"], after.params["patch"]["kernel"])
    moved = [np.abs(x.params["blocks"]["mlp"]["up"]["kernel"]).sum(dtype=np.float64) for x in (before, after)]
    assert moved[0] != moved[1]


@pytest.mark.slow
def test_a_folder_that_holds_another_run_is_refused(folder, whole):
    with pytest.raises(ValueError, match=r"holds a run with seed = 0, this command has 1: use the same, or"):
        train(options(folder, "whole", seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 9}, r"00\.npz: frames is 5, must be 9"),
        ({"height": 32}, r"00\.npz: size \(height, width\) is \(16, 16\), must be \(32, 16\)"),
        ({"width": 20}, "sides are multiples of 16"),
        ({"batch": 5}, "12 clips; 4 are held out and a step takes 10: lower --batch or --holdout"),
    ],
)
def test_what_cannot_be_trained_is_refused(folder, change, message):
    with pytest.raises(ValueError, match=message):
        train(options(folder, "refused", **change))
    assert not (folder / "refused").exists()


def copied(folder, root):
    """The clips in a folder of their own, beside which a file lies where their latents would be kept."""
    shutil.copytree(folder / "clips", root / "clips", ignore=shutil.ignore_patterns(".*"))
    (root / "clips" / ".latents").touch()
    return root / "clips"


def test_clips_that_cannot_be_written_to_are_encoded_into_the_run_folder(folder, tmp_path, capsys):
    data = copied(folder, tmp_path)
    (data / "._00.npz").write_bytes(b"\0\5\26\7")
    asked = options(folder, "", data=data, out=tmp_path / "run")
    run, _ = cosmos_run.make(asked)
    assert (tmp_path / "run" / ".latents" / run.data.fingerprint / "latents.npy").is_file()
    assert capsys.readouterr().out.splitlines() == [
        f"passed over in {data}: ._00.npz",
        f"{data}/.latents can't be written to: latents are kept in {tmp_path}/run/.latents",
    ]
    assert len(run.data) == CLIPS
    again, _ = cosmos_run.make(asked)  # they are found there, and nothing is said or written again
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(again.data.latents, run.data.latents)


def test_latents_are_kept_where_the_option_says(folder, tmp_path):
    asked = options(folder, "", data=copied(folder, tmp_path), latents=tmp_path / "kept")
    run, _ = cosmos_run.make(asked)
    assert (tmp_path / "kept" / run.data.fingerprint / "latents.npy").is_file()
    assert "latents" not in run.record()


def test_nowhere_to_keep_latents_is_said_in_one_line(folder, tmp_path):
    (tmp_path / "file").touch()
    asked = options(folder, "", data=copied(folder, tmp_path), out=tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"run/\.latents can't be written to \(Not a directory\); name a"):
        cosmos_run.make(asked)


def test_weights_of_another_model_are_refused_by_name():
    small = dit.CosmosDiT(PRESETS["tiny"].dit, ActionConfig(3, hidden=64))
    shapes = jax.eval_shape(lambda: dit.init(small, jax.random.key(0)))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    del params["out"]
    with pytest.raises(cosmos_run.FinetuneError, match="don't fit the model: out/kernel"):
        cosmos_run.complete(small, params, jax.random.key(0))


def test_the_command_names_its_verbs(capsys):
    cosmos.main(["--help"])
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in ("bench", "finetune", "shapes"))
    with pytest.raises(SystemExit) as stopped:
        cosmos.main(["finetnue"])
    assert stopped.value.code == 2
    assert "no verb 'finetnue': info, convert" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cosmos.main(["parity", "--record", "cosmos"])
    assert stopped.value.code == 2
    assert "the verb parity is now python -m tests.wm.cosmos.parity" in capsys.readouterr().err


def test_the_command_ends_in_one_line(folder, capsys):
    named = {"--data": folder / "nothing", "--vae": folder / "vae", "--out": folder / "x"}
    with pytest.raises(SystemExit) as stopped:
        cosmos_finetune.main([str(part) for pair in named.items() for part in pair] + ["--model", "tiny"])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
