"""Published files of every kind come in exactly, go out exactly, and are refused by name when damaged."""

import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.wm.cosmos import published
from tests.wm.cosmos.parity.vae_cases import TOKENIZER
from wm.cosmos.networks.config import PRESETS, DiTConfig, VAEConfig
from wm.cosmos.weights import export, models, recognise, sources, text_embedding
from wm.cosmos.weights.sources import WeightsError
from wm.store.checkpoints import CheckpointError

TINY = PRESETS["tiny"]
TEXT = replace(
    PRESETS["predict2.5-2b"],
    name="custom",
    dit=DiTConfig(width=48, blocks=2, heads=2, adaln_rank=8, context_width=32, text_width=80),
    repository="",
    folder="",
)
PREDICT1 = replace(
    PRESETS["predict1-7b"],
    name="custom",
    dit=DiTConfig(
        width=48,
        blocks=2,
        heads=2,
        adaln_rank=8,
        context_width=32,
        rope_scale=(2.0, 1.0, 1.0),
        learned_positions=(4, 6, 6),
    ),
    repository="",
    folder="",
)
VAE = TINY.vae
BF16 = np.dtype(jnp.bfloat16)


def came_in(path, expected=None):
    """(what was recognised, its parameters)."""
    with sources.open_source(path) as source:
        found = recognise.recognise(source, expected)
        return found, models.read(source, found)


def refusal(path, expected=None):
    """Message of the refusal; it has to fit on one line and start with where the fault is."""
    with pytest.raises(WeightsError) as caught:
        came_in(path, expected)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("config", "naming"),
    [
        (TINY, "original"),
        (TINY, "diffusers"),
        (TEXT, "original"),
        (TEXT, "diffusers"),
        (PREDICT1, "original-1"),
        (PREDICT1, "diffusers"),
    ],
)
@pytest.mark.parametrize("files", ["one", "sharded", "sharded without an index"])
def test_transformers_come_in_exactly(tmp_path, config, naming, files):
    params = published.random_params(config, dtype=BF16)
    state = published.tensors(config, params, naming)
    if naming != "diffusers":
        state = {f"net.{name}": tensor for name, tensor in state.items()}
        state["net.accum_iteration"] = np.zeros(1, np.int64)  # what training leaves behind
        state["net.pos_embedder.seq"] = np.zeros(8, np.float32)
    published.write_shards(tmp_path, state, 1 if files == "one" else 3, index=files == "sharded")
    found, read = came_in(tmp_path)
    assert (found.kind, found.naming) == ("transformer", naming)
    assert found.config == config
    assert_same(read, params)


@pytest.mark.parametrize("naming", ["original", "diffusers"])
def test_autoencoders_come_in_exactly(tmp_path, naming):
    for config in (VAE, VAEConfig(base_dim=8, num_res_blocks=2, latents_mean=(0.5,) * 16)):
        params = published.random_params(config)
        folder = published.write_shards(
            tmp_path / f"{config.num_res_blocks}", published.tensors(config, params, naming), 1
        )
        (folder / "config.json").write_text(json.dumps(export.diffusers_config(config)))
        found, read = came_in(folder)
        assert found.config == config
        assert_same(read, params)


def test_latents_without_statistics_are_refused(tmp_path):
    config = VAEConfig(base_dim=8)
    state = published.tensors(config, published.random_params(config), "original")
    assert "mean and std of its latents aren't known" in refusal(published.write_shards(tmp_path, state, 1))


def test_only_config_json_tells_a_tokenizer_of_other_sizes(tmp_path):
    config = TOKENIZER
    params = published.random_params(config)
    folder = published.write_shards(tmp_path, published.tensors(config, params, "diffusers"), 1)
    (folder / "config.json").write_text(json.dumps(export.diffusers_config(config)))
    found, read = came_in(folder)
    assert found.config == config
    assert_same(read, params)


@pytest.mark.parity
def test_the_original_tokenizer_brings_its_statistics(tmp_path, monkeypatch):
    import torch

    narrow = replace(TOKENIZER, attention_resolutions=(32,), latents_mean=None, latents_std=None)
    monkeypatch.setattr(recognise, "_tokenizer", lambda naming, source: narrow)
    params = published.random_params(narrow)
    state = published.tensors(narrow, params, "original")
    published.write_shards(tmp_path, state | {"encoder.patcher3d.wavelets": np.ones(2, np.float32)}, 1)
    assert refusal(tmp_path).endswith("put its config.json beside it, or mean_std.pt")
    torch.save((torch.zeros(16, 3), torch.full((16, 3), 2.0)), tmp_path / "mean_std.pt")
    found, read = came_in(tmp_path)
    assert found.config == replace(narrow, latents_mean=(0.0,) * 48, latents_std=(2.0,) * 48)
    assert_same(read, params)


@pytest.mark.parity
def test_torch_files_come_in_exactly(tmp_path):
    import torch

    params = published.random_params(TEXT, dtype=BF16)
    state = {
        f"net.{name}": torch.from_numpy(tensor.astype(np.float32)).to(torch.bfloat16)
        for name, tensor in published.tensors(TEXT, params, "original").items()
    }
    for number, wrapped in enumerate((state, {"model": state}, {"state_dict": state})):
        torch.save(wrapped, tmp_path / f"{number}.pt")
        found, read = came_in(tmp_path / f"{number}.pt")
        assert found.config == TEXT
        assert_same(read, params)
    cut = tmp_path / "cut.pt"
    cut.write_bytes((tmp_path / "0.pt").read_bytes()[:-1000])
    assert "damaged, cut short" in refusal(cut)


@pytest.mark.parity
def test_a_torch_file_with_code_in_it_is_refused(tmp_path):
    import torch

    torch.save({"net.x_embedder.proj.1.weight": re.compile}, tmp_path / "code.pt")
    assert "holds more than weights" in refusal(tmp_path / "code.pt")


# Damage


@pytest.fixture(scope="module")
def whole():
    return published.tensors(TEXT, published.random_params(TEXT), "diffusers")


BLOCK = "transformer_blocks.1.attn2.to_k.weight"


def damaged(whole, damage):
    state = dict(whole)
    damage(state)
    return state


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda s: s.pop(BLOCK), [f"{BLOCK} is missing"]),
        (lambda s: s.pop("patch_embed.proj.weight"), ["patch_embed.proj.weight is missing"]),
        (lambda s: s.update(lora=s[BLOCK]), ["lora doesn't belong to it"]),
        (
            lambda s: s.update({BLOCK: s[BLOCK][:-1]}),
            [f"{BLOCK} is (47, 32), must be (48, 32)"],
        ),
        (lambda s: s.update({BLOCK: s[BLOCK].astype(np.int8)}), [f"{BLOCK} is of type I8"]),
        (
            lambda s: [s.pop(BLOCK), s.pop("proj_out.weight"), s.update(more=s["norm_out.linear_1.weight"])],
            [f"{BLOCK} is missing", "proj_out.weight is missing", "more doesn't belong"],
        ),
    ],
)
def test_every_wrong_tensor_is_named(tmp_path, whole, damage, told):
    folder = published.write_shards(tmp_path, damaged(whole, damage), 2)
    message = refusal(folder, TEXT)
    for part in told:
        assert part in message


def test_wrong_tensors_are_named_without_a_model_in_mind(tmp_path):
    state = published.tensors(TINY, published.random_params(TINY), "original")
    del state["x_embedder.proj.1.weight"]  # shapes no longer spell out the configuration
    message = refusal(published.write_shards(tmp_path, state, 1))
    assert "isn't a whole tiny" in message
    assert message.endswith("x_embedder.proj.1.weight is missing")


def test_a_file_that_was_cut_short_is_refused(tmp_path, whole):
    folder = published.write_shards(tmp_path, whole, 2)
    file = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert f"{file} is damaged or cut short" in refusal(folder)
    file.write_bytes(b"\x00")
    assert f"{file} is damaged or cut short" in refusal(folder)


def test_shards_and_their_index_have_to_agree(tmp_path, whole):
    folder = published.write_shards(tmp_path, whole, 2)
    second = folder / "diffusion_pytorch_model-00002-of-00002.safetensors"
    tensors = load_file(second)
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, second)
    assert f"{second} lacks {name}" in refusal(folder)
    save_file(tensors | {"more": tensors[name]}, second)
    assert f"{second} holds more" in refusal(folder)
    second.unlink()
    assert f"{second} is missing" in refusal(folder)


def test_a_model_of_another_kind_is_refused(tmp_path, whole):
    save_file(
        {f"layers.{i}.self_attn.q_proj.weight": np.zeros((2, 2), np.float32) for i in range(9)},
        tmp_path / "language.safetensors",
    )
    assert "is of another model, with tensors such as layers.0" in refusal(tmp_path / "language.safetensors")
    image = dict(whole)
    image["patch_embed.proj.weight"] = np.zeros((48, 68), np.float32)  # takes no condition mask
    folder = published.write_shards(tmp_path / "image", image, 1)
    assert "patch_embed.proj.weight is (48, 68), must be (48, 72)" in refusal(folder, TEXT)


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 3), ("attention_head_dim", 48), ("crossattn_proj_in_channels", 81)]
)
def test_a_config_that_contradicts_the_weights_is_refused(tmp_path, whole, name, value):
    folder = published.write_shards(tmp_path, whole, 1)
    told = export.diffusers_config(TEXT)
    (folder / "config.json").write_text(json.dumps(told | {name: value}))
    assert f"config.json says {name} = {value}, the weights {told[name]}" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "config.json isn't JSON" in refusal(folder)


def test_nothing_there_is_said_so(tmp_path):
    with pytest.raises(WeightsError, match="no such file or folder"):
        sources.open_source(tmp_path / "none")
    with pytest.raises(WeightsError, match=r"holds no \.safetensors"):
        sources.open_source(tmp_path)


# Ours


def test_a_model_is_kept_with_its_configuration_and_context(tmp_path):
    params = published.random_params(TEXT, dtype=BF16)
    context = np.ones((1, 3, 32), np.float32)
    models.save(tmp_path / "m", TEXT, params, context, {"source": "x.pt"})
    model = models.load(tmp_path / "m")
    assert model.config == TEXT
    assert_same(model.params, params)
    np.testing.assert_array_equal(model.context, context)
    assert model.metadata["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    with pytest.raises(CheckpointError, match="exists already"):
        models.save(tmp_path / "m", TEXT, params)


def test_leaves_are_placed_one_by_one(tmp_path):
    params = published.random_params(VAE)
    models.save(tmp_path / "m", VAE, params)
    placed = []

    def place(path, leaf):
        placed.append(path)
        return jnp.asarray(leaf, jnp.bfloat16)

    model = models.load(tmp_path / "m", place)
    assert sorted(placed) == sorted(models.flat(params))
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {BF16}


def test_parameters_of_another_configuration_are_refused(tmp_path):
    params = published.random_params(VAE)
    with pytest.raises(WeightsError, match=r"decoder/conv_in/bias is \(8,\), the configuration says \(16,\)"):
        models.save(tmp_path / "m", replace(VAE, base_dim=16), params)
    assert not (tmp_path / "m").exists()


def test_no_room_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(WeightsError, match=r"no room for .*: 9313225.75 GiB are to be written"):
        models.require_space(tmp_path / "not" / "yet", 10**16)
    assert not list(tmp_path.iterdir())


def test_text_is_projected_as_the_model_does(tmp_path):
    params = published.random_params(TEXT)
    raw = np.random.default_rng(0).standard_normal((5, 80), np.float32)
    save_file({"embedding": raw}, tmp_path / "t.safetensors")
    embedding = text_embedding.read(tmp_path / "t.safetensors")
    assert embedding.shape == (1, 5, 80)
    projected = text_embedding.project(TEXT.dit, params, embedding)
    layer = params["text_proj"]
    before = raw.astype(np.float64) @ layer["kernel"] + layer["bias"]
    erf = np.vectorize(__import__("math").erf)
    np.testing.assert_allclose(projected[0], before * (1 + erf(before / np.sqrt(2))) / 2, atol=1e-5)
    np.testing.assert_array_equal(text_embedding.project(TEXT.dit, params, projected), projected)
    with pytest.raises(WeightsError, match="81 wide; this model takes 80 or 32"):
        text_embedding.project(TEXT.dit, params, np.zeros((1, 5, 81), np.float32))


# Export


@pytest.mark.parametrize("config", [TINY, TEXT, PREDICT1, VAE], ids=["tiny", "text", "predict1", "vae"])
def test_an_export_comes_back(tmp_path, config):
    params = published.random_params(config, dtype=BF16)
    models.save(tmp_path / "m", config, params)
    files = export.export(tmp_path / "e", models.load(tmp_path / "m"), shard_bytes=60_000)
    assert max(f.stat().st_size for f in files if "diffusion" in f.name and "index" not in f.name) < 400_000
    found, read = came_in(tmp_path / "e")
    assert found.config == config
    assert_same(read, params)
    with pytest.raises(WeightsError, match="exists already"):
        export.export(tmp_path / "e", models.load(tmp_path / "m"))


def test_what_was_never_published_is_not_exported(tmp_path):
    config = replace(TEXT, dit=replace(TEXT.dit, step_hidden=4))
    model = models.Model(config, published.random_params(config), None, {})
    with pytest.raises(WeightsError, match="step-size network"):
        export.export(tmp_path / "e", model)
    assert not list(tmp_path.iterdir())


@pytest.mark.parity
@pytest.mark.parametrize(
    ("config", "name"),
    [
        (TEXT, "CosmosTransformer3DModel"),
        (PREDICT1, "CosmosTransformer3DModel"),
        (TINY, "CosmosTransformer3DModel"),
        (VAE, "AutoencoderKLWan"),
        (TOKENIZER, "AutoencoderKLCosmos"),
    ],
)
def test_diffusers_loads_an_export_with_the_same_numbers_and_settings(tmp_path, config, name):
    import diffusers

    params = published.random_params(config)
    export.export(tmp_path / "e", models.Model(config, params, None, {}), shard_bytes=60_000)
    model, report = getattr(diffusers, name).from_pretrained(tmp_path / "e", output_loading_info=True)
    assert not any(report.values())
    expected = published.tensors(config, params, "diffusers")
    state = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    assert state.keys() == {key for key in expected if not key.startswith("action_embedder")}
    for key, tensor in state.items():
        np.testing.assert_array_equal(tensor, expected[key])
    told = export.diffusers_config(config)
    for key in told.keys() - {"_class_name"}:
        assert json.dumps(model.config[key]) == json.dumps(told[key]), key
