"""What aircraft in a given condition were never recorded to do, which the network may therefore not choose.

An outcome to which the network wrongly gives the most weight once in a hundred thousand steps still spoils
an hour: a departure that turns into an arrival on its take-off run vanishes, and the tower waits for it for
ever. The recordings hold millions of steps. An outcome is ruled out for a code (a phase, a mode, a flag)
where none of at least MANY steps with that code had it, and likewise without that code.
Letters: C codes, F features, n rows, K outputs of all heads, k of one, M ensemble members.
"""

import jax.numpy as jnp
import numpy as np

from wm.state import features
from wm.state import network as net
from wm.state.labels import Rows

MANY = 1000  # rows that a code needs before it rules anything out
CHUNK = 200_000
# Frames within a step are finer than the codes tell apart.
HEADS = [name for name in (*net.CATEGORICAL, *net.BINARY) if not name.endswith("frame")]


def code_columns(names: list[str]) -> np.ndarray:
    """Indices of the codes and flags among the features' names."""
    codes = set(features.code_names())
    return np.flatnonzero([name in codes for name in names])


def _outcomes(rows: Rows, part: slice) -> dict[str, np.ndarray]:
    """What happened in some rows by head, bool `[n, k]`; for binary heads `[n, 2 k]`: absent, present."""
    found = {}
    for name in HEADS:
        if name in net.CATEGORICAL:
            label = np.asarray(rows.labels[name][part]).astype(int)
            found[name] = label[:, None] == np.arange(net.CATEGORICAL[name])
        else:
            present = np.asarray(rows.binary[name][part]).reshape(-1, net.BINARY[name])
            found[name] = np.concatenate([~present, present], 1)
    return found


def counts(rows: Rows, columns: np.ndarray) -> dict[str, np.ndarray]:
    """How often each outcome went with each code, and without it: `[2, C, k]` by head."""
    total = dict.fromkeys(HEADS, 0)
    for start in range(0, len(rows.features), CHUNK):
        part = slice(start, start + CHUNK)
        code = np.asarray(rows.features[part][:, columns]) > 0.5
        both = np.stack([code, ~code]).astype(np.float32)
        for name, outcome in _outcomes(rows, part).items():
            total[name] = total[name] + np.einsum("snc,nk->sck", both, outcome.astype(np.float32))
    return total


def ruled_out(count: np.ndarray) -> np.ndarray:
    """Outcomes `[2, C, k]` that many rows with (or without) a code never had; k of one choice."""
    return (count.sum(-1, keepdims=True) >= MANY) & (count == 0)


def mask(rows: Rows, names: list[str]) -> dict[str, np.ndarray]:
    """What is added to the network's outputs: kernel `[F, K]` and bias `[K]`, of 0 and +-IMPOSSIBLE.

    names: of the features, in their order.
    """
    columns = code_columns(names)
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    edges = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    kernel = np.zeros((len(names), sum(sizes.values())), np.float32)
    bias = np.zeros(kernel.shape[1], np.float32)
    for name, count in counts(rows, columns).items():
        if name in net.BINARY:  # each a choice of its own, between absent and present
            absent, present = np.split(count, 2, -1)
            never = ruled_out(np.stack([absent, present], -1)).astype(np.float32)
            out = never[..., 1] - never[..., 0]
        else:
            out = ruled_out(count).astype(np.float32)
        at = slice(edges[name], edges[name] + sizes[name])
        kernel[columns, at] = net.IMPOSSIBLE * (out[0] - out[1])
        bias[at] = net.IMPOSSIBLE * out[1].sum(0)
    return {"kernel": kernel, "bias": bias}


def with_support(weights: dict, rows: Rows, names: list[str]) -> dict:
    """Weights `[M, ...]` with the mask that `rows` give, the same for every member."""
    members = weights["params"]["embed"]["kernel"].shape[0]
    same = {k: jnp.broadcast_to(v, (members, *v.shape)) for k, v in mask(rows, names).items()}
    return {**weights, "support": same}
