"""What a Cosmos model costs: parameters, memory by part, floating-point operations, and what fits where.

Operations are those of matrix products; a multiplication and an addition are two. A training step counts as
three forward passes, whatever is recomputed. Memory is an estimate: what is kept from block to block is
counted, and what one block needs at a time was fitted to runs of the 2B on an H200.

Letters: B batch, S tokens of a clip, D width, L blocks, K context tokens.
"""

import math
from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp

from wm.cosmos.networks import autoencoder, dit
from wm.cosmos.networks.config import TEXT_TOKENS, ModelConfig, VAEConfig
from wm.cosmos.networks.dit import CosmosDiT, Remat

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """An accelerator: its dense bf16 peak and its memory."""

    name: str
    peak_tflops: float
    memory_gib: float


# The makers' figures; memory is what a program can have.
DEVICES = {
    device.name: device
    for device in (
        Device("H200", 989.0, 139.0),
        Device("H100", 989.0, 78.0),
        Device("A100", 312.0, 78.0),
        Device("B200", 2250.0, 178.0),
        Device("RTX 5090", 209.5, 31.0),
        Device("RTX 4090", 165.2, 23.0),
    )
}

# Bytes per token, block and unit of width that the backward pass keeps, bf16: the block's input; with "dots"
# also q, k, v, out, cross q and out, and the MLP's hidden and output; with attention also its two outputs.
KEPT_BYTES: dict[Remat, float] = {"full": 2, "dots": 24, "dots+attention": 28, "none": 80}
WORKING_BYTES = 80  # per token and unit of width while one block runs, forward and backward
RESERVED_GIB = 3.0  # context, compiled programs, fragmentation


def device_of(kind: str) -> Device | None:
    """The entry of `DEVICES` that a device kind such as "NVIDIA H200" names, or None."""
    return next((device for name, device in DEVICES.items() if name in kind), None)


def peak_flops(kind: str) -> float | None:
    """Dense bf16 peak of a device kind, in FLOP/s; None if the kind isn't known."""
    device = device_of(kind)
    return device.peak_tflops * 1e12 if device else None


# Operations


def tokens(model: ModelConfig, frames: int, height: int, width: int) -> int:
    """S of a clip of `frames` pixel frames."""
    rows, columns = model.latent_size(height, width)
    return model.latent_frames(frames) * (rows // model.dit.patch) * (columns // model.dit.patch)


def forward_flops(model: ModelConfig, frames: int, height: int, width: int, batch: int = 1) -> float:
    """Operations of one pass of `batch` clips through the transformer; they share one row of context."""
    config = model.dit
    d, s = config.width, tokens(model, frames, height, width)
    latent_frames = model.latent_frames(frames)
    per_block = (8 + 4 + 4 * config.mlp_ratio) * s * d**2 + 4 * s * d * (s + TEXT_TOKENS)
    modulation = 2 * latent_frames * config.adaln_rank * 4 * d
    ends = 2 * s * d * (config.patch_channels + config.patch**2 * config.latent_channels)
    time = 2 * latent_frames * 4 * d**2
    own = config.blocks * (per_block + 3 * modulation) + ends + time
    if model.action:
        inputs = model.action.per_latent * model.action.width
        own += 2 * (latent_frames - 1) * model.action.hidden * (2 * inputs + 4 * d)
    context = config.blocks * 4 * TEXT_TOKENS * config.context_width * d
    return float(batch * own + context)


@cache
def autoencoder_flops(model: ModelConfig, frames: int, height: int, width: int) -> tuple[float, float]:
    """Operations of encoding and of decoding one clip, as XLA counts them in our own code."""
    coder = autoencoder.module(model.vae)
    rows, columns = model.latent_size(height, width)
    video = jax.ShapeDtypeStruct((1, frames, height, width, 3), jnp.float32)
    latents = jax.ShapeDtypeStruct(
        (1, model.latent_frames(frames), rows, columns, model.dit.latent_channels), jnp.float32
    )
    params = jax.eval_shape(partial(coder.init, jax.random.key(0)), video)
    return tuple(
        jax.jit(partial(coder.apply, method=method)).lower(params, value).cost_analysis()["flops"]
        for method, value in (("encode", video), ("decode", latents))
    )


# Parameters and memory


@cache
def parameter_counts(model: ModelConfig) -> dict[str, int]:
    """Parameters by part: the transformer's, and "autoencoder"; nothing is allocated."""
    network = CosmosDiT(model.dit, model.action)
    shapes = jax.eval_shape(lambda: dit.init(network, jax.random.key(0)))
    named = {"blocks": "blocks", "text_proj": "text projection", "action": "action path"}
    counts: dict[str, int] = {}
    for name, part in shapes.items():
        where = named.get(name, "embeddings and output")
        counts[where] = counts.get(where, 0) + _size(part)
    coder = jax.eval_shape(partial(autoencoder.initial_params, model.vae), jax.random.key(0))
    return {**counts, "autoencoder": _size(coder)}


def transformer_parameters(model: ModelConfig) -> int:
    """Parameters of the transformer, all parts."""
    return sum(count for part, count in parameter_counts(model).items() if part != "autoencoder")


def adapter_parameters(model: ModelConfig, rank: int) -> int:
    """Parameters that LoRA of `rank` adds to all attention and MLP matrices, and the action path's."""
    config = model.dit
    d, hidden = config.width, config.mlp_ratio * config.width
    inputs_and_outputs = 6 * 2 * d + 2 * (config.context_width + d) + 2 * (d + hidden)
    return config.blocks * rank * inputs_and_outputs + parameter_counts(model).get("action path", 0)


@dataclass(frozen=True)
class StateBytes:
    """Bytes per trained parameter: master copy, 16-bit copy, gradient, two moments, running mean."""

    master: int = 4
    copy: int = 2
    gradient: int = 2
    moments: int = 4
    ema: int = 2

    @property
    def total(self) -> int:
        return self.master + self.copy + self.gradient + self.moments + self.ema


@dataclass(frozen=True)
class Plan:
    """A way to train that fits, or the nearest that doesn't.

    Attributes:
      name: "full", "full, sharded", "LoRA" or "LoRA, sharded".
      remat: what blocks keep. batch: clips per device.
      memory: GiB per device by part.
      fits: whether they fit into the device.
    """

    name: str
    remat: Remat
    batch: int
    memory: dict[str, float]
    fits: bool

    @property
    def total_gib(self) -> float:
        return sum(self.memory.values())


def training_memory(
    model: ModelConfig,
    clip: tuple[int, int, int],
    batch: int,
    remat: Remat,
    lora_rank: int = 0,
    shards: int = 1,
    state: StateBytes | None = None,
) -> dict[str, float]:
    """GiB per device by part of a training step on cached latents.

    Args:
      model: the text projection isn't part of training, its output is cached.
      clip: frames, height, width in pixels. batch: clips per device.
      remat: what blocks keep.
      lora_rank: 0 trains everything. shards: devices that parameters and states are spread over.
      state: bytes per trained parameter.
    """
    state, config = state or StateBytes(), model.dit
    model = model.without_text()
    count, n = transformer_parameters(model), batch * tokens(model, *clip)
    trained = adapter_parameters(model, lora_rank) if lora_rank else count
    frozen = 2 * count if lora_rank else 0
    gathered = 0 if shards == 1 else 2 * 2 * count / config.blocks  # one block, and the next in flight
    return {
        "frozen weights": frozen / shards / GIB,
        "weights, gradients, optimiser": (trained * state.total / shards + gathered) / GIB,
        "activations kept": n * config.width * config.blocks * KEPT_BYTES[remat] / GIB,
        "activations of a block": n * config.width * WORKING_BYTES / GIB,
        "reserved": RESERVED_GIB,
    }


def plans(
    model: ModelConfig, clip: tuple[int, int, int], device: Device, devices: int = 1, lora_rank: int = 32
) -> list[Plan]:
    """Every way of training, each at the largest batch up to 64 that fits, or at one clip if none does."""
    ways: list[tuple[str, int, int]] = [("full", 0, 1), ("LoRA", lora_rank, 1)]
    if devices > 1:
        ways += [("full, sharded", 0, devices), ("LoRA, sharded", lora_rank, devices)]
    found = []
    for name, rank, shards in ways:
        options = []
        for remat in ("dots+attention", "full"):
            for batch in (64, 32, 16, 8, 4, 2, 1):
                memory = training_memory(model, clip, batch, remat, rank, shards)
                fits = sum(memory.values()) <= device.memory_gib
                options.append(Plan(name, remat, batch, memory, fits))
        # Keeping matrix products is faster, but not by so much as a batch of one is slower.
        fitting = [plan for plan in options if plan.fits]
        busy = [plan for plan in fitting if plan.batch * tokens(model, *clip) >= 4096]
        found.append(next(iter(busy or fitting), options[-1]))
    return found


def choose(found: list[Plan]) -> tuple[Plan | None, str]:
    """The first plan that fits, fullest first, and why; or None and the reason that none does."""
    order = ("full", "full, sharded", "LoRA", "LoRA, sharded")
    ranked = sorted(found, key=lambda plan: order.index(plan.name))
    for plan in ranked:
        if plan.fits:
            return plan, f"{plan.name} fits: {plan.total_gib:.1f} GiB per device at batch {plan.batch}"
    nearest = min(found, key=lambda plan: plan.total_gib)
    part, size = max(nearest.memory.items(), key=lambda item: item[1])
    return None, (
        f"nothing fits: {nearest.name} needs {nearest.total_gib:.1f} GiB per device for one clip, "
        f"{size:.1f} of them for {part}; use more devices or a smaller clip"
    )


def inference_memory(model: ModelConfig, clip: tuple[int, int, int], batch: int) -> dict[str, float]:
    """GiB on one device by part while clips are generated and decoded."""
    frames, height, width = clip
    n = batch * tokens(model, *clip)
    base = model.vae.base_dim if isinstance(model.vae, VAEConfig) else model.vae.decode_block_out_channels[0]
    counts = parameter_counts(model)
    return {
        "transformer": 2 * transformer_parameters(model.without_text()) / GIB,
        "autoencoder": 2 * counts["autoencoder"] / GIB,
        "activations of a block": n * model.dit.width * WORKING_BYTES / 2 / GIB,
        # The last level of the decoder holds a few copies of the clip with `base` channels.
        "decoding, clip by clip": 4 * 2 * frames * height * width * base / GIB,
        "reserved": RESERVED_GIB,
    }


def _size(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
