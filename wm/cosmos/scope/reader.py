"""Reading pictures of the scope: where blips are, and what callsign, altitude, speed and heading they have.

A finder looks at every 4 x 4 pixels and says whether a blip's centre lies there, and where; a block reader
looks at 64 x 64 pixels around a blip. Both learn from recorded pictures, and from such pictures after the
autoencoder, with noise, since drawn ones look like that.

    found = read(params, pictures, config)      # pictures (B, H, W, 3) in [-1, 1]

`Tracks` follows aircraft through pictures. A blip is an aircraft's where it is near the place that the last
two pictures lead to, and where its callsign can be read as the aircraft's; of all assignments the cheapest is
taken.

Letters: B pictures, K blips of a picture, best first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from scipy.optimize import linear_sum_assignment

from wm.cosmos.networks.vae import Conv, pointwise
from wm.cosmos.scope.coder import Residual, shown, to_patches
from wm.cosmos.scope.commands import Track
from wm.cosmos.scope.crops import CALLSIGN_TOP, CHARACTER_PX, NUMBERS_TOP, TEXT_LEFT, Crops
from wm.cosmos.scope.hours import INTERVAL_S
from wm.cosmos.training import flow

CELL = 4  # pixels along the side of a finder's cell
WINDOW = 64  # pixels along the side of what the block reader sees
WINDOW_CORNER = (-32, -48)  # from the blip's rounded place
TOGETHER_PX = 2.5  # what is found closer to a better blip is the same blip
LETTERS = 37
CLASSES = {"callsign": (8, LETTERS), "altitude": (3, 10), "speed": (2, 10)}
PIECE = (14, 16)  # columns and rows around a character
HIDDEN = 0.3  # weight of characters that something else is drawn over
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


class CharacterReader(nn.Module):
    """Pieces of windows (n, 16, 14, 3), each around one character -> logits of its class (n, 37)."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pieces: jax.Array) -> jax.Array:
        x = nn.gelu(Conv(self.width // 2, dtype=self.dtype, name="first")(pieces))
        x = nn.gelu(Conv(self.width // 2, stride=2, dtype=self.dtype, name="halve")(x))
        x = x.reshape(len(x), -1)
        x = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype, name="hidden")(x)).astype(jnp.float32)
        return nn.Dense(LETTERS, name="out")(x)


class BlockReader(nn.Module):
    """(B, 64, 64, 3) -> logits of every character, sine and cosine of heading, logits of being clear.

    All characters have the same reader, which sees nothing but the one: it knows no callsigns, only letters.
    """

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, windows: jax.Array) -> dict[str, jax.Array]:
        corners = [corner for name in CLASSES for corner in _corners(name)]
        pieces = [windows[:, y : y + PIECE[1], x : x + PIECE[0]] for x, y in corners]
        flat = jnp.stack(pieces, 1).reshape(-1, PIECE[1], PIECE[0], windows.shape[-1])
        score = CharacterReader(self.width, self.dtype, name="character")(flat)
        score = score.reshape(len(windows), len(corners), LETTERS)
        out, first = {}, 0
        for name, (count, kinds) in CLASSES.items():  # digits are the last ten letters
            out[name] = score[:, first : first + count, LETTERS - kinds :]
            first += count
        x = Conv(self.width, dtype=self.dtype, name="first")(to_patches(windows, CELL))
        x = Residual(self.dtype, name="block0")(x)
        x = Residual(self.dtype, name="block1")(x)
        x = Conv(self.width, stride=2, dtype=self.dtype, name="halve")(nn.gelu(x))
        x = Residual(self.dtype, name="block2")(x)
        x = nn.gelu(x).reshape(len(x), -1)
        x = nn.gelu(nn.Dense(2 * self.width, dtype=self.dtype, name="hidden")(x)).astype(jnp.float32)
        return out | {name: nn.Dense(2, name=name)(x) for name in ("heading", "clear")}


def _corners(name: str) -> list[tuple[int, int]]:
    """Left upper corners in a window of the pieces around the characters of `name`."""
    count, first = CLASSES[name][0], {"speed": 4}.get(name, 0)
    top = CALLSIGN_TOP if name == "callsign" else NUMBERS_TOP
    left = [TEXT_LEFT + CHARACTER_PX * (first + number) for number in range(count)]
    return [(int(x) - WINDOW_CORNER[0] - 5, int(top) - WINDOW_CORNER[1] - 4) for x in np.floor(left)]


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
        keys, tilt_keys = flow.split_keys(keys)
        pictures = degrade(shown(crops.indices, palette), keys)
        cells = model.apply(variables, pictures, method="finds")
        tilt = jax.vmap(lambda k: jax.random.uniform(k, (2,), minval=-TILT_PX, maxval=TILT_PX))(tilt_keys)
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
    """Cross-entropy (B,) of characters and of being clear, and the heading's squared error."""
    whole = crops.clear.astype(jnp.float32)
    weight = {"callsign": whole[:, 0], "altitude": whole[:, 1], "speed": whole[:, 1]}
    total, metrics = 0.0, {}
    for name, weights in weight.items():
        labels = getattr(crops, name)
        score = jax.nn.log_softmax(read[name])
        right = jnp.take_along_axis(score, labels[..., None], -1)[..., 0]
        total -= (HIDDEN + (1.0 - HIDDEN) * weights) * right.sum(-1)
        hits = (read[name].argmax(-1) == labels).mean(-1)
        metrics[name] = jnp.where(weights > 0, hits, 1.0)
    total += 4.0 * jnp.square(read["heading"] - crops.heading).sum(-1)
    total += (jnp.logaddexp(0.0, read["clear"]) - whole * read["clear"]).sum(-1)
    return total, metrics


@struct.dataclass
class Blips:
    """What is read of pictures; leaves (B, K, ...), the best blips first."""

    found: jax.Array  # bool
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
    callsign = jax.nn.softmax(out["callsign"])
    return Blips(found, place, callsign, altitude, altitude_p * clear[..., 1], speed, heading, clear)


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


# Tracks

GATE_PX = 24.0  # half of what the fastest aircraft fly in an interval, and more than any turn takes away
LETTER_PX = 8.0  # what a callsign that is improbable by a factor e in every letter costs
UNREADABLE = 4.0  # the most that a letter costs, in powers of e
RECOGNISED = 0.6  # mean improbability of a letter, in powers of e, up to which a callsign is somebody's
READABLE = 0.5  # probability from which on digits are believed
HIDDEN_SURE = 0.3  # the same for digits alone where something is drawn over them
PLAUSIBLE_FT = 600.0  # how far such an altitude may be from the expected one
MOST_CLIMB_FT = 1000.0  # in an interval
SMOOTH = 0.5  # of the newest displacement in the velocity


@dataclass(frozen=True)
class Aircraft:
    """One aircraft as pictures show it; `missed` pictures ago it was last found."""

    callsign: np.ndarray  # [8] classes
    place: np.ndarray  # [2] pixels
    velocity: np.ndarray  # [2] pixels an interval
    altitude_ft: float
    speed_kt: float  # over ground
    heading_rad: float
    climb_ft: float = 0.0  # an interval, between the last two pictures that could be read
    missed: int = 0
    readable: bool = False  # its numbers, in the last picture


@dataclass
class Tracks:
    """The aircraft of one scope, by whatever identifies them."""

    px_per_nm: float
    side: int
    aircraft: dict[int, Aircraft] = field(default_factory=dict)
    taken: set[int] = field(default_factory=set)  # blips of the last picture that are somebody's

    def enter(self, key: int, track: Track, callsign: np.ndarray, arrives: bool = False) -> None:
        """Take in an aircraft that is where `track` (scalars) says, or `arrives` there by then."""
        place = np.asarray([track.x_nm, -track.y_nm]) * self.px_per_nm + self.side / 2
        step = 0.0 if arrives else self.px_per_nm
        velocity = step * np.asarray([track.east_nm, -track.north_nm])
        shown = (track.altitude_ft, track.speed_kt, track.heading_rad, track.climbed_ft)
        self.aircraft[key] = Aircraft(callsign, place, velocity, *(float(x) for x in shown))

    def recognise(self, callsigns: dict[int, np.ndarray], blips: Blips) -> None:
        """Take in aircraft where blips of nobody's have their callsigns [8], but for a letter.

        Each blip is one aircraft's at most, of all those that are looked for: callsigns resemble each other.
        """
        keys, free = list(callsigns), [i for i in np.flatnonzero(blips.found) if i not in self.taken]
        differs = [_differs(blips.callsign[free], callsigns[key]) for key in keys]
        pairs = zip(*linear_sum_assignment(np.stack(differs)), strict=True) if keys else ()
        for key, index in [(keys[r], free[c]) for r, c in pairs if differs[r][c] < RECOGNISED]:
            one = jax.tree.map(lambda x, i=index: np.asarray(x[i], np.float64), blips)
            step = one.speed_kt * INTERVAL_S / 3600.0 * self.px_per_nm
            velocity = step * np.asarray([np.sin(one.heading_rad), -np.cos(one.heading_rad)])
            numbers = (float(x) for x in (one.altitude_ft, one.speed_kt, one.heading_rad))
            self.aircraft[key] = Aircraft(callsigns[key], one.place, velocity, *numbers)
            self.taken.add(index)

    def forget(self, keys: set[int]) -> None:
        """Drop all aircraft but `keys`."""
        self.aircraft = {key: one for key, one in self.aircraft.items() if key in keys}

    def see(self, blips: Blips) -> int:
        """Take in the next picture, leaves of `blips` [K, ...]; returns how many blips were nobody's."""
        keys, found = list(self.aircraft), np.flatnonzero(blips.found)
        expected = {key: self.aircraft[key].place + self.aircraft[key].velocity for key in keys}
        pairs = {}
        if keys and len(found):
            cost = np.stack([self._cost(key, expected[key], blips, found) for key in keys])
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, column] < GATE_PX + LETTER_PX * UNREADABLE:
                    pairs[keys[row]] = found[column]
        for key in keys:
            if key in pairs:
                self.aircraft[key] = _seen(self.aircraft[key], blips, pairs[key])
            else:
                old = self.aircraft[key]
                carried = {"place": expected[key], "altitude_ft": old.altitude_ft + old.climb_ft}
                self.aircraft[key] = replace(old, **carried, missed=old.missed + 1, readable=False)
        self.taken = set(pairs.values())
        return len(found) - len(pairs)

    def _cost(self, key: int, place: np.ndarray, blips: Blips, found: np.ndarray) -> np.ndarray:
        """Of each found blip (n,): pixels from where it is expected, and by how much the callsign differs."""
        distance = np.linalg.norm(blips.place[found] - place, axis=-1)
        callsign = self.aircraft[key].callsign
        differs = _differs(blips.callsign[found], callsign)
        far = distance > GATE_PX
        return distance + LETTER_PX * differs * blips.clear[found, 0] + np.where(far, 1e3, 0.0)

    def track(self, keys: list[int], fallback: Track) -> Track:
        """What pictures show of aircraft [K]; where nobody is followed, `fallback`."""
        rows = []
        for slot, key in enumerate(keys):
            one = self.aircraft.get(key)
            if one is None:
                rows.append([getattr(fallback, name)[slot] for name in Track.__dataclass_fields__])
                continue
            x, y = (one.place - self.side / 2) / self.px_per_nm
            east, south = one.velocity / self.px_per_nm
            rows.append([x, -y, one.altitude_ft, one.heading_rad, one.speed_kt, east, -south, one.climb_ft])
        return Track(*np.asarray(rows, np.float32).T)


def _differs(probabilities: np.ndarray, callsign: np.ndarray) -> np.ndarray:
    """Of letters read (..., 8, 37) and a callsign [8]: mean improbability (...), in powers of e."""
    letters = probabilities[..., np.arange(len(callsign)), callsign]
    return np.minimum(-np.log(np.maximum(letters, 1e-9)), UNREADABLE).mean(-1)


def _seen(old: Aircraft, blips: Blips, index: int) -> Aircraft:
    """An aircraft after a picture in which that blip is its own.

    Numbers that something else is drawn over are believed where they are near what is expected.
    """
    place = np.asarray(blips.place[index], np.float64)
    displacement = (place - old.place) / (1 + old.missed)
    expected, shown = old.altitude_ft + old.climb_ft, float(blips.altitude_ft[index])
    readable = bool(blips.altitude_p[index] > READABLE)
    sure = blips.altitude_p[index] > HIDDEN_SURE * blips.clear[index, 1]
    near = min(abs(shown - expected), abs(shown - old.altitude_ft)) <= PLAUSIBLE_FT
    altitude, climb = expected, old.climb_ft
    if readable or (sure and near):
        altitude, climb = shown, float(np.clip(shown - old.altitude_ft, -MOST_CLIMB_FT, MOST_CLIMB_FT))
    return replace(
        old,
        place=place,
        velocity=SMOOTH * displacement + (1 - SMOOTH) * old.velocity if old.missed else displacement,
        altitude_ft=altitude,
        climb_ft=climb,
        speed_kt=float(blips.speed_kt[index]) if readable else old.speed_kt,
        heading_rad=float(blips.heading_rad[index]),
        missed=0,
        readable=readable,
    )
