"""Known weights are known under a wrapper's names, beside their running means, and in mixed types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.wm.cosmos import published
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.weights import models, recognise, sources, text_embedding, wrappers
from wm.cosmos.weights.sources import WeightsError

TINY = PRESETS["tiny"]


def came_in(path, running_mean=False):
    """(parameters, lines for the user) of a file or folder."""
    with sources.open_source(path, running_mean) as source:
        return models.read(source, recognise.recognise(source)), source.said


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32))


@pytest.fixture(scope="module")
def weights():
    """(parameters, tensors by their published names)."""
    params = published.random_params(TINY)
    return params, published.tensors(TINY, params, "original")


@pytest.fixture(scope="module")
def means():
    params = published.random_params(TINY, seed=1)
    return params, published.tensors(TINY, params, "original")


@pytest.mark.parametrize(
    "front",
    [
        *("module.", "net.", "module.net.", "net.module.", "_orig_mod.", "module._orig_mod.", "model."),
        *("model.net.", "state_dict.module.net.", "student.", "trainer.student.net.", "_forward_module."),
        *("model.diffusion_model.", "ema.", "net_ema.", "module.net_ema.", "model_ema.module.", "ema_model."),
    ],
)
def test_a_wrappers_prefix_is_stripped(tmp_path, weights, front):
    params, state = weights
    counters = {"n_averaged": np.zeros((), np.int64), f"{front}accum_iteration": np.zeros(1, np.int64)}
    save_file({front + name: tensor for name, tensor in state.items()} | counters, tmp_path / "m.safetensors")
    read, _ = came_in(tmp_path / "m.safetensors")
    assert_same(read, params)


@pytest.mark.parametrize("inside", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_a_wrapper_inside_a_name_is_stripped(tmp_path, weights, inside):
    params, state = weights
    wrapped = {name.replace(".mlp.", f".{inside}.mlp."): tensor for name, tensor in state.items()}
    assert wrapped.keys() != state.keys()
    save_file(wrapped, tmp_path / "m.safetensors")
    assert_same(came_in(tmp_path / "m.safetensors")[0], params)


def test_an_index_of_shards_may_name_a_wrapper(tmp_path, weights):
    params, state = weights
    wrapped = {f"module.net.{name}": tensor for name, tensor in state.items()}
    assert_same(came_in(published.write_shards(tmp_path, wrapped, 3))[0], params)


NAMINGS = {
    "net_ema in front": ("net.", lambda name: f"net_ema.{name}"),
    "ema in front": ("module.", lambda name: f"ema.module.{name}"),
    "at the end of the name": ("", lambda name: f"{name}_ema"),
    "without dots": ("model.dit.", lambda name: f"model_ema.dit{name.replace('.', '')}"),
    "of the layer": ("", lambda name: f"{name.rpartition('.')[0]}_ema.{name.rpartition('.')[2]}"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_of_weights_and_running_means_one_is_chosen_and_said(tmp_path, weights, means, naming):
    front, of_mean = NAMINGS[naming]
    both = {front + name: tensor for name, tensor in weights[1].items()}
    both |= {of_mean(name): tensor for name, tensor in means[1].items()}
    save_file(both | {"model_ema.num_updates": np.zeros((), np.int32)}, tmp_path / "m.safetensors")
    read, said = came_in(tmp_path / "m.safetensors")
    assert_same(read, weights[0])
    assert said == [
        f"{tmp_path}/m.safetensors holds running means beside the weights: the weights were taken, "
        "see --running-mean"
    ]
    read, said = came_in(tmp_path / "m.safetensors", running_mean=True)
    assert_same(read, means[0])
    assert said[0].endswith("the means were taken")


def test_what_has_no_running_mean_is_taken_as_it_is(tmp_path, weights, means):
    some = {f"net_ema.{name}": tensor for name, tensor in means[1].items() if name.startswith("action_")}
    plain = {f"net.{name}": tensor for name, tensor in weights[1].items()}
    save_file(plain | some, tmp_path / "m.safetensors")
    read, _ = came_in(tmp_path / "m.safetensors", running_mean=True)
    assert_same(read["action"], means[0]["action"])
    assert_same(read["blocks"], weights[0]["blocks"])


def test_two_names_of_one_tensor_are_refused(tmp_path, weights):
    _, state = weights
    twice = {"net.x_embedder.proj.1.weight": np.zeros((48, 72), np.float32)}
    save_file(state | twice, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match=r"(net\.)?x_embedder.* and .* are the same tensor; keep one"):
        came_in(tmp_path / "m.safetensors")


def test_a_part_of_a_model_keeps_its_own_names():
    assert wrappers.common_front(["blocks.0.mlp.layer1.weight", "blocks.1.mlp.layer1.weight"]) == ""
    assert wrappers.common_front(["a.blocks.0.mlp.layer1.weight", "a.blocks.1.mlp.layer1.weight"]) == "a."
    assert wrappers.unwrapped("x_embedder.proj.1.weight") == ("x_embedder.proj.1.weight", False)


# Types


def rows(state, name):
    """The tensors of a layer of all blocks, in the order of the blocks."""
    return [f"blocks.{block}.{name}" for block in range(TINY.dit.blocks) if f"blocks.{block}.{name}" in state]


@pytest.mark.parametrize(
    ("types", "widest"),
    [
        ((jnp.bfloat16, np.float32), np.float32),
        ((np.float32, jnp.bfloat16), np.float32),
        ((np.float16, np.float32), np.float32),
        ((jnp.bfloat16, np.float16), np.float32),  # neither holds the other's numbers
        ((jnp.bfloat16, jnp.bfloat16), jnp.bfloat16),
        ((np.float16, np.float16), np.float16),
    ],
)
def test_blocks_of_different_types_keep_every_number(tmp_path, weights, types, widest):
    """1.001 in a float32 block behind a bfloat16 block stays 1.001; in bfloat16 it would be 1.0."""
    _, state = weights
    first, second = rows(state, "mlp.layer1.weight")
    mixed = dict(state)
    for name, dtype in zip((first, second), types, strict=True):
        mixed[name] = np.full_like(state[name], 1.001).astype(dtype)
    save_file(mixed, tmp_path / "m.safetensors")
    with sources.open_source(tmp_path / "m.safetensors") as source:
        found = recognise.recognise(source)
        read = models.read(source, found)
        assert models.mixed(source, found.slots) == ["blocks/mlp/up/kernel"] * (types[0] is not types[1])
        assert models.size(source, found.slots) == sum(leaf.nbytes for leaf in jax.tree.leaves(read))
        assert models.size(source, found.slots, jnp.dtype(jnp.bfloat16)) == 2 * models.count(found.slots)
    leaf = read["blocks"]["mlp"]["up"]["kernel"]
    assert leaf.dtype == widest
    for row, name in enumerate((first, second)):
        np.testing.assert_array_equal(leaf[row].astype(np.float64), mixed[name].T.astype(np.float64))
    assert read["blocks"]["mlp"]["down"]["kernel"].dtype == np.float32


# Files of a folder


def test_hidden_files_and_text_embeddings_are_no_weights(tmp_path, weights):
    params, state = weights
    folder = published.write_shards(tmp_path, state, 2)
    for name in ("._a.safetensors", ".DS_Store", "._x.index.json"):
        (folder / name).write_bytes(b"\0\5\26\7")
    save_file({"embedding": np.zeros((1, 3, 20), np.float32)}, folder / "cr1_text_embeddings.safetensors")
    read, said = came_in(folder)
    assert_same(read, params)
    assert said == [f"passed over in {folder}: .DS_Store, ._a.safetensors, ._x.index.json"]


def test_two_models_in_a_folder_are_refused_by_their_files(tmp_path, weights):
    save_file(weights[1], tmp_path / "model.safetensors")
    save_file(weights[1], tmp_path / "model_ema.safetensors")
    with pytest.raises(WeightsError, match=r"in both model\.safetensors and model_ema\.safetensors; name"):
        came_in(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == weights[1].keys()


def test_of_several_text_embeddings_that_of_the_empty_prompt_is_taken():
    empty, other = "cr1_empty_string_text_embeddings.pt", "robot_text_embeddings.pt"
    assert text_embedding.find(["a.pt", other, "._text_embeddings.pt"], "m") == other
    assert text_embedding.find([other, empty], "m") == empty
    assert text_embedding.find(["model.pt"], "m") is None
    with pytest.raises(WeightsError, match=f"several text embeddings: name one of {other}, b{other} by"):
        text_embedding.find([other, f"b{other}"], "m")


# Torch files


@pytest.mark.parity
def test_dictionaries_in_a_torch_file_are_wrappers_too(tmp_path, weights, means):
    import torch

    plain, mean = ({name: torch.from_numpy(x) for name, x in each[1].items()} for each in (weights, means))
    stored = {"model": {"module": plain}, "ema": {"module": mean}, "optimizer": {"state": {}}, "step": 3}
    torch.save(stored, tmp_path / "m.pt")
    for running_mean, (params, _) in ((False, weights), (True, means)):
        assert_same(came_in(tmp_path / "m.pt", running_mean)[0], params)
