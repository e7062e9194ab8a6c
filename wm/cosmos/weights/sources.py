"""Files of weights as others publish them: tensors by name, read one at a time from memory-mapped files.

Understood are safetensors (one file, or shards with or without an index) and, where torch is installed, .pt
and .pth (loaded with weights_only, so that no code in them runs) and TorchScript .jit. Of a file only the
table of contents is read until a tensor is asked for.
"""

import io
import json
import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from wm.cosmos.weights import wrappers
from wm.store import listing

# Beside a transformer in diffusers' format, which has no place for the action path.
ACTION_FILE = "action_embedders.safetensors"
TEXT_FILE = "text_embeddings"  # in the name of the text embedding that lies beside some transformers
STATISTICS_FILE = "mean_std.pt"  # of latents, beside NVIDIA's own file of the Predict1 tokenizer
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(jnp.bfloat16)}
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".jit")
# Counters, caches and loss weights that training left in the files; no model reads them.
IGNORED = re.compile(
    r"(^|\.)_extra_state$|^accum_|^pos_embedder\.|^logvar\.|(^|\.)(wavelets|_arange|patch_size_buffer)$"
)


class WeightsError(ValueError):
    """Files of weights can't be used; one line that says which tensor or file, and what would be right."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, not read yet; `name` is as in the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    read: Callable[[], np.ndarray]


@dataclass
class Source:
    """An open set of files.

    Attributes:
      where: the path as the user knows it.
      tensors: by name, without wrappers, without running means that weren't asked for, and without what is
        `IGNORED`.
      config: config.json beside the files, or None.
      note: text that a safetensors file carries about itself.
      has_means: whether there are running means, taken or not.
      said: lines for the user about what was chosen or passed over.
    """

    where: Path
    config: dict | None = None
    note: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    has_means: bool = False
    said: list[str] = field(default_factory=list)
    _found: dict[str, Tensor] = field(default_factory=dict)  # by the names in the files
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *details) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the files; nothing can be read any more."""
        self.tensors.clear()
        self._found.clear()
        self._open.close()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def dtype(self, name: str) -> np.dtype:
        """What a tensor's numbers are in the file."""
        return DTYPES[self.tensors[name].dtype]

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is in the file.

        Raises:
          WeightsError: the bytes can't be read.
        """
        try:
            return self.tensors[name].read()
        except (SafetensorError, OSError, RuntimeError) as error:
            raise WeightsError(f"{self.where}: {name} can't be read: {_one_line(error)}") from error

    def add(self, tensor: Tensor) -> None:
        """Takes a tensor in.

        Raises:
          WeightsError: there is one of that name.
        """
        if tensor.name in self._found:
            both = f"{self._found[tensor.name].file.name} and {tensor.file.name}"
            raise WeightsError(f"{self.where}: {tensor.name} is in both {both}; name one of the files")
        self._found[tensor.name] = tensor

    def choose(self, running_mean: bool) -> None:
        """Names the tensors as the model does, and takes either the weights or their running means.

        Raises:
          WeightsError: two tensors have one name, or one isn't of 16 or 32 bit floating point numbers.
        """
        weights, means = (self._named(mean) for mean in (False, True))
        pairs = wrappers.paired(means, weights)
        means = {pairs[name]: tensor for name, tensor in means.items()}
        self.has_means = bool(means)
        if weights and means:
            taken = "the means were taken" if running_mean else "the weights were taken, see --running-mean"
            self.said.append(f"{self.where} holds running means beside the weights: {taken}")
        # What has no running mean didn't change in training.
        self.tensors = {**weights, **means} if running_mean else weights or means
        for name, tensor in self.tensors.items():
            if tensor.dtype not in DTYPES:
                raise WeightsError(
                    f"{self.where}: {name} is of type {tensor.dtype}, must be one of {', '.join(DTYPES)}; "
                    "quantised weights can't be used"
                )

    def _named(self, means: bool) -> dict[str, Tensor]:
        """The weights or the running means by their names without wrappers."""
        found: dict[str, Tensor] = {}
        for tensor in self._found.values():
            name, is_mean = wrappers.unwrapped(tensor.name)
            if is_mean != means or _ignored(name):
                continue
            if name in found:
                both = f"{found[name].name} and {tensor.name}"
                raise WeightsError(f"{self.where}: {both} are the same tensor; keep one of them")
            found[name] = tensor
        front = wrappers.common_front(found) if len(found) > 1 else ""
        found = {name.removeprefix(front): tensor for name, tensor in found.items()}
        return {name: tensor for name, tensor in found.items() if not _ignored(name)}


def open_source(path: Path | str, running_mean: bool = False) -> Source:
    """Opens a file of weights, an index of shards, or a folder that holds either; to be used in a `with`.

    Args:
      path: of it.
      running_mean: takes the running means of the weights where a file holds both.

    Raises:
      WeightsError: nothing there, a shard is missing, or a file is damaged or of another kind.
    """
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"no such file or folder: {path}")
    source = Source(path)
    folder = path if path.is_dir() else path.parent
    try:
        if path.name.endswith(".index.json"):
            _add_index(source, path)
        elif path.is_dir():
            _add_folder(source, path)
        else:
            _add_file(source, path)
        actions = folder / ACTION_FILE
        if os.path.lexists(folder / "config.json"):
            source.config = _read_json(folder / "config.json")
        if path.suffix != ".pt" and actions.exists() and path != actions and source.config is not None:
            _add_file(source, actions)
        source.choose(running_mean)
    except BaseException:
        source._open.close()
        raise
    if not source.tensors:
        raise WeightsError(f"{path} holds no tensors")
    return source


def read_statistics(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a tokenizer's latents, from `STATISTICS_FILE`.

    Raises:
      WeightsError: the file holds something else, or there is no torch.
    """
    torch = _torch(file)
    loaded = _torch_load(torch, file)
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise WeightsError(f"{file} holds a {type(loaded).__name__}, not a mean and a standard deviation")
    mean, std = (_torch_array(torch, tensor.float()) for tensor in loaded)
    return mean, std


def _add_folder(source: Source, folder: Path) -> None:
    entries = [f for f in listing.visible(folder) if TEXT_FILE not in f.name]
    indices = [f for f in entries if f.name.endswith(".index.json")]
    files = [f for f in entries if f.suffix == ".safetensors" and f.name != ACTION_FILE]
    torch_files = [f for f in entries if f.suffix in TORCH_SUFFIXES and f.name != STATISTICS_FILE]
    if len(indices) > 1 or (not files and len(torch_files) > 1):
        several = ", ".join(f.name for f in (indices if len(indices) > 1 else torch_files))
        raise WeightsError(f"{folder} holds several models ({several}); name one of the files")
    if line := listing.passed_over(folder, (f for f in folder.iterdir() if f.name.startswith("."))):
        source.said.append(line)
    if indices:
        _add_index(source, indices[0])
    elif files or torch_files:
        for file in files or torch_files:
            _add_file(source, file)
    else:
        raise WeightsError(f"{folder} holds no .safetensors and no .pt; name the folder that does")


def _add_index(source: Source, index: Path) -> None:
    """Adds the shards that an index lists, which have to hold exactly the tensors that it lists."""
    listed = _read_json(index).get("weight_map")
    if not isinstance(listed, dict):
        raise WeightsError(f"{index} isn't an index of shards: it has no weight_map")
    for name in listed.values():  # of files beside the index, and nowhere else
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or name in ("", "..")
            or "\0" in name
            or len(name) > 255
        ):
            raise WeightsError(f"{index} lists {str(name)[:60]!r}, which is no name of a file beside it")
    for name in sorted(set(listed.values())):
        shard = index.parent / name
        if not shard.exists():
            raise WeightsError(f"{shard} is missing, which {index.name} lists; download it again")
        before = set(source._found)
        _add_file(source, shard)
        there = {n for n in source._found if n not in before and not _ignored(wrappers.unwrapped(n)[0])}
        wanted = {n for n, file in listed.items() if file == name and not _ignored(wrappers.unwrapped(n)[0])}
        if lost := sorted(wanted - there):
            raise WeightsError(f"{shard} lacks {', '.join(lost)}, which {index.name} says it holds")
        if unlisted := sorted(there - wanted):
            raise WeightsError(f"{shard} holds {', '.join(unlisted)}, which {index.name} doesn't list")


def _ignored(name: str) -> bool:
    """Whether no model reads the tensor of that name, which has no wrapper any more."""
    return bool(IGNORED.search(name)) or name in wrappers.COUNTERS


def _add_file(source: Source, file: Path) -> None:
    if not file.is_file():
        raise WeightsError(f"{file} is no file; download it again")
    if file.suffix == ".safetensors":
        _add_safetensors(source, file)
    elif file.suffix in TORCH_SUFFIXES:
        _add_torch(source, file)
    else:
        raise WeightsError(f"{file}: weights are .safetensors, {', '.join(TORCH_SUFFIXES)} or an .index.json")


def _add_safetensors(source: Source, file: Path) -> None:
    try:
        opened = source._open.enter_context(safe_open(file, "np"))
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is damaged or cut short ({file.stat().st_size} bytes: {_one_line(error)}); "
            "download it again"
        ) from error
    source.note |= opened.metadata() or {}
    for name in opened.keys():  # noqa: SIM118 - not a dictionary
        entry = opened.get_slice(name)
        reader = lambda opened=opened, name=name: opened.get_tensor(name)  # noqa: E731
        source.add(Tensor(name, tuple(entry.get_shape()), entry.get_dtype(), file, reader))


def _add_torch(source: Source, file: Path) -> None:
    torch = _torch(file)
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    for name, tensor in _torch_tensors(torch, file).items():
        if not isinstance(tensor, torch.Tensor):
            if _ignored(wrappers.unwrapped(name)[0]):
                continue
            raise WeightsError(f"{file}: {name} is a {type(tensor).__name__}, not a tensor")
        dtype = names.get(tensor.dtype, str(tensor.dtype))
        reader = lambda tensor=tensor: _torch_array(torch, tensor)  # noqa: E731
        source.add(Tensor(name, tuple(tensor.shape), dtype, file, reader))


def _torch(file: Path):
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{file} is a torch file: install the extra `parity`, or give weights as safetensors"
        ) from error
    return torch


def _torch_load(torch, file: Path):
    """What a file holds, memory-mapped; nothing in it is run."""
    try:
        if file.suffix == ".jit":
            return torch.jit.load(file, map_location="cpu").state_dict()
        # Transformer Engine leaves byte buffers in NVIDIA's checkpoints; they are inert.
        with torch.serialization.safe_globals([io.BytesIO]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises its own, pickle's and zip's errors for a file that isn't whole
        raise WeightsError(
            f"{file} is damaged, cut short or holds more than weights ({_one_line(error)}); download it again"
        ) from error


def _torch_tensors(torch, file: Path) -> dict:
    loaded = _torch_load(torch, file)
    if isinstance(loaded, torch.Tensor):
        loaded = {"tensor": loaded}
    if not isinstance(loaded, dict):
        raise WeightsError(f"{file} holds a {type(loaded).__name__}, not tensors by name")
    return _flattened(loaded)


def _flattened(loaded: dict, front: str = "") -> dict:
    """Tensors by name of a dictionary, or of the models in it: beside these lie optimisers and counters."""
    inner = {key: part for key, part in loaded.items() if isinstance(part, dict) and wrappers.is_wrapper(key)}
    if not inner:
        return {f"{front}{name}": tensor for name, tensor in loaded.items()}
    flat = {}
    for key, part in inner.items():
        flat |= _flattened(part, f"{front}{key}.")
    return flat


def _torch_array(torch, tensor) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(DTYPES["BF16"])
    return tensor.numpy()


def _read_json(path: Path) -> dict:
    if not path.is_file():  # a pipe would never answer, a device never end
        raise WeightsError(f"{path} is no file; download it again")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} isn't JSON: {_one_line(error)}") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not an object; download it again")
    return found


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
