"""Which tensor of a published checkpoint is which of our parameters.

Published checkpoints name tensors in two ways: as NVIDIA (or Wan) trained them ("original") and as diffusers
publishes them ("diffusers"). A key map lists, for one model and naming, every tensor that the file must hold:
its name, its shape there, and the leaf of our parameter tree that it becomes (of stacked blocks, with the row
of the leaf). Torch keeps a kernel as (out, in, *window); we keep (*window, in, out).
"""

import re
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from wm.cosmos import tokenizer, vae
from wm.cosmos.config import TokenizerConfig, VAEConfig

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Slot:
    """One tensor of a file and its place among our parameters.

    Attributes:
      name: of the tensor in the file.
      shape: of the tensor in the file.
      path: of our leaf, such as "decoder/conv_in/kernel".
      leaf: shape that the tensor has there, without the axis of stacked blocks.
      row: which block of a stacked leaf; None where the leaf is this tensor alone.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    leaf: tuple[int, ...]
    row: int | None = None


def to_ours(slot: Slot, tensor: np.ndarray) -> np.ndarray:
    """A tensor as in the file -> as in our tree."""
    if slot.path.endswith("/kernel"):
        tensor = np.moveaxis(tensor, (0, 1), (-1, -2))
    return tensor.reshape(slot.leaf)


def to_theirs(slot: Slot, array: np.ndarray) -> np.ndarray:
    """Inverse of `to_ours`."""
    if slot.path.endswith("/kernel"):
        array = np.moveaxis(array, (-1, -2), (0, 1))
    return np.ascontiguousarray(array).reshape(slot.shape)


def flat_shapes(tree) -> Shapes:
    """Shapes of a tree of arrays by path, such as {"decoder/conv_in/kernel": (3, 3, 3, 16, 384)}."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


# Wan2.1 VAE


def wan_vae(config: VAEConfig, naming: str) -> list[Slot]:
    """Key map of the Wan2.1 VAE; `naming` is "diffusers" or "original" (the raw Wan names)."""
    rename = {"diffusers": lambda name: name, "original": lambda name: _wan_original(config, name)}[naming]
    shapes = flat_shapes(jax.eval_shape(partial(vae.initial_params, config), jax.random.key(0)))
    return [
        Slot(rename(_wan_name(path)), _wan_shape(path, leaf), path, leaf) for path, leaf in shapes.items()
    ]


def _torch_name(path: str) -> str:
    """Diffusers' name of a leaf of one of the autoencoders, whose modules are called as there."""
    path = re.sub(r"_(\d+)(?=/)", r".\1", path)  # members of a list
    return path.replace("/kernel", "/weight").replace("/", ".")


def _wan_name(path: str) -> str:
    return _torch_name(path.replace("resample/", "resample_1/"))


def _wan_shape(path: str, leaf: tuple[int, ...]) -> tuple[int, ...]:
    attention = "/attentions_" in path
    if path.endswith("gamma"):
        return (*leaf, 1, 1) if attention else (*leaf, 1, 1, 1)
    if path.endswith("bias"):
        return leaf
    *window, inputs, outputs = leaf
    window = window or ([1, 1] if attention else [1, 1, 1])
    return (outputs, inputs, *window)


# Layers of a residual block and of the middle, in the order of the sequence that Wan keeps them in.
WAN_RESIDUAL = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
WAN_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}


def _wan_original(config: VAEConfig, name: str) -> str:
    """Diffusers' name of a tensor -> the name in Wan2.1_VAE.pth and NVIDIA's tokenizer.pth."""
    part, *rest = name.split(".")
    if part in ("quant_conv", "post_quant_conv"):
        return ".".join(["conv1" if part == "quant_conv" else "conv2", *rest])
    match rest:
        case ["conv_in", leaf]:
            return f"{part}.conv1.{leaf}"
        case ["norm_out", leaf]:
            return f"{part}.head.0.{leaf}"
        case ["conv_out", leaf]:
            return f"{part}.head.2.{leaf}"
        case ["mid_block", kind, number, *layer]:
            prefix = f"{part}.middle.{WAN_MIDDLE[f'{kind}.{number}']}"
        case ["down_blocks", number, *layer]:
            prefix = f"{part}.downsamples.{number}"
        case ["up_blocks", level, kind, number, *layer]:
            # The decoder's blocks lie in one row: each level's residual blocks, then its upsampler.
            blocks = config.num_res_blocks + 1
            place = int(number) if kind == "resnets" else blocks
            prefix = f"{part}.upsamples.{int(level) * (blocks + 1) + place}"
    layer[0] = {**WAN_RESIDUAL, "conv_shortcut": "shortcut"}.get(layer[0], layer[0])
    return ".".join([prefix, *layer])


# CV8x8x8


def cosmos_tokenizer(config: TokenizerConfig, naming: str) -> list[Slot]:
    """Key map of the Predict1 tokenizer."""
    rename = {"diffusers": lambda name: name, "original": partial(_tokenizer_original, config)}[naming]
    shapes = flat_shapes(jax.eval_shape(partial(tokenizer.initial_params, config), jax.random.key(0)))
    return [
        Slot(rename(_tokenizer_name(path)), _tokenizer_shape(path, leaf), path, leaf)
        for path, leaf in shapes.items()
    ]


def _tokenizer_name(path: str) -> str:
    if re.search(r"norm(\d|_out)?/(scale|bias)$", path):
        path = re.sub(r"/(scale|bias)$", lambda found: f"/norm/{found[1].replace('scale', 'weight')}", path)
    return _torch_name(path)


def _tokenizer_shape(path: str, leaf: tuple[int, ...]) -> tuple[int, ...]:
    if not path.endswith("/kernel"):
        return leaf
    *window, inputs, outputs = leaf
    # Within frames (h, w), over time (t, 1, 1), or pointwise.
    window = {0: [1, 1, 1], 2: [1, *window], 3: window}[len(window)]
    return (outputs, inputs, *window)


# Modules by diffusers' name -> by NVIDIA's. Names of attention within a level are not known: the released
# tokenizer has none.
TOKENIZER_MODULES = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1.0",
    "mid_block.temp_attentions.0": "mid.attn_1.1",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "conv_shortcut": "nin_shortcut",
    "resnets": "block",
    "down_blocks": "down",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def _tokenizer_original(config: TokenizerConfig, name: str) -> str:
    """Diffusers' name of a tensor -> the name in NVIDIA's autoencoder.jit."""
    last = len(config.decode_block_out_channels) - 2  # NVIDIA counts the decoder's levels from its end
    name = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{last - int(found[1])}", name)
    for theirs, original in TOKENIZER_MODULES.items():
        name = name.replace(theirs, original)
    if ".norm" in name:
        return name
    module, leaf = name.rsplit(".", 1)
    module = re.sub(r"conv_[st]$", lambda found: "0" if found[0] == "conv_s" else "1", module)
    return f"{module}.conv3d.{leaf}"
