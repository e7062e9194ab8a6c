"""The leaves of a checkpoint: their names, shapes and dtypes, and their arrays on disk by Orbax.

Orbax casts a dtype silently and refuses empty arrays and random keys: keys are stored as their data, and of
an empty array only what metadata.json says of it.
"""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

LARGEST = 2**36  # numbers of one array
KEY_IMPLEMENTATIONS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}


class CheckpointError(Exception):
    """A checkpoint can't be written or read; the message is one line with cause and remedy."""


def abstract_leaf(described: Any) -> jax.ShapeDtypeStruct:
    """What {"shape": [...], "dtype": ...} of a file says of an array.

    Raises:
      CheckpointError: it says nothing of the kind.
    """
    try:
        shape, dtype = described["shape"], jnp.dtype(described["dtype"])
        if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) > LARGEST:
            raise ValueError(f"shape {str(shape)[:60]}")
        return jax.ShapeDtypeStruct(tuple(shape), dtype)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{one_line(error)} describes no array of a checkpoint; copy it again from its source"
        ) from error


def named_leaves(tree: Any) -> dict[str, Any]:
    """Leaves by path such as "params/Dense_0/kernel", in the order of `jax.tree.leaves`."""
    named = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in named:
            raise CheckpointError(f"two leaves are called {name!r}; rename one of the dictionary keys")
        if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
            raise CheckpointError(
                f"{name!r} is a {type(leaf).__name__}, not an array; put it in config or metadata"
            )
        named[name] = leaf
    if not named:
        raise CheckpointError("the tree holds no arrays; pass the parameters or the train state")
    return named


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a random key or a Python number."""
    if not hasattr(leaf, "dtype"):
        leaf = jax.typeof(leaf)  # a Python number, by jax's rules: int32 and float32
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def is_key(leaf: jax.ShapeDtypeStruct) -> bool:
    """Whether it stands for random keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def describe(leaf: jax.ShapeDtypeStruct) -> dict[str, Any]:
    """What metadata.json says of a leaf; `abstract_leaf` reads it."""
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def write_arrays(folder: Path, leaves: dict[str, Any]) -> None:
    """Writes every leaf that has numbers into a new folder."""
    arrays = {}
    for name, leaf in leaves.items():
        kind = abstract(leaf)
        if is_key(kind):
            arrays[name] = np.asarray(jax.random.key_data(leaf))
        elif 0 not in kind.shape:
            arrays[name] = np.asarray(leaf, dtype=kind.dtype)
    ocp.save(folder, arrays)


def read_arrays(folder: Path, leaves: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """The arrays of `leaves` by name, in NumPy, random keys as key arrays.

    Raises:
      CheckpointError: Orbax cannot read them.
    """
    arrays = {}
    try:
        for name, leaf in leaves.items():
            stored = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
            arrays[name] = np.zeros(stored.shape, stored.dtype)
        arrays |= ocp.load(folder, {name: array for name, array in arrays.items() if array.size})
    except Exception as error:  # Orbax raises the bare class for array data that it can't read
        raise CheckpointError(f"{folder} can't be read: {one_line(error)}; name an earlier step") from error
    for name, leaf in leaves.items():
        if is_key(leaf):
            arrays[name] = jax.random.wrap_key_data(arrays[name], impl=KEY_IMPLEMENTATIONS[str(leaf.dtype)])
    return arrays


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, at most 300 characters of it."""
    return " ".join(str(error).split())[:300]
