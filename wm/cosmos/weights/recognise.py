"""What model a set of files holds: told from names and shapes alone, and checked before anything is read.

The names decide which kind of model it is and by which naming; shapes then give the sizes. What shapes don't
tell (rotary scales, parametrisation, statistics of latents) comes from the preset of that size, from
config.json, or from the note that our own exports carry. Every tensor has to be there, of the right shape,
and no other.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from configs import cli
from wm.cosmos.networks.config import (
    PRESETS,
    ActionConfig,
    DiTConfig,
    ModelConfig,
    TokenizerConfig,
    VAEConfig,
)
from wm.cosmos.weights import keymaps
from wm.cosmos.weights.keymaps import Shapes, Slot
from wm.cosmos.weights.sources import STATISTICS_FILE, Source, WeightsError, read_statistics

Config = ModelConfig | VAEConfig | TokenizerConfig
NOTE = "openscope"  # key of the model's configuration among the metadata of exported safetensors
SHOWN = 40  # names in one message
KINDS = {"transformer": ModelConfig, "wan_vae": VAEConfig, "cosmos_tokenizer": TokenizerConfig}

# What most tensor names of a kind and naming match, and few of another's.
SIGNATURES = {
    key: re.compile(pattern)
    for key, pattern in {
        ("transformer", "diffusers"): r"^transformer_blocks\.\d+\.(norm\d\.linear|attn\d|ff)|^time_embed\.",
        ("transformer", "original"): r"^blocks\.\d+\.(self_attn|cross_attn|adaln_modulation|mlp)|^x_embedder",
        ("transformer", "original-1"): r"^blocks\.block\d+\.blocks\.\d\.|^x_embedder|^affline_norm",
        ("wan_vae", "diffusers"): r"blocks?\..*(gamma|conv[12]\.(weight|bias)|resample|time_conv)",
        ("wan_vae", "original"): r"\.(downsamples|upsamples|middle)\.|\.head\.",
        ("cosmos_tokenizer", "diffusers"): r"\.conv_[st]\.|\.norm\.(weight|bias)$|\.to_(q|k|v|out)",
        ("cosmos_tokenizer", "original"): r"\.conv3d\.|\.norm\.(weight|bias)$",
    }.items()
}


@dataclass(frozen=True)
class Recognised:
    """A model found in files: `slots` say where each of their tensors goes."""

    kind: str  # of `KINDS`
    naming: str
    config: Config
    slots: list[Slot]


def recognise(source: Source, expected: ModelConfig | None = None) -> Recognised:
    """Which model `source` holds; all of its tensors and its config.json have been checked.

    Args:
      expected: what it has to be if it is a transformer, for a choice that the user made.

    Raises:
      WeightsError: no known model, another than expected, or tensors are missing, misshapen or too many.
    """
    kind, naming = _kind(source)
    noted = _noted(source, KINDS[kind])
    candidates = [noted] if noted else [*_derived(kind, naming, source), *_known(kind)]
    asked = kind == "transformer" and expected is not None
    config, slots, problems = _nearest([expected] if asked else candidates, naming, source.shapes)
    if problems and asked:
        another, _, none = _nearest(candidates[:1], naming, source.shapes)
        if not none:
            raise WeightsError(f"{source.where} holds {another.name}, not {expected.name} as was asked for")
    if len(problems) > len(slots):
        raise _stranger(source)
    if problems:
        shown = "; ".join(problems[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise WeightsError(
            f"{source.where} isn't a whole {_title(config)} ({kind}, {naming} names): {shown}{more}"
        )
    return Recognised(kind, naming, _completed(config, source), slots)


def _nearest(candidates: list[Config], naming: str, shapes: Shapes) -> tuple[Config, list[Slot], list[str]]:
    """The configuration with the fewest problems, the first of several; its slots; and the problems."""
    best = None
    for config in candidates:
        slots = slots_of(config, naming)
        problems = _problems(slots, shapes)
        if best is None or len(problems) < len(best[2]):
            best = (config, slots, problems)
        if not problems:
            break
    return best


def slots_of(config: Config, naming: str) -> list[Slot]:
    """Key map of a model; `naming` "original-1" is Predict1's transformer."""
    if isinstance(config, ModelConfig):
        return keymaps.transformer(config.dit, config.action, naming)
    make = keymaps.wan_vae if isinstance(config, VAEConfig) else keymaps.cosmos_tokenizer
    return make(config, naming)


def _title(config: Config) -> str:
    return config.name if isinstance(config, ModelConfig) else type(config).__name__.removesuffix("Config")


# Which kind


def _kind(source: Source) -> tuple[str, str]:
    shares = {
        key: sum(bool(pattern.search(name)) for name in source.shapes) / len(source.shapes)
        for key, pattern in SIGNATURES.items()
    }
    best = max(shares, key=shares.get)
    if shares[best] < 0.5:
        raise _stranger(source)
    return best


def _stranger(source: Source) -> WeightsError:
    example = ", ".join(sorted(tensor.name for tensor in source.tensors.values())[:3])
    return WeightsError(
        f"{source.where} is of another model, with tensors such as {example}; convert takes the transformers "
        "of Predict1, Predict2 and Predict2.5 (video to world) and their autoencoders"
    )


# Which sizes


def _known(kind: str) -> Iterable[Config]:
    if kind == "transformer":
        return PRESETS.values()
    return [model.vae for model in PRESETS.values() if isinstance(model.vae, KINDS[kind])]


def _derived(kind: str, naming: str, source: Source) -> list[Config]:
    """The configuration that the shapes spell out, or none where the tensors that would tell are wrong."""
    derive: Callable = {"transformer": _transformer, "wan_vae": _wan_vae, "cosmos_tokenizer": _tokenizer}[
        kind
    ]
    try:
        return [derive(naming, source)]
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        return []  # the nearest preset will name the tensors at fault


def _transformer(naming: str, source: Source) -> ModelConfig:
    shapes = source.shapes
    column = keymaps.DIT_NAMINGS.index(naming)
    top = lambda module, end=".weight": shapes[keymaps.DIT_MODULES[module][column] + end]  # noqa: E731
    prefix = keymaps.DIT_BLOCKS[column]
    inner = lambda module: shapes[prefix.format(0) + keymaps.DIT_BLOCK_MODULES[module][column] + ".weight"]  # noqa: E731
    rows = re.compile("^" + re.escape(prefix).replace(r"\{\}", r"(\d+)"))
    blocks = 1 + max(int(found[1]) for name in shapes if (found := rows.match(name)))
    width, inputs = top("patch")
    channels = top("out")[0] // 4
    has = lambda part: any(name.startswith(part) for name in shapes)  # noqa: E731
    text = top("text_proj")[1] if has("crossattn_proj.") else 0
    learned = None
    if has(keymaps.DIT_MODULES["pos_t"][column].rsplit(".", 1)[0]):
        learned = tuple(top(f"pos_{axis}", "")[0] for axis in "thw")
    if inputs != (channels + 2) * 4:
        raise ValueError("not a video-to-world model")
    dit = DiTConfig(
        width=width,
        blocks=blocks,
        heads=width // inner("self/q_norm")[0],
        mlp_ratio=inner("mlp/up")[0] // width,
        adaln_rank=inner("mod/self/a")[0],
        context_width=inner("cross/k")[1],
        text_width=text,
        latent_channels=channels,
        learned_positions=learned,
    )
    action = None
    if has("action_embedder_"):
        hidden, together = top("action/to_d/fc1")
        action = ActionConfig(together // ActionConfig.per_latent, hidden=hidden)
    return _named(dit, action)


def _named(dit: DiTConfig, action: ActionConfig | None) -> ModelConfig:
    """The preset of these sizes, or else a "custom" one of the generation that they tell."""
    for preset in PRESETS.values():
        if replace(dit, rope_scale=preset.dit.rope_scale) == preset.dit and action == preset.action:
            return preset
    if dit.learned_positions:
        like = PRESETS["predict1-7b"]
    else:
        like = PRESETS["predict2.5-2b" if dit.text_width or action else "predict2-2b"]
    dit = replace(dit, rope_scale=like.dit.rope_scale)
    return replace(like, name="custom", dit=dit, action=action, repository="", folder="")


def _wan_vae(naming: str, source: Source) -> VAEConfig:
    shapes = source.shapes
    diffusers = naming == "diffusers"
    first, row = ("conv_in", "down_blocks") if diffusers else ("conv1", "downsamples")
    conv, halving = ("conv1", "resample.1") if diffusers else ("residual.2", "resample.1")
    base = shapes[f"encoder.{first}.weight"][0]
    latent = shapes["post_quant_conv.weight" if diffusers else "conv2.weight"][0]
    widths, halves, blocks, number = [], [], [0], 0
    while True:
        layer = f"encoder.{row}.{number}"
        if f"{layer}.{halving}.weight" in shapes:
            halves.append(f"{layer}.time_conv.weight" in shapes)
            blocks.append(0)
        elif f"{layer}.{conv}.weight" in shapes:
            width = shapes[f"{layer}.{conv}.weight"][0]
            if not blocks[-1]:
                widths.append(width // base)
            blocks[-1] += 1
        else:
            break
        number += 1
    return VAEConfig(base, latent, tuple(widths), blocks[0], tuple(halves))


def _tokenizer(naming: str, source: Source) -> TokenizerConfig:
    """Only one architecture was ever published, of the default's sizes; config.json may say others."""
    told = source.config or {}
    names = claims(TokenizerConfig()).keys() & told.keys()
    return cli.from_json(
        TokenizerConfig, cli.to_json(TokenizerConfig()) | {name: told[name] for name in names}
    )


# What shapes don't tell


def _completed(config: Config, source: Source) -> Config:
    """`config` with what config.json adds, which must not contradict the weights."""
    beside = source.config
    if beside is None:
        return (
            config if isinstance(config, ModelConfig) or NOTE in source.note else _normalised(config, source)
        )
    for name, value in claims(config).items():
        if name in beside and _plain(beside[name]) != _plain(value):
            raise WeightsError(
                f"{source.where}: config.json says {name} = {beside[name]}, the weights {value}; "
                "take both from the same model"
            )
    try:
        if isinstance(config, ModelConfig):
            scale = tuple(float(ratio) for ratio in beside.get("rope_scale", config.dit.rope_scale))
            if len(scale) != 3 or not np.isfinite(scale).all():
                raise ValueError(f"rope_scale is {scale}")
            return replace(config, dit=replace(config.dit, rope_scale=scale))
        statistics = {
            name: tuple(np.ravel(np.asarray(beside[name], np.float64)).tolist())
            for name in ("latents_mean", "latents_std") if beside.get(name)
        }  # fmt: skip
        if not all(np.isfinite(values).all() for values in statistics.values()):
            raise ValueError("statistics of latents that are no numbers")
        return replace(config, **statistics)
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{source.where}: config.json can't be used: {str(error)[:200]}") from error


def _normalised(config: VAEConfig | TokenizerConfig, source: Source) -> VAEConfig | TokenizerConfig:
    """An autoencoder with the mean and std of its latents, where no config.json tells them."""
    if isinstance(config, VAEConfig) and config in _known("wan_vae"):
        return config  # Wan's, whose statistics are part of its code
    file = (source.where if source.where.is_dir() else source.where.parent) / STATISTICS_FILE
    if isinstance(config, VAEConfig) or not file.exists():
        raise WeightsError(
            f"{source.where}: mean and std of its latents aren't known; put its config.json beside it"
            + ("" if isinstance(config, VAEConfig) else f", or {STATISTICS_FILE}")
        )
    mean, std = (tuple(np.ravel(values).tolist()) for values in read_statistics(file))
    return replace(config, latents_mean=mean, latents_std=std)


def _plain(value):
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def claims(config: Config) -> dict:
    """What diffusers' config.json says of a model, as far as shapes decide it."""
    if isinstance(config, ModelConfig):
        dit = config.dit
        claims = {
            "in_channels": dit.latent_channels + 1,
            "out_channels": dit.latent_channels,
            "num_attention_heads": dit.heads,
            "attention_head_dim": dit.head_width,
            "num_layers": dit.blocks,
            "mlp_ratio": dit.mlp_ratio,
            "text_embed_dim": dit.context_width,
            "adaln_lora_dim": dit.adaln_rank,
            "patch_size": [1, dit.patch, dit.patch],
            "concat_padding_mask": True,
            "extra_pos_embed_type": "learnable" if dit.learned_positions else None,
            "use_crossattn_projection": dit.text_width > 0,
        }
        return claims | ({"crossattn_proj_in_channels": dit.text_width} if dit.text_width else {})
    if isinstance(config, VAEConfig):
        return {
            "base_dim": config.base_dim,
            "z_dim": config.z_dim,
            "dim_mult": config.dim_mult,
            "num_res_blocks": config.num_res_blocks,
            "temperal_downsample": config.temporal_downsample,
        }
    ours = asdict(config)
    names = ("encoder_block_out_channels", "decode_block_out_channels", "latent_channels", "num_layers")
    return {name: ours[name] for name in (*names, "patch_size", "attention_resolutions", "resolution")}


def _noted(source: Source, config_class: type) -> Config | None:
    """The configuration that an export of ours carries along."""
    if NOTE not in source.note:
        return None
    try:
        return cli.from_json(config_class, json.loads(source.note[NOTE]))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source.where}: the model described in it is unknown: {error}") from error


# Whether all is there


def _problems(slots: list[Slot], shapes: Shapes) -> list[str]:
    wanted = {slot.name: slot.shape for slot in slots}
    missing = [f"{name} is missing" for name in wanted if name not in shapes]
    extra = [f"{name} doesn't belong to it" for name in shapes if name not in wanted]
    misshapen = [
        f"{name} is {shapes[name]}, must be {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    return missing + extra + misshapen
