"""`convert`: read published weights and store them as checkpoints of ours.

    python -m launch.cosmos convert --source nvidia/Cosmos-Predict2.5-2B/robot/action-cond --out models/action
    python -m launch.cosmos convert --source weights/model-480p-10fps.pt --vae tokenizer.pth --out models/2b

Writes <out>/transformer and <out>/vae, whatever of the two the source holds, and with the transformer the
projected embedding of the empty prompt. Names, shapes and config.json are checked before anything is read,
and the room on the disk before anything is written.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp

from configs import cli
from configs.cosmos_weights import Convert
from launch.cosmos import hub
from launch.shared import runs
from wm.cosmos.networks.config import PRESETS, ModelConfig, resolve
from wm.cosmos.weights import models, text_embedding
from wm.cosmos.weights.recognise import Recognised, recognise
from wm.cosmos.weights.sources import Source, WeightsError, open_source
from wm.store import checkpoints, listing


@dataclass(frozen=True)
class Part:
    """An opened and checked part of a model, and the folder it goes to."""

    source: Source
    found: Recognised
    folder: Path


def convert(config: Convert) -> list[Path]:
    """Converts every part of the source; returns the folders written.

    Raises:
      WeightsError, CheckpointError: the input is refused, or there is no room; nothing half-written is left.
    """
    paths, text = locate(config)
    with ExitStack() as stack:
        parts = [_check(stack, path, config) for path in paths]
        if len({part.folder for part in parts}) < len(parts):
            raise WeightsError(f"{config.source} and {config.vae} are of the same kind; give one of each")
        if config.running_mean and not any(part.source.has_means for part in parts):
            raise WeightsError(f"{config.source} holds no running means; leave --running-mean out")
        dtype = None if config.dtype == "published" else jnp.dtype(config.dtype)
        sizes = [models.size(part.source, part.found.slots, dtype) for part in parts]
        models.require_space(config.out, sum(sizes))
        embedding = None if text is None else text_embedding.read(text)
        for part in parts:
            if isinstance(part.found.config, ModelConfig) and embedding is not None:
                text_embedding.check(part.found.config.dit, embedding)
        for part in parts:
            _convert(part, dtype, embedding)
    return [part.folder for part in parts]


def locate(config: Convert) -> tuple[list[Path], Path | None]:
    """Local paths of the parts, downloaded if need be, and of the text embedding.

    Raises:
      WeightsError: nothing of that name, here or on the hub; or the user doesn't want to download.
    """
    path = Path(config.source)
    vae, text = config.vae, config.text
    if not path.exists():
        download = hub.plan(_repository(config.source), with_text=text is None)
        print(download.describe())
        if not config.yes and not _agreed():
            raise WeightsError("nothing was downloaded; --yes downloads without asking")
        models.require_space(Path.home(), sum(download.sizes.values()))
        copy = hub.fetch(download)
        path = copy / download.folder
        vae = vae or (copy / download.autoencoder if download.autoencoder else None)
        text = text or (copy / download.text if download.text else None)
    parts = [path / name for name in ("transformer", "vae") if (path / name).is_dir()] or [path]
    home = parts[0] if parts[0].is_dir() else parts[0].parent
    if vae is not None:
        parts = [part for part in parts if part.name != "vae"] + [vae]
    if text is None and (name := text_embedding.find((f.name for f in listing.visible(home)), str(home))):
        text = home / name
    return parts, text


def _repository(name: str) -> str:
    """What to download for a repository's or a preset's name."""
    if name in PRESETS or "/" not in name:
        try:
            preset, explanation = resolve(name)
        except ValueError as error:
            raise WeightsError(f"no such file or folder here: {name}; {error}") from error
        if not preset.repository:
            raise WeightsError(f"{name} was never published; train it with finetune")
        if explanation:
            print(explanation)
        return "/".join(filter(None, (preset.repository, preset.folder)))
    return name


def _agreed() -> bool:
    return sys.stdin.isatty() and input("Download? [y/N] ").strip().lower() in ("y", "yes")


def _check(stack: ExitStack, path: Path, config: Convert) -> Part:
    source = stack.enter_context(open_source(path, config.running_mean))
    for line in source.said:
        print(line)
    found = recognise(source, resolve(config.model)[0] if config.model else None)
    folder = config.out / ("transformer" if found.kind == "transformer" else "vae")
    if checkpoints.latest_step(folder) is not None:
        raise WeightsError(f"{folder} holds a model already; name another --out")
    return Part(source, found, folder)


def _convert(part: Part, dtype: jnp.dtype | None, embedding) -> None:
    found, context = part.found, None
    numbers = models.count(found.slots)
    print(f"{part.source.where}: {_title(found)}, {found.naming} names, {numbers:,} parameters")
    if dtype is None and (mixed := models.mixed(part.source, found.slots)):
        print(f"blocks differ in type, and each stack is kept in its widest: {', '.join(mixed)}")
    with runs.progress(len(found.slots), "tensor") as line:
        params = models.read(part.source, found, dtype, each=line.update)
    part.source.close()  # its mapped pages count as this process's memory while the checkpoint is written
    if isinstance(found.config, ModelConfig) and embedding is not None:
        context = text_embedding.project(found.config.dit, params, embedding)
    origin = {"source": part.source.where.name, "naming": found.naming}
    models.save(part.folder, found.config, params, context, origin)
    print(f"written: {part.folder}")


def _title(found: Recognised) -> str:
    return found.config.name if isinstance(found.config, ModelConfig) else found.kind.replace("_", " ")


def main(argv: list[str]) -> None:
    """Convert and say what was written."""
    config = cli.parse(Convert, argv)
    with runs.one_line_errors(WeightsError, checkpoints.CheckpointError, OSError, ValueError):
        convert(config)
