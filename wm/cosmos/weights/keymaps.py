"""Which tensor of a published checkpoint is which of our parameters.

Published checkpoints name tensors in two ways: as NVIDIA (or Wan) trained them ("original") and as diffusers
publishes them ("diffusers"). A key map lists, for one model and naming, every tensor that the file must hold:
its name, its shape there, and the leaf of our parameter tree that it becomes (of stacked blocks, with the row
of the leaf). Torch keeps a kernel as (out, in, *window); we keep (*window, in, out).
"""

import re
from dataclasses import dataclass
from functools import cache, partial

import jax
import numpy as np

from wm.cosmos.networks import autoencoder, dit
from wm.cosmos.networks.config import ActionConfig, DiTConfig, TokenizerConfig, VAEConfig

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


@cache
def autoencoder_shapes(config: VAEConfig | TokenizerConfig) -> Shapes:
    """Shapes of all parameters of an autoencoder by path."""
    return flat_shapes(jax.eval_shape(partial(autoencoder.initial_params, config), jax.random.key(0)))


# Wan2.1 VAE


def wan_vae(config: VAEConfig, naming: str) -> list[Slot]:
    """Key map of the Wan2.1 VAE; `naming` is "diffusers" or "original" (the raw Wan names)."""
    rename = {"diffusers": lambda name: name, "original": lambda name: _wan_original(config, name)}[naming]
    return [
        Slot(rename(_wan_name(path)), _wan_shape(path, leaf), path, leaf)
        for path, leaf in autoencoder_shapes(config).items()
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
    return [
        Slot(rename(_tokenizer_name(path)), _tokenizer_shape(path, leaf), path, leaf)
        for path, leaf in autoencoder_shapes(config).items()
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


# Transformer

DIT_NAMINGS = ("diffusers", "original", "original-1")  # the last is Predict1's

# Our module -> its name in each naming.
DIT_MODULES = {
    "patch": ("patch_embed.proj", "x_embedder.proj.1", "x_embedder.proj.1"),
    "time_1": ("time_embed.t_embedder.linear_1", "t_embedder.1.linear_1", "t_embedder.1.linear_1"),
    "time_2": ("time_embed.t_embedder.linear_2", "t_embedder.1.linear_2", "t_embedder.1.linear_2"),
    "time_norm": ("time_embed.norm", "t_embedding_norm", "affline_norm"),
    "text_proj": ("crossattn_proj.0",) * 3,
    "out_mod/a": ("norm_out.linear_1", "final_layer.adaln_modulation.1", "final_layer.adaLN_modulation.1"),
    "out_mod/b": ("norm_out.linear_2", "final_layer.adaln_modulation.2", "final_layer.adaLN_modulation.2"),
    "out": ("proj_out", "final_layer.linear", "final_layer.linear"),
    "pos_t": (
        "learnable_pos_embed.pos_emb_t",
        "extra_pos_embedder.pos_emb_t",
        "extra_pos_embedder.pos_emb_t",
    ),
    "pos_h": (
        "learnable_pos_embed.pos_emb_h",
        "extra_pos_embedder.pos_emb_h",
        "extra_pos_embedder.pos_emb_h",
    ),
    "pos_w": (
        "learnable_pos_embed.pos_emb_w",
        "extra_pos_embedder.pos_emb_w",
        "extra_pos_embedder.pos_emb_w",
    ),
    # Diffusers has no action path: an export keeps it in a file of its own, under NVIDIA's names.
    "action/to_d/fc1": ("action_embedder_B_D.fc1",) * 3,
    "action/to_d/fc2": ("action_embedder_B_D.fc2",) * 3,
    "action/to_3d/fc1": ("action_embedder_B_3D.fc1",) * 3,
    "action/to_3d/fc2": ("action_embedder_B_3D.fc2",) * 3,
}
DIT_BLOCKS = ("transformer_blocks.{}.", "blocks.{}.", "blocks.block{}.")
DIT_BLOCK_MODULES = {
    **{
        f"{ours}/{layer}": (f"{theirs}.{a}", f"{original}.{b}", f"blocks.{number}.block.attn.{c}")
        for number, (ours, theirs, original) in enumerate(
            (("self", "attn1", "self_attn"), ("cross", "attn2", "cross_attn"))
        )
        for layer, a, b, c in (
            ("q", "to_q", "q_proj", "to_q.0"),
            ("k", "to_k", "k_proj", "to_k.0"),
            ("v", "to_v", "v_proj", "to_v.0"),
            ("q_norm", "norm_q", "q_norm", "to_q.1"),
            ("k_norm", "norm_k", "k_norm", "to_k.1"),
            ("out", "to_out.0", "output_proj", "to_out.0"),
        )
    },
    **{
        f"mod/{ours}/{layer}": (
            f"norm{number + 1}.linear_{step}",
            f"adaln_modulation_{original}.{step}",
            f"blocks.{number}.adaLN_modulation.{step}",
        )
        for number, (ours, original) in enumerate(
            (("self", "self_attn"), ("cross", "cross_attn"), ("mlp", "mlp"))
        )
        for step, layer in ((1, "a"), (2, "b"))
    },
    "mlp/up": ("ff.net.0.proj", "mlp.layer1", "blocks.2.block.layer1"),
    "mlp/down": ("ff.net.2", "mlp.layer2", "blocks.2.block.layer2"),
}


def transformer(config: DiTConfig, action: ActionConfig | None, naming: str) -> list[Slot]:
    """Key map of the transformer; what only we have (see `unpublished`) is left out."""
    column = DIT_NAMINGS.index(naming)
    slots = []
    for path, leaf in transformer_shapes(config, action).items():
        if unpublished(path):
            continue
        *modules, parameter = path.split("/")
        suffix = {"kernel": ".weight", "scale": ".weight", "bias": ".bias"}.get(parameter, "")
        if modules[:1] == ["blocks"]:
            name = DIT_BLOCK_MODULES["/".join(modules[1:])][column] + suffix
            own = leaf[1:]
            shape = own[::-1] if parameter == "kernel" else own
            prefix = DIT_BLOCKS[column]
            slots += [Slot(prefix.format(row) + name, shape, path, own, row) for row in range(leaf[0])]
        else:
            name = DIT_MODULES["/".join(modules) or path][column] + suffix
            slots.append(Slot(name, leaf[::-1] if parameter == "kernel" else leaf, path, leaf))
    return slots


@cache
def transformer_shapes(config: DiTConfig, action: ActionConfig | None) -> Shapes:
    """Shapes of all parameters of the transformer by path."""
    model = dit.CosmosDiT(config, action)
    return flat_shapes(jax.eval_shape(partial(dit.init, model), jax.random.key(0)))


def unpublished(path: str) -> bool:
    """Whether a leaf of the transformer has no counterpart in any published model."""
    return path.startswith("step_to_")
