"""Files of weights as others publish them: tensors by name, read one at a time from memory-mapped files.

Understood are safetensors (one file, or shards with or without an index) and, where torch is installed, .pt
and .pth (loaded with weights_only, so that no code in them runs) and TorchScript .jit. Of a file only the
table of contents is read until a tensor is asked for.
"""

import io
import json
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

ACTION_FILE = (
    "action_embedders.safetensors"  # beside a transformer in diffusers' format, which can't hold them
)
TEXT_FILE = "text_embeddings"  # in the name of the text embedding that lies beside some transformers
STATISTICS_FILE = "mean_std.pt"  # of latents, beside NVIDIA's own file of the Predict1 tokenizer
DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(jnp.bfloat16)}
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".jit")
# Counters, caches and loss weights that training left in the files; no model reads them.
IGNORED = re.compile(
    r"(^|\.)_extra_state$|^accum_|^pos_embedder\.|^logvar\.|(^|\.)(wavelets|_arange|patch_size_buffer)$"
)
PREFIX = "net."  # of NVIDIA's training checkpoints
WRAPPERS = ("model", "module", "state_dict")  # what a checkpoint may be wrapped in


class WeightsError(ValueError):
    """Files of weights can't be used; one line that says which tensor or file, and what would be right."""


@dataclass
class Source:
    """An open set of files.

    Attributes:
      where: the path as the user knows it.
      shapes, dtypes: of every tensor by name, without `PREFIX` and without what is `IGNORED`.
      config: config.json beside the files, or None.
      note: text that a safetensors file carries about itself.
    """

    where: Path
    config: dict | None = None
    note: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    _readers: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *details) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the files; nothing can be read any more."""
        self._readers.clear()
        self._open.close()

    def read(self, name: str) -> np.ndarray:
        """One tensor, as it is in the file.

        Raises:
          WeightsError: the bytes can't be read.
        """
        try:
            return self._readers[name]()
        except (SafetensorError, OSError, RuntimeError) as error:
            raise WeightsError(f"{self.where}: {name} can't be read: {_one_line(error)}") from error

    def add(self, name: str, shape: Iterable[int], dtype: str, reader: Callable[[], np.ndarray]) -> None:
        """Takes a tensor in, unless nothing reads it.

        Raises:
          WeightsError: there is one of that name, or it isn't of 16 or 32 bit floating point numbers.
        """
        name = name.removeprefix(PREFIX)
        if IGNORED.search(name):
            return
        if name in self.shapes:
            raise WeightsError(
                f"{self.where}: {name} is there twice; keep the files of one model in a folder"
            )
        if dtype not in DTYPES:
            raise WeightsError(
                f"{self.where}: {name} is of type {dtype}, must be one of {', '.join(DTYPES)}; "
                "quantised weights can't be used"
            )
        self.shapes[name], self.dtypes[name] = tuple(shape), dtype
        self._readers[name] = reader


def open_source(path: Path | str) -> Source:
    """Opens a file of weights, an index of shards, or a folder that holds either; to be used in a `with`.

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
        if (folder / "config.json").exists():
            source.config = _read_json(folder / "config.json")
        if path.suffix != ".pt" and actions.exists() and path != actions and source.config is not None:
            _add_file(source, actions)
    except BaseException:
        source._open.close()
        raise
    if not source.shapes:
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
    indices = sorted(folder.glob("*.index.json"))
    files = sorted(f for f in folder.glob("*.safetensors") if f.name != ACTION_FILE)
    torch_files = sorted(
        f
        for f in folder.iterdir()
        if f.suffix in TORCH_SUFFIXES and TEXT_FILE not in f.name and f.name != STATISTICS_FILE
    )
    if len(indices) > 1 or (not files and len(torch_files) > 1):
        several = ", ".join(f.name for f in (indices if len(indices) > 1 else torch_files))
        raise WeightsError(f"{folder} holds several models ({several}); name one of the files")
    if indices:
        _add_index(source, indices[0])
    elif files or torch_files:
        for file in files or torch_files:
            _add_file(source, file)
    else:
        raise WeightsError(f"{folder} holds no .safetensors and no .pt; name the folder that does")


def _add_index(source: Source, index: Path) -> None:
    """Adds the shards that an index lists, which have to hold exactly the tensors that it lists."""
    try:
        listed = dict(_read_json(index)["weight_map"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{index} isn't an index of shards: it has no weight_map") from error
    for name in sorted(set(listed.values())):
        shard = index.parent / name
        if not shard.exists():
            raise WeightsError(f"{shard} is missing, which {index.name} lists; download it again")
        before = set(source.shapes)
        _add_file(source, shard)
        there = set(source.shapes) - before
        wanted = {n.removeprefix(PREFIX) for n, f in listed.items() if f == name}
        wanted = {n for n in wanted if not IGNORED.search(n)}
        if lost := sorted(wanted - there):
            raise WeightsError(f"{shard} lacks {', '.join(lost)}, which {index.name} says it holds")
        if unlisted := sorted(there - wanted):
            raise WeightsError(f"{shard} holds {', '.join(unlisted)}, which {index.name} doesn't list")


def _add_file(source: Source, file: Path) -> None:
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
        source.add(name, entry.get_shape(), entry.get_dtype(), reader)


def _add_torch(source: Source, file: Path) -> None:
    torch = _torch(file)
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
    for name, tensor in _torch_tensors(torch, file).items():
        if not isinstance(tensor, torch.Tensor):
            if IGNORED.search(name.removeprefix(PREFIX)):
                continue
            raise WeightsError(f"{file}: {name} is a {type(tensor).__name__}, not a tensor")
        dtype = names.get(tensor.dtype, str(tensor.dtype))
        source.add(name, tensor.shape, dtype, lambda tensor=tensor: _torch_array(torch, tensor))


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
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if isinstance(loaded, torch.Tensor):
        loaded = {"tensor": loaded}
    if not isinstance(loaded, dict):
        raise WeightsError(f"{file} holds a {type(loaded).__name__}, not tensors by name")
    return loaded


def _torch_array(torch, tensor) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(DTYPES["BF16"])
    return tensor.numpy()


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} isn't JSON: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
