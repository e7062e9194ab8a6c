"""A Cosmos model as this project keeps it: read from published files, saved to a folder, loaded from it.

    with open_source("Cosmos-Predict2.5-2B/robot/action-cond/x_ema_bf16.pt") as source:
        found = recognise(source)
        params = read(source, found)
    save("models/action/transformer", found.config, params)

    model = load("models/action/transformer")          # model.config, model.params, model.context
    export("exported", model)                          # exported/transformer, which diffusers loads

What `save` writes is a step of `wm.store.checkpoints`: complete or absent, with sizes and checksums of all
files.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from orbax.checkpoint import v1 as ocp

from configs import cli
from wm.cosmos.weights import keymaps
from wm.cosmos.weights.keymaps import Slot
from wm.cosmos.weights.recognise import KINDS, Config, Recognised
from wm.cosmos.weights.sources import Source, WeightsError
from wm.store import checkpoints

Place = Callable[[str, np.ndarray], Any]
STEP = 0
SPARE = 256 * 2**20  # bytes that a disk must have left after a write


@dataclass(frozen=True)
class Model:
    """Weights with what they are of.

    Attributes:
      config: of the transformer (a `ModelConfig`) or of an autoencoder.
      params: tree of arrays for the module of that configuration.
      context: projected embedding of the empty prompt (1, K, context_width) float32, or None.
      metadata: what is known about the checkpoint, such as "source" and "parameters".
    """

    config: Config
    params: Any
    context: np.ndarray | None
    metadata: dict[str, Any]


def read(
    source: Source,
    found: Recognised,
    dtype: jnp.dtype | None = None,
    each: Callable[[int], None] = lambda tensors: None,
) -> Any:
    """The parameters in `source`.

    One leaf after another is put together from the memory-mapped files.

    Args:
      dtype: of the result; None: as in the files. Blocks that are stacked into one leaf and differ get the
        widest of their types, which changes no number.
      each: called with the number of tensors of each finished leaf.

    Raises:
      WeightsError: bytes that can't be read.
    """
    leaves = {}
    for path, group in groupby(found.slots, key=lambda slot: slot.path):
        slots = list(group)
        leaves[path] = _leaf(source, slots, dtype or widest(source, slots))
        each(len(slots))
    return tree_of(leaves)


def _leaf(source: Source, slots: list[Slot], dtype: jnp.dtype) -> np.ndarray:
    if slots[0].row is None:
        tensor = keymaps.to_ours(slots[0], source.read(slots[0].name))
        return np.ascontiguousarray(tensor, dtype=dtype)
    leaf = np.empty((len(slots), *slots[0].leaf), dtype)
    for slot in slots:
        leaf[slot.row] = keymaps.to_ours(slot, source.read(slot.name))
    return leaf


def widest(source: Source, slots: list[Slot]) -> np.dtype:
    """The type that holds every number of these tensors exactly."""
    return np.dtype(reduce(jnp.promote_types, (source.dtype(slot.name) for slot in slots)))


def mixed(source: Source, slots: list[Slot]) -> list[str]:
    """Paths of the leaves whose tensors have different types in the files."""
    types: dict[str, set] = {}
    for slot in slots:
        types.setdefault(slot.path, set()).add(source.dtype(slot.name))
    return [path for path, found in types.items() if len(found) > 1]


def size(source: Source, slots: list[Slot], dtype: jnp.dtype | None = None) -> int:
    """Bytes of the parameters that `read` makes of these tensors."""
    return sum(
        count(group) * (dtype or widest(source, group)).itemsize
        for group in (list(group) for _, group in groupby(slots, key=lambda slot: slot.path))
    )


def count(slots: list[Slot]) -> int:
    """Numbers in all of these tensors."""
    return sum(int(np.prod(slot.shape)) for slot in slots)


# Our own checkpoints


def save(
    folder: Path | str,
    config: Config,
    params: Any,
    context: np.ndarray | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Writes a model into a new folder; nothing is left of it if this fails.

    Raises:
      WeightsError: there is no room, or the parameters aren't those of `config`.
      CheckpointError: the folder holds a model already, or can't be written.
    """
    leaves = flat(params)
    _check(config, leaves, str(folder))
    require_space(folder, sum(leaf.nbytes for leaf in leaves.values()))
    tree = {"params": params} | ({} if context is None else {"context": np.asarray(context, np.float32)})
    kind = next(kind for kind, config_class in KINDS.items() if isinstance(config, config_class))
    described = {"kind": kind, "model": cli.to_json(config)}
    counted = {"parameters": int(sum(leaf.size for leaf in leaves.values()))}
    with _frugal():
        return checkpoints.save(folder, STEP, tree, described, {**(metadata or {}), **counted})


def _frugal() -> ocp.Context:
    """How Orbax writes weights: without a copy in memory, uncompressed (random bits don't shrink)."""
    context = ocp.Context()
    context.array.saving.use_compression = False
    context.memory.deepcopy_host_arrays = False
    context.memory.write_concurrent_bytes = 2**30
    return context


def load(folder: Path | str, place: Place | None = None) -> Model:
    """Reads what `save` wrote.

    Args:
      place: called with each leaf's path and array; what it returns, such as an array on devices, takes the
        leaf's place in the tree and frees its host copy.

    Raises:
      WeightsError: the folder holds another kind of checkpoint.
      CheckpointError: no model in the folder, or its bytes have changed.
    """
    described = checkpoints.load_config(folder, STEP)
    metadata = checkpoints.load_metadata(folder, STEP)
    try:
        config = cli.from_json(KINDS[described["kind"]], described["model"])
    except (KeyError, TypeError, cli.ConfigError) as error:
        raise WeightsError(f"{folder} isn't a converted Cosmos model: {error}") from error
    try:
        abstract = {
            tuple(name.split("/")): checkpoints.abstract_leaf(leaf)
            for name, leaf in metadata["leaves"].items()
        }
        tree = unflatten_dict(abstract)
        params = flat(tree["params"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{folder} isn't a converted Cosmos model: it has no parameters") from error
    _check(config, params, str(folder))
    tree = checkpoints.restore(folder, tree, STEP)
    context = tree.get("context")
    leaves = flat(tree.pop("params"))
    _check(config, leaves, str(folder))
    for path in list(leaves) if place is not None else ():
        leaves[path] = place(path, leaves[path])
    return Model(config, tree_of(leaves), context, metadata)


def _check(config: Config, leaves: dict[str, Any], where: str) -> None:
    wanted = parameter_shapes(config)
    for path in sorted(wanted.keys() | leaves.keys()):
        there = tuple(leaves[path].shape) if path in leaves else "missing"
        if there != wanted.get(path, "not wanted"):
            raise WeightsError(
                f"{where}: parameter {path} is {there}, the configuration says {wanted.get(path, 'none')}"
            )


def parameter_shapes(config: Config) -> keymaps.Shapes:
    """Shapes of all parameters of a model by path."""
    if hasattr(config, "dit"):
        return keymaps.transformer_shapes(config.dit, config.action)
    return keymaps.autoencoder_shapes(config)


def flat(params: Any) -> dict[str, Any]:
    """Leaves of a tree of dictionaries by path, such as "blocks/mlp/up/kernel"."""
    return {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}


def tree_of(leaves: dict[str, Any]) -> Any:
    """Inverse of `flat`."""
    return unflatten_dict({tuple(path.split("/")): leaf for path, leaf in leaves.items()})


def require_space(folder: Path | str, needed: int) -> None:
    """Raises WeightsError if the disk that `folder` is (to be) on hasn't room for `needed` bytes."""
    existing = Path(folder).resolve()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE:
        raise WeightsError(
            f"no room for {folder}: {needed / 2**30:.2f} GiB are to be written, {free / 2**30:.2f} GiB are "
            "free on that disk; free some or name a folder on another"
        )
