"""The verbs info and generate, and the video files that generation reads and writes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs.cosmos_use import Generate, Info
from launch.cosmos import generate as cosmos_generate
from launch.cosmos import info as cosmos_info
from launch.shared import video
from tests.wm.cosmos.parity.case import random_tree
from wm.cosmos.networks import dit, vae
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.training.clips import Normaliser
from wm.cosmos.weights import models

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a small transformer and its autoencoder, as `convert` leaves them, and the actions' scale."""
    root = tmp_path_factory.mktemp("models")
    network = CosmosDiT(TINY.dit, TINY.action)
    shapes = jax.eval_shape(lambda: dit.init(network, jax.random.key(0)))
    coder = jax.eval_shape(lambda: vae.initial_params(TINY.vae, jax.random.key(0)))
    models.save(root / "whole" / "transformer", TINY, random_tree(shapes, 0))
    models.save(root / "whole" / "vae", TINY.vae, random_tree(coder, 1))
    scale = Normaliser((1.0, 2.0, 3.0), (2.0, 2.0, 2.0))
    (root / "normaliser.json").write_text(json.dumps(dataclasses.asdict(scale)))
    np.save(root / "wide.npy", np.zeros((4, 33)))
    np.save(root / "flat.npy", np.zeros(32))
    np.savetxt(root / "actions.csv", np.ones((8, 3)), delimiter=",")
    return root


def request(folder, **options):
    given = {"actions": folder / "actions.csv", "frames": 5, "steps": 1, "height": 16, "width": 32}
    return Generate(str(folder / "whole"), **{**given, **options})


def test_generate_writes_video_picture_and_results(folder, tmp_path):
    results = cosmos_generate.generate(request(folder, out=tmp_path / "run"))
    assert results["frames"] == 9
    assert video.read(tmp_path / "run" / "video.mp4").shape == (9, 16, 32, 3)
    assert video.read(tmp_path / "run" / "frames.png").shape == (1, 16, 3 * 32, 3)
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert stored["seconds_per_frame"] > 0
    assert stored["config"]["frames"] == 5


def test_actions_are_scaled_as_in_training(folder):
    np.testing.assert_allclose(
        cosmos_generate.actions_of(request(folder), TINY), np.broadcast_to([0.0, -0.5, -1.0], (1, 8, 3))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": 6}, "6 frames don't fit tiny"),
        ({"height": 20}, "multiples of 16"),
        ({"actions": None}, "takes actions of 3"),
        ({"start": "none.png"}, "no such file"),
        ({"actions": "none.csv"}, "can't be read as actions"),
        ({"context": "none.npy"}, "can't be read as a text embedding"),
        ({"context": "wide.npy"}, "33 wide; this model takes 32"),
        ({"context": "flat.npy"}, "a text embedding is (1, tokens, width), this one is (32,)"),
        ({"vae": "whole/transformer"}, "wants a VAEConfig"),
        ({"schedule": "few"}, "wasn't trained to sample in few steps"),
    ],
)
def test_what_can_not_be_generated_is_refused_in_one_line(folder, tmp_path, options, words, capsys):
    paths = {
        name: folder / value if isinstance(value, str) and name != "schedule" else value
        for name, value in options.items()
    }
    asked = request(folder, **paths, out=tmp_path / "run")
    argv = ["--model", asked.model, "--out", str(asked.out)]
    for name in ("actions", "start", "context", "vae", "frames", "steps", "height", "width", "schedule"):
        if getattr(asked, name) is not None:
            argv += [f"--{name}", str(getattr(asked, name))]
    with pytest.raises(SystemExit) as stopped:
        cosmos_generate.main(argv)
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


def test_large_presets_want_converted_weights():
    with pytest.raises(ValueError, match="convert its weights first"):
        cosmos_generate.world_of(Generate("predict2.5-2b"))


def test_info_names_parameters_speed_and_a_plan(capsys):
    cosmos_info.main(["--model", "nano", "--device", "H100", "--devices", "2"])
    text = capsys.readouterr().out
    assert "Cosmos3-Nano" in text.splitlines()[0]
    for part in (
        "2,126,767,104",
        "126,892,531",
        "samples/s",
        "s per generated frame",
        "full, sharded",
        "plan:",
    ):
        assert part in text


def test_info_says_why_nothing_fits(capsys):
    cosmos_info.main(["--model", "predict2.5-14b", "--device", "RTX 4090"])
    assert "plan: nothing fits" in capsys.readouterr().out


def test_info_reads_a_folder_and_refuses_an_autoencoders(folder, capsys):
    cosmos_info.main(["--model", str(folder / "whole" / "transformer")])
    assert capsys.readouterr().out.startswith("tiny: 111,152 parameters")
    with pytest.raises(SystemExit):
        cosmos_info.main(["--model", str(folder / "whole" / "vae")])
    assert "isn't a converted transformer" in capsys.readouterr().err


def test_info_expects_what_its_shares_say():
    config = Info(train_share=0.5, forward_share=0.25, autoencoder_share=0.5, steps=10)
    model = PRESETS["predict2.5-2b-action"]
    speed = cosmos_info.speeds(model, config)
    assert speed["training_samples_per_s"] == pytest.approx(989 * 0.5 / speed["training_tflop"])
    drawing = 10 * speed["forward_tflop"] / (989 * 0.25)
    assert speed["seconds_per_frame_without_decoding"] == pytest.approx(drawing / 16)
    assert speed["seconds_per_frame"] == pytest.approx((drawing + speed["decode_tflop"] / (989 * 0.5)) / 16)
    twice = cosmos_info.speeds(model, dataclasses.replace(config, devices=2))
    assert twice["frames_per_s"] == pytest.approx(2 * speed["frames_per_s"])


def test_video_comes_back_as_it_was_written(tmp_path):
    rows = np.linspace(-1, 1, 64, dtype=np.float32)
    frames = np.broadcast_to(rows[None, :, None, None], (3, 64, 96, 3))
    with video.writer(tmp_path / "a.mp4", 64, 96, 10) as write:
        write(frames[:1])
        write(frames[1:])
        assert not (tmp_path / "a.mp4").exists()
    back = video.read(tmp_path / "a.mp4")
    assert back.shape == (3, 64, 96, 3)
    assert np.abs(back - frames).mean() < 0.05
    assert len(video.read(tmp_path / "a.mp4", last=2)) == 2


def test_colours_keep_their_order(tmp_path):
    red = np.zeros((1, 32, 32, 3), np.uint8)
    red[..., 0] = 255
    with video.writer(tmp_path / "red.mp4", 32, 32, 10) as write:
        write(red)
    assert video.read(tmp_path / "red.mp4").mean((0, 1, 2)) == pytest.approx([1, -1, -1], abs=0.1)


def test_a_video_that_fails_leaves_nothing(tmp_path):
    with (
        pytest.raises(video.VideoError, match=r"must be \(16, 16, 3\)"),
        video.writer(tmp_path / "a.mp4", 16, 16, 10) as write,
    ):
        write(np.zeros((1, 8, 16, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(video.VideoError, match="isn't a picture or video"):
        video.read(tmp_path / "a.mp4")
