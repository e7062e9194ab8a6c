"""One number for all that was read, to tell equal from other."""

import dataclasses
import hashlib
from typing import Any

import jax
import numpy as np


def digest(value: Any) -> str:
    """SHA-256 of a tree of dataclasses, dictionaries, sequences, arrays and plain values."""
    whole = hashlib.sha256()

    def take(node: Any) -> None:
        if dataclasses.is_dataclass(node):
            node = vars(node)
        if isinstance(node, dict):
            for key in sorted(node, key=str):
                whole.update(f"{key}:".encode(errors="replace"))
                take(node[key])
        elif isinstance(node, list | tuple):
            whole.update(f"[{len(node)}".encode())
            for item in node:
                take(item)
        elif isinstance(node, np.ndarray | jax.Array) and node.dtype != object:
            array = np.asarray(node)
            whole.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        else:
            whole.update(f"{type(node).__name__}{node!r}".encode(errors="replace"))

    take(value)
    return whole.hexdigest()
