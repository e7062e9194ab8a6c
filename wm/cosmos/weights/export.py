"""Our weights as the safetensors and config.json that diffusers loads.

    export(Path("exported/transformer"), load("models/action/transformer"))

Shards are put together and written one at a time. The action path, which diffusers has no place for, lies
beside them in a file of its own; the model's whole configuration is noted in the metadata of the first shard,
so that an export converts back to what it was.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from configs import cli
from wm.cosmos.networks.config import ModelConfig, TokenizerConfig, VAEConfig
from wm.cosmos.weights import keymaps
from wm.cosmos.weights.keymaps import Slot
from wm.cosmos.weights.models import Model, flat, require_space
from wm.cosmos.weights.recognise import NOTE, Config, claims, slots_of
from wm.cosmos.weights.sources import ACTION_FILE, WeightsError
from wm.store.provenance import write_json

UNFINISHED = ".unfinished-"
WEIGHTS = "diffusion_pytorch_model"
CLASSES = {
    ModelConfig: "CosmosTransformer3DModel",
    VAEConfig: "AutoencoderKLWan",
    TokenizerConfig: "AutoencoderKLCosmos",
}


def export(
    folder: Path,
    model: Model,
    shard_bytes: int = 2 * 10**9,
    each: Callable[[int], None] = lambda tensors: None,
) -> list[Path]:
    """Writes `folder`, which must not exist, with the weights and config.json; all of it or nothing.

    Args:
      shard_bytes: most bytes of a file (a single larger tensor still makes one).
      each: called with the number of tensors of each finished file.

    Returns:
      The files, in the new folder.

    Raises:
      WeightsError: the folder exists, there is no room, or the model has a part that was never published.
    """
    folder = Path(folder).resolve()
    if folder.exists():
        raise WeightsError(f"{folder} exists already; name another folder")
    leaves = flat(model.params)
    if ours := sorted(path for path in leaves if keymaps.unpublished(path)):
        raise WeightsError(
            f"diffusers can't run a model with a step-size network ({ours[0]}); export the model that it was "
            "distilled from"
        )
    require_space(folder.parent, sum(leaf.nbytes for leaf in leaves.values()))
    temporary = folder.with_name(f"{UNFINISHED}{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(temporary, model.config, leaves, shard_bytes, each)
        os.replace(temporary, folder)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder} can't be written: {error}; is the disk full?") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(folder.iterdir())


def _write(folder: Path, config: Config, leaves: dict, shard_bytes: int, each) -> None:
    slots = slots_of(config, "diffusers")
    actions = [slot for slot in slots if slot.path.startswith("action/")]
    shards = list(_shards([slot for slot in slots if slot not in actions], leaves, shard_bytes))
    weight_map = {}
    note = {"format": "pt", NOTE: json.dumps(cli.to_json(config))}
    for number, shard in enumerate(shards):
        name = f"{WEIGHTS}.safetensors"
        if len(shards) > 1:
            name = f"{WEIGHTS}-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        _save(folder / name, shard, leaves, note if number == 0 else {"format": "pt"})
        weight_map |= {slot.name: name for slot in shard}
        each(len(shard))
    if len(shards) > 1:
        total = sum(_bytes(slot, leaves) for shard in shards for slot in shard)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / f"{WEIGHTS}.safetensors.index.json", index)
    if actions:
        _save(folder / ACTION_FILE, actions, leaves, {"format": "pt"})
        each(len(actions))
    write_json(folder / "config.json", diffusers_config(config))


def _save(file: Path, slots: list[Slot], leaves: dict, metadata: dict[str, str]) -> None:
    tensors = {}
    for slot in slots:
        leaf = np.asarray(leaves[slot.path] if slot.row is None else leaves[slot.path][slot.row])
        tensors[slot.name] = keymaps.to_theirs(slot, leaf)
    save_file(tensors, file, metadata)
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def _shards(slots: list[Slot], leaves: dict, shard_bytes: int) -> Iterator[list[Slot]]:
    shard, used = [], 0
    for slot in slots:
        if shard and used + _bytes(slot, leaves) > shard_bytes:
            yield shard
            shard, used = [], 0
        shard.append(slot)
        used += _bytes(slot, leaves)
    yield shard


def _bytes(slot: Slot, leaves: dict) -> int:
    return int(np.prod(slot.shape)) * leaves[slot.path].dtype.itemsize


def diffusers_config(config: Config) -> dict:
    """config.json of diffusers' class for a model."""
    said = {"_class_name": CLASSES[type(config)], **cli.to_json(claims(config))}
    if isinstance(config, ModelConfig):
        said["max_size"] = [128, 240, 240]
        if config.dit.learned_positions:
            frames, height, width = config.dit.learned_positions
            said["max_size"] = [frames, height * config.dit.patch, width * config.dit.patch]
        said |= {
            "rope_scale": list(config.dit.rope_scale),
            "encoder_hidden_states_channels": config.dit.context_width,
        }
        return said
    if isinstance(config, VAEConfig):
        said |= {
            "scale_factor_temporal": config.temporal_compression,
            "scale_factor_spatial": config.spatial_compression,
        }
    else:
        said |= {
            "spatial_compression_ratio": config.spatial_compression,
            "temporal_compression_ratio": config.temporal_compression,
        }
    statistics = {"latents_mean": config.latents_mean, "latents_std": config.latents_std}
    return said | {name: None if values is None else list(values) for name, values in statistics.items()}
