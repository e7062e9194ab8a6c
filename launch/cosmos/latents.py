"""Latents of a folder of clips, encoded once and kept beside it.

    <data>/.latents/<fingerprint>/latents.npy   float16 (clips, T, H, W, C), normalised
                                  actions.npy   float32 (clips, n, A), as in the clips
                                  index.json    names of the clips, and what made them

Where the clips can't be written to, they are kept in `.latents` of the run folder instead. The fingerprint is
of every byte of the clips and of the autoencoder's configuration and weights, so another autoencoder or a
changed clip is encoded anew. A folder gets its name when it is whole.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos import Finetune
from launch.shared import runs
from wm.cosmos.networks import autoencoder
from wm.cosmos.networks.config import ModelConfig
from wm.cosmos.training import clips
from wm.cosmos.training.clips import Shape
from wm.store import listing
from wm.store.provenance import write_json


@dataclass(frozen=True)
class Latents:
    """All clips of a folder; arrays are mapped from the disk."""

    names: tuple[str, ...]
    latents: np.ndarray  # (clips, T, H, W, C) float16
    actions: np.ndarray  # (clips, n, A) float32
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)


def prepare(config: Finetune, model: ModelConfig, vae_params: Any) -> Latents:
    """Latents of every clip in the run's data, kept from an earlier run or encoded now with a progress line.

    Raises:
      ClipError: no clips, or one of another size, frame count or action width than asked for, by name.
      ValueError: the autoencoder takes no clips of that size.
      OSError: there is no folder that latents can be written to, or no room.
    """
    data, size = config.data, (config.frames, config.height, config.width)
    model.latent_frames(size[0]), model.latent_size(*size[1:])
    paths = clips.find(data)
    if line := listing.passed_over(data, clips.passed_over(data)):
        _say(line)
    shape = Shape(*size, clips.read(paths[0]).actions.shape[1])
    fingerprint = clips.fingerprint(paths, str(cli.to_json(model.vae)), params_hash(vae_params), str(shape))
    places = [config.latents] if config.latents else [data / clips.LATENTS, config.out / clips.LATENTS]
    folder = next((place / fingerprint for place in places if (place / fingerprint).is_dir()), None)
    if folder is None:
        folder = writable(places) / fingerprint
        _encode(folder, paths, shape, model, vae_params)
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("latents", "actions")]
    return Latents(tuple(path.name for path in paths), *arrays, fingerprint)


def writable(places: Sequence[Path]) -> Path:
    """The first of these folders that a file can be written to; it is made, and said if it isn't the first.

    Raises:
      OSError: none of them; the message tells of the last.
    """
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
        except OSError as error:
            reason = error
            continue
        if place != places[0]:
            _say(f"{places[0]} can't be written to: latents are kept in {place}")
        return place
    raise OSError(f"{places[-1]} can't be written to ({reason.strerror}); name a folder for --latents")


@cache
def _say(line: str) -> None:
    """Prints a line, once in a process that prepares the same clips several times."""
    print(line, flush=True)


def part_of(frames: int, height: int, width: int) -> int:
    """How many clips of that size are encoded at once: 16 million pixels' worth, 64 at most."""
    return int(np.clip(2**24 // (frames * height * width), 1, 64))


def params_hash(params: Any) -> str:
    """Hash of every parameter's name, shape and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{array.shape}{array.dtype}\0".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


class Coder:
    """Encodes and decodes clips in parts that fit into memory, in bfloat16 on a GPU.

    Attributes:
      part: clips at once.
    """

    def __init__(self, model: ModelConfig, params: Any, part: int):
        self.part = part
        dtype = jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32
        module = autoencoder.module(model.vae, dtype)
        self._params = jax.device_put(params)
        self._encode = jax.jit(lambda p, video: module.apply({"params": p}, video, method="encode"))
        self._decode = jax.jit(lambda p, latents: module.apply({"params": p}, latents, method="decode"))

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 (B, F, H, W, 3) -> normalised latents float32 (B, T, H, W, C)."""
        return self._in_parts(self._encode, frames, clips.to_video)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Inverse of `encode`, to uint8."""
        return self._in_parts(self._decode, latents, np.float32, clips.to_frames)

    def _in_parts(self, function, rows: np.ndarray, before, after=np.asarray) -> np.ndarray:
        done = []
        for start in range(0, len(rows), self.part):
            some = rows[start : start + self.part]
            # The last part is filled up, so that one shape is compiled.
            missing = min(self.part, len(rows)) - len(some)
            filled = np.concatenate([some, np.repeat(some[-1:], missing, 0)]) if missing else some
            done.append(after(np.asarray(function(self._params, before(filled)))[: len(some)]))
        return np.concatenate(done)


def _encode(folder: Path, paths: Sequence[Path], shape: Shape, model: ModelConfig, vae_params: Any) -> None:
    temporary = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    size = (model.latent_frames(shape.frames), *model.latent_size(shape.height, shape.width))
    coder = Coder(model, vae_params, part_of(shape.frames, shape.height, shape.width))
    wanted = len(paths) * int(np.prod(size)) * model.dit.latent_channels * 2
    temporary.mkdir(parents=True)
    try:
        if (free := shutil.disk_usage(temporary).free) < wanted:
            raise OSError(f"{folder} needs {wanted / 2**20:.0f} MiB, {free / 2**20:.0f} are free; make room")
        _write(temporary, paths, shape, (*size, model.dit.latent_channels), coder)
        write_json(
            temporary / "index.json", {"clips": [p.name for p in paths], "vae": cli.to_json(model.vae)}
        )
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, paths: Sequence[Path], shape: Shape, size: tuple[int, ...], coder: Coder) -> None:
    count = len(paths)
    latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float16, (count, *size))
    actions = np.lib.format.open_memmap(
        folder / "actions.npy", "w+", np.float32, (count, shape.frames - 1, shape.actions)
    )
    with runs.progress(count, "clip") as line:
        for start in range(0, count, coder.part):
            some = [clips.read_checked(path, shape) for path in paths[start : start + coder.part]]
            rows = slice(start, start + len(some))
            latents[rows] = coder.encode(np.stack([clip.frames for clip in some]))
            actions[rows] = np.stack([clip.actions for clip in some])
            line.update(len(some))
    latents.flush()
    actions.flush()
