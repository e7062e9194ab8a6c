"""The network's choices as GPU kernels: features go in, drawn values come out, nothing between is stored.

XLA writes every layer's activations and all head outputs to memory and reads them again. Here one kernel
program takes a block of aircraft through the whole network and draws. A second kernel compares two members.
The functions are those of wm.state.network up to rounding: all products are of bfloat16 and accumulate in
float32, and the trunk is rounded where the plain version rounds it.

Heads are laid out in tiles, because Triton wants powers of two: those of up to 8 choices take 8 columns,
the others 16, the binary ones 16 together and the scalar ones 16. A padding column has the logit PADDING.
Letters: M ensemble members, R rows (aircraft) of one member, F features, D width.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from wm.state import network as net

BLOCK = 128  # rows of one kernel program
WARPS = 8
STAGES = 1
TILE = 16  # Triton's smallest matrix
PADDING = -1e9  # logit of a column that is none of a head's
EPSILON = 1e-6  # of flax's LayerNorm

WIDE = tuple(name for name, size in net.CATEGORICAL.items() if size > 8)
NARROW = tuple(name for name, size in net.CATEGORICAL.items() if size <= 8)
CHOICES = tuple(net.CATEGORICAL)
# Columns of a drawn uniform number, by the order in which the tiles want them.
UNIFORM = np.array(
    [*(CHOICES.index(name) for name in WIDE + NARROW), *range(len(CHOICES), len(CHOICES) + TILE)]
)


def _columns() -> dict[str, np.ndarray]:
    """Columns of the network's joint output that each tile shows; -1 for padding."""
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))

    def side_by_side(names, width):
        own = (np.arange(sizes[n]) + starts[n] for n in names)
        return np.concatenate([np.pad(c, (0, width - len(c)), constant_values=-1) for c in own])

    def together(names):
        columns = np.concatenate([np.arange(sizes[n]) + starts[n] for n in names])
        return np.pad(columns, (0, TILE - len(columns)), constant_values=-1)

    return {
        "wide": side_by_side(WIDE, 16),
        "narrow": side_by_side(NARROW, 8),
        "binary": together(net.BINARY),
        "scalar": together(net.SCALAR),
    }


COLUMNS = _columns()


def _power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


def fits(weights, rows: int) -> bool:
    """Whether the kernels can run a network of these weights over so many rows of each member."""
    width = weights["params"]["embed"]["kernel"].shape[-1]
    heads = all(_power_of_two(len(names)) for names in (WIDE, NARROW))
    return heads and "support" in weights and _power_of_two(width) and width >= TILE and rows % BLOCK == 0


def padded(features: int) -> int:
    """So many feature columns that they are made of tiles."""
    return -(-features // TILE) * TILE


def _parts(size: int) -> list[tuple[int, int]]:
    """(start, length) of pieces of a multiple of TILE whose lengths are powers of two."""
    parts, start = [], 0
    for bit in reversed(range(size.bit_length())):
        if size >> bit & 1:
            parts.append((start, 1 << bit))
            start += 1 << bit
    return parts


def pack(weights) -> dict[str, jax.Array]:
    """The weights `[M, ...]` as the kernels read them, vectors as `[M, 1, n]`."""
    layers, support = weights["params"], weights["support"]
    more = padded(layers["embed"]["kernel"].shape[1]) - layers["embed"]["kernel"].shape[1]

    def rows(kernel):
        return jnp.pad(kernel.astype(jnp.bfloat16), ((0, 0), (0, more), (0, 0)))

    packed = {"embed": rows(layers["embed"]["kernel"]), "embed_b": layers["embed"]["bias"][:, None]}
    for name, layer in layers.items():
        if name.startswith("norm"):
            packed |= {f"{name}_s": layer["scale"][:, None], f"{name}_b": layer["bias"][:, None]}
        elif name.startswith(("up", "down")):
            packed |= {name: layer["kernel"].astype(jnp.bfloat16), f"{name}_b": layer["bias"][:, None]}
    bias = layers["heads"]["bias"] + support["bias"]
    for tile, columns in COLUMNS.items():
        real = columns >= 0
        kernel = jnp.where(real, layers["heads"]["kernel"][..., columns], 0.0)
        packed[tile] = kernel.astype(jnp.bfloat16)
        packed[f"{tile}_f"] = rows(jnp.where(real, support["kernel"][..., columns], 0.0))
        packed[f"{tile}_b"] = jnp.where(real, bias[..., columns], PADDING)[:, None]
    return packed


def _dot(a, b):
    return jnp.dot(a, b, preferred_element_type=jnp.float32)


def _by_features(x, ref):
    """Product of feature pieces with a matrix `[F, n]`."""
    parts = [_dot(piece, ref[pl.ds(*part), :]) for piece, part in zip(x, _parts(ref.shape[0]), strict=True)]
    return sum(parts[1:], parts[0])


def _normalised(h, scale, bias):
    """flax's LayerNorm in float32."""
    h = h.astype(jnp.float32)
    mean = jnp.mean(h, -1, keepdims=True)
    variance = jnp.maximum(jnp.mean(h * h, -1, keepdims=True) - mean * mean, 0.0)
    return (h - mean) * (jax.lax.rsqrt(variance + EPSILON) * scale) + bias


def _gelu(x):
    """flax's gelu by its tanh approximation, written with a sigmoid."""
    return x * jax.nn.sigmoid(x * (1.5957691216 + 0.0713548163 * x * x))


def _trunk(x, w):
    """Activations `[R, D]` before the heads, of feature pieces; w: the packed weights' references."""
    low = jnp.bfloat16
    h = (_by_features(x, w["embed"]) + w["embed_b"][...]).astype(low)
    for i in range(sum(name.startswith("up_") and not name.endswith("_b") for name in w)):
        r = _normalised(h, w[f"norm_{i}_s"][...], w[f"norm_{i}_b"][...]).astype(low)
        r = (_dot(r, w[f"up_{i}"][...]) + w[f"up_{i}_b"][...]).astype(low)
        r = _gelu(r.astype(jnp.float32)).astype(low)
        h = h + (_dot(r, w[f"down_{i}"][...]) + w[f"down_{i}_b"][...]).astype(low)
    return _normalised(h, w["norm_s"][...], w["norm_b"][...]).astype(low)


def _outputs(h, x, w, tile):
    """Head outputs of one tile `[R, n]`."""
    return _dot(h, w[tile][...]) + _by_features(x, w[f"{tile}_f"]) + w[f"{tile}_b"][...]


def _weights(logits, width: int):
    """Chances `[R, heads, width]` of logits `[R, heads * width]`, and the number to divide them by."""
    logits = logits.reshape(logits.shape[0], -1, width)
    weight = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
    return weight, jnp.sum(weight, -1, keepdims=True)


def _drawn(logits, width: int, uniform):
    """The choice `[R, heads]` at which the running sum of likely chances passes a uniform number."""
    weight, total = _weights(logits, width)
    likely = jnp.where(weight < net.UNLIKELY * total, 0.0, weight)
    passed = jnp.cumsum(likely, -1) < (uniform * jnp.sum(likely, -1))[..., None]
    return jnp.sum(passed.astype(jnp.int32), -1)


def _pieces(ref):
    return [ref[:, pl.ds(*part)] for part in _parts(ref.shape[-1])]


def _play_kernel(names, x_ref, u_ref, *refs):
    w = dict(zip(names, refs, strict=False))
    wide_ref, narrow_ref, binary_ref, scalar_ref = refs[len(names) :]
    x = _pieces(x_ref)
    h = _trunk(x, w)
    many, few = len(WIDE), len(NARROW)
    wide = _drawn(_outputs(h, x, w, "wide"), 16, u_ref[:, pl.ds(0, many)])
    wide_ref[...] = wide.astype(jnp.int8)
    narrow = _drawn(_outputs(h, x, w, "narrow"), 8, u_ref[:, pl.ds(many, few)])
    narrow_ref[...] = narrow.astype(jnp.int8)
    chance = jax.nn.sigmoid(_outputs(h, x, w, "binary"))
    chance = jnp.where(chance < net.UNLIKELY, 0.0, jnp.where(chance > 1.0 - net.UNLIKELY, 1.0, chance))
    binary_ref[...] = (u_ref[:, pl.ds(many + few, TILE)] < chance).astype(jnp.int8)
    scalar_ref[...] = _outputs(h, x, w, "scalar")


def _compare_kernel(names, x_ref, *refs):
    first, second = (dict(zip(names, refs[i * len(names) :], strict=False)) for i in (0, 1))
    x = _pieces(x_ref)
    a, b = _trunk(x, first), _trunk(x, second)
    total = jnp.zeros((x_ref.shape[0], 1), jnp.float32)
    for tile, width in (("wide", 16), ("narrow", 8)):
        one, of_one = _weights(_outputs(a, x, first, tile), width)
        other, of_other = _weights(_outputs(b, x, second, tile), width)
        apart = jnp.abs(one * (1.0 / of_one) - other * (1.0 / of_other))
        total += jnp.sum(jnp.sum(apart, -1), -1, keepdims=True)
    refs[-1][...] = total * (0.5 / len(CHOICES))


def _specs(packed, member):
    """One member's weights for every program; `member` maps the grid's first index to it."""
    return [
        pl.BlockSpec((None, *leaf.shape[1:]), lambda m, i: (member(m), 0, 0)) for leaf in packed.values()
    ]


def _call(kernel, packed, rows, extra, outs, interpret, members=(lambda m: m,)):
    """A kernel over blocks of rows `[M, R, n]`, with the weights of each of `members`."""
    count, size = rows[0].shape[:2]
    block = [pl.BlockSpec((None, BLOCK, leaf.shape[-1]), lambda m, i: (m, i, 0)) for leaf in rows]
    weights = [spec for member in members for spec in _specs(packed, member)]
    return pl.pallas_call(
        partial(kernel, tuple(packed)),
        grid=(count, size // BLOCK),
        in_specs=block + weights,
        out_specs=[pl.BlockSpec((None, BLOCK, columns), lambda m, i: (m, i, 0)) for columns, _ in outs],
        out_shape=[jax.ShapeDtypeStruct((count, size, columns), dtype) for columns, dtype in outs],
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=STAGES),
        interpret=interpret,
        name=extra,
    )(*rows, *list(packed.values()) * len(members))


def play(weights, features, uniform, interpret: bool = False) -> dict[str, jax.Array]:
    """Draw for rows `[M, R, F]` with uniform numbers `[M, R, 32]`: what wm.state.network.draw returns.

    The features are padded with zeros to a multiple of TILE. `interpret` runs on a CPU, slowly.
    """
    outs = [(len(WIDE), jnp.int8), (len(NARROW), jnp.int8), (TILE, jnp.int8), (TILE, jnp.float32)]
    rows = (features, uniform[..., UNIFORM])
    wide, narrow, binary, scalar = _call(_play_kernel, pack(weights), rows, "play", outs, interpret)
    drawn = {}
    for codes, names in ((wide, WIDE), (narrow, NARROW)):
        for i, name in enumerate(names):
            most = net.CATEGORICAL[name] - 1
            drawn[name] = jnp.minimum(codes[..., i].astype(jnp.int32), most)
    for source, sizes, dtype in ((binary, net.BINARY, jnp.bool_), (scalar, net.SCALAR, jnp.float32)):
        at = 0
        for name, size in sizes.items():
            drawn[name] = source[..., at : at + size].astype(dtype)
            at += size
    return drawn


def compare(weights, features, interpret: bool = False):
    """How far each member and the one before it are apart `[M, R]`, for rows `[M, R, F]` padded as above."""
    count = features.shape[0]
    members = (lambda m: m, lambda m: (m + count - 1) % count)
    packed = {name: leaf for name, leaf in pack(weights).items() if not name.startswith(("binary", "scalar"))}
    outs = [(1, jnp.float32)]
    return _call(_compare_kernel, packed, (features,), "compare", outs, interpret, members)[0][..., 0]
