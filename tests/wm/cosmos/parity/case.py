"""Comparing our Cosmos modules with their originals: what a case is, and random weights that both can hold.

An original is diffusers' implementation, or a reference in torch where diffusers has none. Weights and inputs
come from seeds, so a case needs no files. The originals' answers are kept in tests/wm/cosmos/golden, so the
comparison can be repeated without torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

Arrays = list[np.ndarray]
TOLERANCE = 1e-4  # max-abs, float32 on a CPU


@dataclass(frozen=True)
class Case:
    """Two ways to the same float32 arrays: our code, and the original, which imports torch when called."""

    ours: Callable[[], Arrays]
    theirs: Callable[[], Arrays]


def difference(ours: Arrays, theirs: Arrays) -> float:
    """Largest absolute difference of any number.

    Raises:
      ValueError: not the same shapes, or not finite.
    """
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        raise ValueError(f"shapes {[x.shape for x in ours]} against {[x.shape for x in theirs]}")
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(ours, theirs, strict=True)
    ]
    if not all(np.isfinite(a).all() and np.isfinite(b).all() for a, b in pairs):
        raise ValueError("not every number is finite")
    return max(float(np.abs(a - b).max()) for a, b in pairs)


def random_tree(shapes, seed: int):
    """Float32 numpy leaves in place of `shapes` (anything with a shape), none of them at its initial value.

    Kernels keep the size of activations; scales lie around 1 and everything else around 0, so that a norm or
    a bias left out, or a layer that starts at zero and is never read, changes the output.
    """
    generator = np.random.default_rng(seed)

    def leaf(path, shape):
        name, shape = path[-1].key, shape.shape
        numbers = generator.standard_normal(shape, np.float32)
        if name in ("scale", "gamma"):
            return 1 + 0.3 * numbers
        if name == "kernel":
            stacked = path[0].key == "blocks"
            return numbers / np.sqrt(np.prod(shape[stacked:-1]), dtype=np.float32)
        return 0.3 * numbers

    return jax.tree_util.tree_map_with_path(leaf, shapes)
