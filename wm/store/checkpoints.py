"""Checkpoints that either come back exactly as saved or say why not.

A checkpoint is a folder per step:

    <directory>/00001200/
        arrays/        the leaves, by Orbax (v1 interface)
        config.json    what the program was asked to do
        metadata.json  schema version, commit, data fingerprint, library versions, shape and dtype of leaves
        manifest.json  size and SHA-256 of every other file; written last

The folder is written under a temporary name and renamed when it is complete, so a killed save leaves nothing
that looks like a checkpoint. Orbax has no checksum on array data, casts a dtype silently and takes an empty
folder for a step; the manifest and the table of leaves close those gaps.

Trees are host-shaped and unreplicated, so a checkpoint doesn't know how many devices wrote it. Leaves come
back as NumPy arrays (random keys as key arrays); place them where they are needed.
"""

import difflib
import json
import os
import re
import shutil
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from wm.sector.traffic import SCHEMA_VERSION
from wm.store.leaves import (
    KEY_IMPLEMENTATIONS,
    CheckpointError,
    abstract,
    abstract_leaf,
    describe,
    named_leaves,
    one_line,
    read_arrays,
    write_arrays,
)
from wm.store.manifest import changed_file, content_hash, missing_part, write_manifest
from wm.store.provenance import git_commit, library_versions, write_json

UNFINISHED = ".unfinished-"


class CheckpointWarning(UserWarning):
    """An incomplete checkpoint was passed over."""


def save(
    directory: Path | str,
    step: int,
    tree: Any,
    config: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    keep: int | None = 3,
) -> Path:
    """Writes one step and removes all but the newest `keep`.

    On several hosts all processes call it, as Orbax demands; the first writes, on a file system they share.

    Args:
      directory: holds the steps; made when missing.
      step: training step, zero or more.
      tree: any pytree of arrays, numbers and random keys, without a device axis.
      config: plain JSON; `restore` compares it where the caller asks for that.
      metadata: plain JSON, merged into metadata.json. "data_fingerprint" says which recordings were used.
      keep: how many steps stay; None keeps all.

    Returns:
      The folder of the step.

    Raises:
      CheckpointError: the step exists already, or something can't be stored.
    """
    if step < 0 or (keep is not None and keep < 1):
        raise CheckpointError(
            f"step {step}, keep {keep}: step must be 0 or more, keep 1 or more or None for all"
        )
    directory = Path(directory).resolve()
    final = _folder(directory, step)
    if missing_part(final) is None:
        raise CheckpointError(f"{final} exists already; choose another directory or step")
    leaves = named_leaves(tree)
    documents = _documents(step, leaves, config, metadata or {})
    temporary = directory / f"{UNFINISHED}{step:08d}"
    try:
        _write(directory, temporary, final, leaves, documents, keep)
    except OSError as error:
        why = error.strerror or one_line(error)
        raise CheckpointError(
            f"{final} can't be written: {why}; what was saved before is as it was"
        ) from error
    return final


def _write(directory: Path, temporary: Path, final: Path, leaves: dict, documents: dict, keep) -> None:
    """Writes an unfinished step, and gives it its name when it is whole."""
    writer = jax.process_index() == 0
    _barrier("checked")
    if writer:
        _begin(temporary, documents)
    _barrier("begun")
    write_arrays(temporary / "arrays", leaves)
    if writer:
        # Orbax marks what is whole with a sentence that ends in this machine's path.
        (temporary / "arrays" / "commit_success.txt").write_text("Checkpoint commit was successful")
        write_manifest(temporary)
        shutil.rmtree(final, ignore_errors=True)  # an incomplete one of the same step
        os.replace(temporary, final)
        for old in _complete_steps(directory)[:-keep] if keep else ():
            _discard(_folder(directory, old))
    _barrier("written")


def _begin(temporary: Path, documents: dict[str, dict]) -> None:
    """A new unfinished step with its JSON files, in place of what a killed save left."""
    _remove_unfinished(temporary.parent)
    temporary.mkdir(parents=True)
    for name, document in documents.items():
        write_json(temporary / name, document)


def restore(
    directory: Path | str,
    abstract_tree: Any,
    step: int | None = None,
    config: dict[str, Any] | None = None,
) -> Any:
    """Reads a tree with the structure, shapes and dtypes of `abstract_tree`.

    Args:
      directory: as given to `save`.
      abstract_tree: `jax.eval_shape` of the function that makes the tree, or such a tree itself.
      step: None takes the newest complete step, with a `CheckpointWarning` where a newer one is incomplete.
      config: if given, the saved configuration has to equal it.

    Raises:
      CheckpointError: nothing to read, bytes have changed, or structure, shape, dtype or `config` differ.
    """
    folder = _choose(Path(directory), step)
    _verify(folder)
    if config is not None:
        _compare_config(folder, config)
    leaves = {name: abstract(leaf) for name, leaf in named_leaves(abstract_tree).items()}
    _compare_leaves(folder, leaves)
    arrays = read_arrays(folder / "arrays", leaves)
    return jax.tree.unflatten(jax.tree.structure(abstract_tree), [arrays[name] for name in leaves])


def latest_step(directory: Path | str) -> int | None:
    """The newest complete step, or None."""
    steps = _complete_steps(Path(directory))
    return steps[-1] if steps else None


def load_config(directory: Path | str, step: int | None = None) -> dict[str, Any]:
    """The configuration saved with a step; None takes the step that `restore` would."""
    return _read_verified(_choose(Path(directory), step), "config.json")


def load_metadata(directory: Path | str, step: int | None = None) -> dict[str, Any]:
    """What is known about a step: "schema_version", "commit", "data_fingerprint" ... and the caller's own."""
    return _read_verified(_choose(Path(directory), step), "metadata.json")


def fingerprint(directory: Path | str, step: int | None = None) -> str:
    """SHA-256 of what a step holds, wherever it lies; None takes the step that `restore` would."""
    return content_hash(_choose(Path(directory), step))


def load_leaves(directory: Path | str, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a step by its name, random keys as their data; None takes the step that `restore` would.

    Raises:
      CheckpointError: nothing to read, or bytes have changed.
    """
    folder = _choose(Path(directory), step)
    _verify(folder)
    leaves = {}
    for name, leaf in _stored_leaves(folder).items():
        shape, dtype = tuple(leaf["shape"]), leaf["dtype"]
        if implementation := KEY_IMPLEMENTATIONS.get(dtype):
            data = jax.random.key_data(jax.random.key(0, impl=implementation))
            shape, dtype = shape + data.shape, data.dtype
        leaves[name] = jax.ShapeDtypeStruct(shape, dtype)
    return read_arrays(folder / "arrays", leaves)


def _stored_leaves(folder: Path) -> dict[str, dict[str, Any]]:
    """What metadata.json says of the leaves of a step."""
    leaves = _read_json(folder / "metadata.json").get("leaves")
    if not isinstance(leaves, dict):
        raise CheckpointError(f"{folder}: metadata.json has no leaves; copy it again from its source")
    for leaf in leaves.values():
        key = isinstance(leaf, dict) and str(leaf.get("dtype")) in KEY_IMPLEMENTATIONS
        abstract_leaf({**leaf, "dtype": "uint32"} if key else leaf)
    return leaves


# Which folder


def _folder(directory: Path, step: int) -> Path:
    return directory / f"{step:08d}"


def _steps(directory: Path) -> list[int]:
    return sorted(int(path.name) for path in directory.glob("*") if re.fullmatch("[0-9]{1,18}", path.name))


def _complete_steps(directory: Path) -> list[int]:
    return [step for step in _steps(directory) if missing_part(_folder(directory, step)) is None]


def _choose(directory: Path, step: int | None) -> Path:
    """Folder of `step`, or of the newest complete step."""
    directory = directory.resolve()
    steps = _steps(directory)
    if not steps:
        raise CheckpointError(f"no checkpoint in {directory}; name a directory that a training command wrote")
    if step is not None:
        if damage := missing_part(_folder(directory, step)):
            usable = ", ".join(map(str, _complete_steps(directory))) or "none"
            raise CheckpointError(f"step {step} in {directory}: {damage}; complete steps are: {usable}")
        return _folder(directory, step)
    for candidate in reversed(steps):
        folder = _folder(directory, candidate)
        if (damage := missing_part(folder)) is None:
            return folder
        warnings.warn(
            f"{folder} is incomplete ({damage}); trying the step before", CheckpointWarning, stacklevel=3
        )
    raise CheckpointError(
        f"no complete checkpoint in {directory}; train again or copy it again from its source"
    )


def _verify(folder: Path, only: str | None = None) -> None:
    if name := changed_file(folder, only):
        raise CheckpointError(
            f"{folder}: {name} is not what was saved; copy it again or name an earlier step"
        )


def _read_verified(folder: Path, name: str) -> dict[str, Any]:
    _verify(folder, only=name)
    return _read_json(folder / name)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} isn't JSON: {one_line(error)}; copy it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not an object; copy it again")
    return found


def _remove_unfinished(directory: Path) -> None:
    for leftover in directory.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover)


def _discard(folder: Path) -> None:
    # Renamed first: a removal that is cut short must not leave half a checkpoint under its name.
    doomed = folder.with_name(f"{UNFINISHED}{folder.name}")
    os.replace(folder, doomed)
    shutil.rmtree(doomed)


# What it says of itself


def _documents(step: int, leaves: dict[str, Any], config: dict, metadata: dict) -> dict[str, dict]:
    """The JSON files of a step by name, checked to be JSON."""
    written = {
        "step": step,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema_version": SCHEMA_VERSION,
        "commit": git_commit(),
        "versions": library_versions(),
        "leaves": {name: describe(abstract(leaf)) for name, leaf in leaves.items()},
    }
    if taken := written.keys() & metadata.keys():
        raise CheckpointError(f"metadata key {min(taken)!r} is written by save itself; choose another name")
    documents = {"config.json": config, "metadata.json": {"data_fingerprint": None, **metadata, **written}}
    for name, document in documents.items():
        try:
            json.dumps(document, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{name} of step {step} can't be stored: {one_line(error)}") from error
    return documents


def _barrier(name: str) -> None:
    """Waits for the other hosts, where there are any."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")


# Whether it is what was asked for


def _compare_leaves(folder: Path, leaves: dict[str, jax.ShapeDtypeStruct]) -> None:
    stored = _stored_leaves(folder)
    remedy = "build the program's tree from the configuration saved beside it (load_config)"
    for name, leaf in leaves.items():
        if name not in stored:
            close = difflib.get_close_matches(name, stored, n=1)
            hint = f" (it has {close[0]!r})" if close else ""
            raise CheckpointError(f"{folder} lacks {name!r}{hint}; {remedy}")
        for what, value in describe(leaf).items():
            if stored[name][what] != value:
                raise CheckpointError(
                    f"{folder}: {what} of {name!r} is {stored[name][what]}, the program has {value}; {remedy}"
                )
    if extra := stored.keys() - leaves.keys():
        raise CheckpointError(f"{folder} holds {min(extra)!r}, which the program doesn't have; {remedy}")


def _compare_config(folder: Path, config: dict[str, Any]) -> None:
    saved = _flatten(_read_json(folder / "config.json"))
    asked = _flatten(json.loads(json.dumps(config)))  # tuples become lists, as they did in the file
    for name in sorted(saved.keys() | asked.keys()):
        if name not in saved or name not in asked or saved[name] != asked[name]:
            raise CheckpointError(
                f"{folder} was saved with {name} = {saved.get(name, 'nothing')}, this run has "
                f"{asked.get(name, 'nothing')}; use the saved value or another directory"
            )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat = {}
    for key, child in value.items():
        flat |= _flatten(child, f"{prefix}.{key}" if prefix else key)
    return flat
