"""Costs against counts made another way, and against what was measured on an H200."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from wm.cosmos.networks import dit
from wm.cosmos.networks.config import PRESETS, resolve
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.training import cost

TINY, ACTION = PRESETS["tiny"], PRESETS["predict2.5-2b-action"]
CLIP_256, CLIP_512 = (17, 256, 256), (17, 512, 512)


def test_operations_are_those_that_xla_counts():
    one = replace(TINY, dit=replace(TINY.dit, blocks=1))  # XLA counts a loop over blocks once
    model = CosmosDiT(one.dit, one.action, dtype=jnp.float32)
    frames, side, batch = 9, 64, 2
    latents = jnp.zeros((batch, TINY.latent_frames(frames), side // 8, side // 8, 16))
    arguments = (latents, jnp.zeros(latents.shape[:2]), dit.empty_context(TINY.dit))
    actions = jnp.zeros((batch, frames - 1, TINY.action.width))
    params = jax.eval_shape(lambda: dit.init(model, jax.random.key(0)))
    lowered = jax.jit(lambda params: model.apply({"params": params}, *arguments, actions=actions)).lower(
        params
    )
    counted = lowered.cost_analysis()["flops"]
    ours = cost.forward_flops(one, frames, side, side, batch)
    # XLA also counts norms, softmax and activations, which weigh much in so narrow a network.
    assert ours < counted < 1.5 * ours


def test_the_2b_costs_what_was_published():
    assert cost.forward_flops(ACTION, *CLIP_512) / 1e12 == pytest.approx(23.6, abs=0.1)
    assert cost.forward_flops(ACTION, *CLIP_256) / 1e12 == pytest.approx(4.86, abs=0.05)
    # Keys and values of the context are computed once for all clips: 0.12 TFLOP.
    one, three = (cost.forward_flops(ACTION, *CLIP_256, batch=batch) / 1e12 for batch in (1, 3))
    assert 3 * one - three == pytest.approx(2 * 0.12, abs=0.01)


def test_counts_of_parts_add_up_to_the_published_ones():
    counts = cost.parameter_counts(PRESETS["predict2.5-2b"])
    assert cost.transformer_parameters(PRESETS["predict2.5-2b"]) == 2_059_174_912
    assert counts["text projection"] == 100_352 * 1024 + 1024
    assert counts["autoencoder"] == 126_892_531


def test_adapters_of_rank_32_have_the_published_size():
    assert cost.adapter_parameters(ACTION, 32) == pytest.approx(113.4e6, rel=0.002)


def test_memory_is_near_what_was_measured():
    # One H200, batch 16 at 256 x 256, no running mean: 55.7 GiB.
    state = cost.StateBytes(ema=0)
    memory = cost.training_memory(ACTION, CLIP_256, 16, "dots+attention", state=state)
    assert sum(memory.values()) == pytest.approx(55.7, rel=0.12)


def test_more_devices_and_less_remembered_need_less_memory():
    total = lambda *rest, **options: sum(  # noqa: E731
        cost.training_memory(ACTION, CLIP_512, 2, *rest, **options).values()
    )
    assert total("full") < total("dots") < total("dots+attention") < total("none")
    assert total("full", shards=8) < total("full")
    assert total("full", lora_rank=32) < total("full")


@pytest.mark.parametrize(
    ("model", "device", "devices", "plan"),
    [
        ("predict2.5-2b-action", "H200", 1, "full"),
        ("predict2.5-2b-action", "RTX 4090", 1, "LoRA"),
        ("predict2.5-14b", "H200", 1, "LoRA"),
        ("predict2.5-14b", "H200", 8, "full, sharded"),
        ("predict2.5-14b", "RTX 5090", 1, None),
    ],
)
def test_plans(model, device, devices, plan):
    found = cost.plans(PRESETS[model], CLIP_512, cost.DEVICES[device], devices)
    chosen, reason = cost.choose(found)
    if plan is None:
        assert chosen is None
        assert "nothing fits" in reason
        assert "frozen weights" in reason
    else:
        assert chosen.name == plan
        assert chosen.total_gib <= cost.DEVICES[device].memory_gib
        assert plan in reason


def test_devices_are_found_by_what_jax_calls_them():
    assert cost.peak_flops("NVIDIA H200") == 989e12
    assert cost.peak_flops("NVIDIA GeForce RTX 5090") == 209.5e12
    assert cost.peak_flops("cpu") is None


def test_the_autoencoder_is_counted_from_our_own_code():
    encode, decode = cost.autoencoder_flops(ACTION, *CLIP_256)
    assert encode / 1e12 == pytest.approx(5.7, rel=0.03)
    assert decode / 1e12 == pytest.approx(9.6, rel=0.03)


def test_early_names_are_explained():
    model, note = resolve("nano")
    assert model.name == "predict2.5-2b-action"
    assert "Cosmos3-Nano" in note
    with pytest.raises(ValueError, match=r"predict1-7b.*predict2\.5-14b"):
        resolve("super")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("predict2-14b", "predict2-14b"),
        ("nvidia/Cosmos-Predict2-2B-Video2World", "predict2-2b"),
        ("nvidia/Cosmos-Predict2.5-2B", "predict2.5-2b-action"),
        ("nvidia/Cosmos-Predict2.5-2B/base/post-trained", "predict2.5-2b"),
        ("nvidia/cosmos-1.0-diffusion-7b-video2world", "predict1-7b"),
    ],
)
def test_models_are_found_by_preset_and_repository(typed, name):
    assert resolve(typed)[0].name == name


def test_a_misspelt_name_gets_a_hint():
    with pytest.raises(ValueError, match=r"did you mean predict2\.5-14b"):
        resolve("predict2.5-14bn")


@pytest.mark.parametrize(("frames", "size"), [(16, (256, 256)), (0, (256, 256)), (17, (250, 256))])
def test_clips_that_do_not_fit_the_autoencoder_are_refused(frames, size):
    with pytest.raises(ValueError, match="fit"):
        partial(cost.tokens, ACTION)(frames, *size)
