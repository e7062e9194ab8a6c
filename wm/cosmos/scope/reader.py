"""Reading pictures of the scope: where blips are, and what callsign, altitude, speed and heading they have.

A finder looks at every 4 x 4 pixels and says whether a blip's centre lies there, and where; a block reader
looks at 64 x 64 pixels around a blip. Both learn from recorded pictures, and from such pictures after the
autoencoder, with noise, since drawn ones look like that.

    found = read(params, pictures, config)      # pictures (B, H, W, 3) in [-1, 1]

Letters: B pictures, K blips of a picture, best first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from wm.cosmos.networks.vae import Conv, pointwise
from wm.cosmos.scope.coder import Residual, shown, to_patches
from wm.cosmos.scope.crops import Crops

CELL = 4  # pixels along the side of a finder's cell
WINDOW = 64  # pixels along the side of what the block reader sees
WINDOW_CORNER = (-32, -48)  # from the blip's rounded place
TOGETHER_PX = 2.5  # what is found closer to a better blip is the same blip
CLASSES = {"callsign": (8, 37), "altitude": (3, 10), "speed": (2, 10)}
TILT_PX = 1  # the finder may be off by so much when it centres the window


@dataclass(frozen=True)
class ReaderConfig:
    """Channels of finder and block reader, and how many blips a picture may have."""

    find_width: int = 64
    read_width: int = 96
    blips: int = 40
    threshold: float = 0.5


class Finder(nn.Module):
    """(B, H, W, 3) -> (B, H / 4, W / 4, 3): logit of a centre in the cell, and its place in the cell (px)."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: jax.Array) -> jax.Array:
        x = Conv(self.width, dtype=self.dtype, name="first")(to_patches(pictures, CELL))
        for number in range(2):
            x = Residual(self.dtype, name=f"block{number}")(x)
        return pointwise(3, jnp.float32, "out")(nn.gelu(x))


class BlockReader(nn.Module):
    """(B, 64, 64, 3) -> logits of every character, sine and cosine of heading, logits of being clear."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, windows: jax.Array) -> dict[str, jax.Array]:
        x = Conv(self.width, dtype=self.dtype, name="first")(to_patches(windows, CELL))
        x = Residual(self.dtype, name="block0")(x)
        x = Residual(self.dtype, name="block1")(x)
        x = Conv(self.width, stride=2, dtype=self.dtype, name="halve")(nn.gelu(x))
        x = Residual(self.dtype, name="block2")(x)
        x = nn.gelu(x).reshape(len(x), -1)
        x = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype, name="hidden")(x)).astype(jnp.float32)
        heads = {name: count * kinds for name, (count, kinds) in CLASSES.items()} | {"heading": 2, "clear": 2}
        out = {name: nn.Dense(size, name=name)(x) for name, size in heads.items()}
        return out | {name: out[name].reshape(len(x), *shape) for name, shape in CLASSES.items()}


class Reader(nn.Module):
    """Finder and block reader; under three million parameters with the default sizes."""

    config: ReaderConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.find = Finder(self.config.find_width, self.dtype)
        self.block = BlockReader(self.config.read_width, self.dtype)

    def finds(self, pictures: jax.Array) -> jax.Array:
        return self.find(pictures)

    def blocks(self, windows: jax.Array) -> dict[str, jax.Array]:
        return self.block(windows)

    def __call__(self, pictures: jax.Array, windows: jax.Array):
        return self.find(pictures), self.block(windows)


def windows_at(pictures: jax.Array, places: jax.Array) -> jax.Array:
    """Windows (B, K, 64, 64, 3) around places (B, K, 2) in pixels; outside of a picture is black."""
    padded = jnp.pad(pictures, ((0, 0), (WINDOW, WINDOW), (WINDOW, WINDOW), (0, 0)), constant_values=-1.0)

    def one(picture, place):
        corner = jnp.round(place).astype(jnp.int32) + jnp.asarray(WINDOW_CORNER) + WINDOW
        return jax.lax.dynamic_slice(picture, (corner[1], corner[0], 0), (WINDOW, WINDOW, 3))

    return jax.vmap(jax.vmap(one, (None, 0)))(padded, places)


Degrade = Callable[[jax.Array, jax.Array], jax.Array]
"""(pictures (B, H, W, 3), keys (B,)) -> the same as a model might draw them."""


def objective(model: Reader, palette, degrade: Degrade) -> Callable:
    """A `wm.cosmos.training.train.Objective` of `Crops`; metrics: shares of characters read right."""

    def losses(variables, crops: Crops, keys: jax.Array, mean_variables):
        del mean_variables
        key, tilt_key = jax.vmap(lambda k: jax.random.split(k), out_axes=1)(keys)
        pictures = degrade(shown(crops.indices, palette), key)
        cells = model.apply(variables, pictures, method="finds")
        tilt = jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-TILT_PX, maxval=TILT_PX))(tilt_key)
        windows = windows_at(pictures, (crops.places[:, 0] + tilt)[:, None])[:, 0]
        read = model.apply(variables, windows, method="blocks")
        loss, metrics = _reading_loss(read, crops)
        return loss + _finding_loss(cells, crops.places), metrics

    return losses


def _finding_loss(cells: jax.Array, places: jax.Array) -> jax.Array:
    """Cross-entropy of every cell, summed over blips' worth of cells, and distance of found centres (B,)."""
    side = cells.shape[1]
    at = jnp.floor(places / CELL).astype(jnp.int32)
    inside = ((at >= 0) & (at < side)).all(-1)
    rows, columns = jnp.where(inside, at[..., 1], side), jnp.where(inside, at[..., 0], side)

    def marked(rows, columns):
        return jnp.zeros((side, side)).at[rows, columns].set(1.0, mode="drop")

    labels = jax.vmap(marked)(rows, columns)
    wrong = jnp.logaddexp(0.0, cells[..., 0]) - labels * cells[..., 0]
    own = jax.vmap(lambda c, r, k: c.at[r, k].get(mode="clip"))(cells, rows, columns)
    off = own[..., 1:] + CELL / 2 - (places - at * CELL)
    distance = jnp.where(inside, jnp.abs(off).sum(-1), 0.0).sum(-1) / jnp.maximum(inside.sum(-1), 1)
    return wrong.sum((1, 2)) / 4.0 + distance


def _reading_loss(read: dict, crops: Crops) -> tuple[jax.Array, dict]:
    """Cross-entropy (B,) of characters, a tenth where others are drawn over them, heading and being clear."""
    whole = crops.clear.astype(jnp.float32)
    weight = {"callsign": whole[:, 0], "altitude": whole[:, 1], "speed": whole[:, 1]}
    total, metrics = 0.0, {}
    for name, weights in weight.items():
        labels = getattr(crops, name)
        score = jax.nn.log_softmax(read[name])
        right = jnp.take_along_axis(score, labels[..., None], -1)[..., 0]
        total -= (0.1 + 0.9 * weights) * right.sum(-1)
        hits = (read[name].argmax(-1) == labels).mean(-1)
        metrics[name] = jnp.where(weights > 0, hits, 1.0)
    total += 4.0 * jnp.square(read["heading"] - crops.heading).sum(-1)
    total += (jnp.logaddexp(0.0, read["clear"]) - whole * read["clear"]).sum(-1)
    return total, metrics


@struct.dataclass
class Blips:
    """What is read of pictures; leaves (B, K, ...), the best blips first."""

    found: jax.Array  # bool
    score: jax.Array  # probability of being one
    place: jax.Array  # (.., 2) pixels
    callsign: jax.Array  # (.., 8, 37) probabilities
    altitude_ft: jax.Array
    altitude_p: jax.Array  # product of the digits' probabilities and of their being clear
    speed_kt: jax.Array  # over ground
    heading_rad: jax.Array
    clear: jax.Array  # (.., 2) probabilities: callsign, numbers


def read(variables: dict, pictures: jax.Array, config: ReaderConfig, dtype=jnp.float32) -> Blips:
    """Reads pictures (B, H, W, 3) in [-1, 1]; jittable."""
    model = Reader(config, dtype)
    cells = model.apply(variables, pictures, method="finds")
    score, place = _best(cells, config.blips)
    found = (score > config.threshold) & _first_of_its_place(place)
    windows = windows_at(pictures, place)
    flat = model.apply(variables, windows.reshape(-1, WINDOW, WINDOW, 3), method="blocks")
    out = jax.tree.map(lambda x: x.reshape(*place.shape[:2], *x.shape[1:]), flat)
    clear = jax.nn.sigmoid(out["clear"])

    def number(name, unit):
        count = CLASSES[name][0]
        powers = 10 ** jnp.arange(count - 1, -1, -1)
        value = (out[name].argmax(-1) * powers).sum(-1) * unit
        return value.astype(jnp.float32), jax.nn.softmax(out[name]).max(-1).prod(-1)

    altitude, altitude_p = number("altitude", 100)
    speed, _ = number("speed", 10)
    heading = jnp.mod(jnp.arctan2(out["heading"][..., 0], out["heading"][..., 1]), 2 * jnp.pi)
    return Blips(
        found, score, place, jax.nn.softmax(out["callsign"]), altitude, altitude_p * clear[..., 1], speed,
        heading, clear,
    )  # fmt: skip


def _best(cells: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Probabilities (B, K) and places (B, K, 2), px, of the cells (B, h, w, 3) that most look like one."""
    batch, rows, columns, _ = cells.shape
    flat = cells.reshape(batch, rows * columns, 3)
    score, index = jax.lax.top_k(flat[..., 0], min(count, rows * columns))
    inside = jnp.take_along_axis(flat[..., 1:], index[..., None], 1) + CELL / 2
    corner = jnp.stack([index % columns, index // columns], -1) * CELL
    return jax.nn.sigmoid(score), corner + inside


def _first_of_its_place(places: jax.Array) -> jax.Array:
    """Whether none of the better blips of (B, K, 2) is within TOGETHER_PX, (B, K) bool."""
    apart = jnp.linalg.norm(places[:, :, None] - places[:, None], axis=-1)
    better = jnp.tril(jnp.ones(apart.shape[1:], bool), -1)
    return ~((apart < TOGETHER_PX) & better).any(-1)
