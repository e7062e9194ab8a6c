"""Weights from somewhere else: an index leads to no other folder, config.json claims no endless model."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from launch.faults.models import prepare_weights
from wm.cosmos.networks.config import ActionConfig, DiTConfig, TokenizerConfig, VAEConfig
from wm.cosmos.training import clips
from wm.cosmos.weights import text_embedding
from wm.cosmos.weights.recognise import recognise
from wm.cosmos.weights.sources import WeightsError, open_source


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    prepare_weights(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A transformer in shards, whose files may be replaced."""
    for path in (whole / "transformer").iterdir():
        os.link(path, tmp_path / path.name)
    return tmp_path


def refusal(path) -> str:
    with pytest.raises(WeightsError) as caught, open_source(path) as source:
        recognise(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace(path, text):
    path.unlink()
    path.write_text(text if isinstance(text, str) else json.dumps(text))


INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.mark.parametrize(
    "name", ["../other/a.safetensors", "/etc/passwd", "..", "", "sub/a.safetensors", 5, None, ["a"]]
)
def test_an_index_lists_files_beside_it_alone(folder, name):
    listed = json.loads((folder / INDEX).read_text())
    first = next(iter(listed["weight_map"]))
    listed["weight_map"][first] = name
    replace(folder / INDEX, listed)
    assert "which is no name of a file beside it" in refusal(folder)


@pytest.mark.parametrize("name", [INDEX, "config.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", '{"weight_map": [1]}'])
def test_json_of_something_else_is_refused(folder, name, text):
    replace(folder / name, text)
    if name == "config.json" and text.startswith("{"):
        with open_source(folder) as source:  # names nothing that the weights contradict
            assert recognise(source).kind == "transformer"
    else:
        assert name in refusal(folder)


@pytest.mark.parametrize("name", [INDEX, "config.json", "action_embedders.safetensors"])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "is no file" in refusal(folder)


@pytest.mark.parametrize("scale", [[1], "abc", [1, 2, float("nan")], [1, 2, {}], 7, [10**400] * 3])
def test_config_json_says_numbers_or_is_refused(folder, scale):
    said = json.loads((folder / "config.json").read_text())
    replace(folder / "config.json", said | {"rope_scale": scale})
    assert "config.json can't be used" in refusal(folder)


@pytest.mark.parametrize("note", ["[" * 100_000, "{}", '{"name": 1}', "null"])
def test_a_model_s_own_note_is_read_strictly(tmp_path, note):
    save_file(
        {"blocks.0.self_attn.q_proj.weight": np.zeros((2, 2), np.float32)},
        tmp_path / "a.safetensors",
        {"openscope": note},
    )
    assert "described in it is unknown" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize("size", [0, -1, 10**9, 10**400])
def test_no_model_is_endless(size):
    makers = {
        DiTConfig: ("blocks", "width", "adaln_rank"),
        ActionConfig: ("hidden",),
        VAEConfig: ("base_dim", "num_res_blocks"),
        TokenizerConfig: ("num_layers", "patch_size"),
    }
    for maker, names in makers.items():
        for name in names:
            with pytest.raises(ValueError, match=f"{name} is"):
                maker(**{name: size})


def test_arrays_that_announce_too_much_are_refused(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4), }"
    header += b" " * (-len(header) - 11 % 64) + b"\n"
    (tmp_path / "text.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(WeightsError, match="can't be read as a text embedding"):
        text_embedding.read(tmp_path / "text.npy")
    clips.write(
        tmp_path / "a.npz", clips.Clip(np.zeros((2, 4, 4, 3), np.uint8), np.zeros((1, 3), np.float32))
    )
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[60:90] = os.urandom(30)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(clips.ClipError):
        clips.read(tmp_path / "a.npz")
