"""What a run folder holds: autoencoder, reader and pixel model, each a checkpoint with all that it needs.

    coder = Coder.load("runs/scope/run/coder")
    latents = coder.encode(hour.pictures, coder.number("kabq"))

Letters: B pictures, H W pixels, h w latent rows and columns, Z numbers of a latent.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from configs import cli
from wm.cosmos.scope import reader as reading
from wm.cosmos.scope.coder import CoderConfig, PictureCoder, Scale, shown
from wm.cosmos.scope.commands import FEATURES, Statistics
from wm.cosmos.scope.hours import Hour, ScopeError
from wm.cosmos.scope.model import ScopeConfig
from wm.cosmos.scope.reader import Blips, ReaderConfig
from wm.store import checkpoints

STEP = 0
BATCH = 16  # pictures that are encoded, decoded or read at once


def compute_dtype() -> Any:
    """bfloat16 on a GPU, float32 elsewhere."""
    return jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32


def halved(params: Any) -> Any:
    """Parameters in bfloat16, in which they are stored."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)


def _save(folder: Path, kind: str, config: Any, tree: dict, about: dict) -> None:
    tree = tree | {"params": halved(tree["params"])}
    described = {"kind": kind, "config": cli.to_json(config), **about}
    checkpoints.save(folder, STEP, jax.tree.map(np.asarray, tree), described, keep=1)


def _load(folder: Path, kind: str, config_class: type) -> tuple[Any, dict, dict]:
    """(configuration, arrays, what else is known). Raises ScopeError where it is another kind."""
    described = checkpoints.load_config(folder, STEP)
    if described.get("kind") != kind:
        raise ScopeError(f"{folder} is no {kind}: give the folder of `launch.cosmos scope_train`")
    leaves = checkpoints.load_leaves(folder, STEP)
    tree = unflatten_dict({tuple(name.split("/")): leaf for name, leaf in leaves.items()})
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), tree["params"])
    return cli.from_json(config_class, described["config"]), tree | {"params": params}, described


def _in_parts(work, rows: np.ndarray, *more: Any) -> Any:
    """`work` on BATCH rows at a time, the last part made up with repeats; leaves on the host."""
    parts = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        padded = np.concatenate([part, np.repeat(part[-1:], BATCH - len(part), 0)])
        whole = len(part)
        parts.append(jax.tree.map(lambda x, n=whole: np.asarray(x)[:n], work(padded, *more)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@dataclass(frozen=True, eq=False)
class Coder:
    """The autoencoder with the scale of its latents; `airports` are those whose maps it knows."""

    config: CoderConfig
    params: Any
    scale: Scale
    airports: tuple[str, ...]
    palette: np.ndarray

    def save(self, folder: Path) -> None:
        """Writes it."""
        tree = {
            "params": self.params,
            "background": self.scale.background,
            "deviation": self.scale.deviation,
            "palette": self.palette,
        }
        _save(folder, "coder", self.config, tree, {"airports": list(self.airports)})

    @classmethod
    def load(cls, folder: Path) -> "Coder":
        """Reads it. Raises ScopeError or CheckpointError."""
        config, tree, about = _load(folder, "coder", CoderConfig)
        scale = Scale(tree["background"], tree["deviation"])
        return cls(config, tree["params"], scale, tuple(about["airports"]), tree["palette"])

    def number(self, airport: str) -> int:
        """The number of an airport. Raises ScopeError for one it never saw."""
        if airport not in self.airports:
            known = ", ".join(self.airports)
            raise ScopeError(f"the model has never seen {airport}, only {known}: train it with hours of it")
        return self.airports.index(airport)

    def check(self, hour: Hour) -> None:
        """Raises ScopeError where an hour's pictures are not of the kind that it learned."""
        side = self.scale.background.shape[1] * 8
        if hour.side != side or (hour.palette != self.palette).any():
            raise ScopeError(
                f"pictures of {hour.airport} {hour.seed} have {hour.side} px or another palette; the "
                f"autoencoder learned {side} px: record them as those"
            )

    def encode(self, pictures: np.ndarray, airport: int) -> np.ndarray:
        """Palette indices uint8 (B, H, W) -> normalised latents (B, h, w, Z) float16."""
        return _in_parts(self._encode, pictures, airport).astype(np.float16)

    def encode_colours(self, pictures: np.ndarray, airport: int) -> np.ndarray:
        """As `encode`, of pictures (B, H, W, 3) uint8."""
        return _in_parts(self.colours_encoded, pictures, airport).astype(np.float16)

    def decode(self, latents: np.ndarray, airport: int) -> np.ndarray:
        """Normalised latents -> pictures (B, H, W, 3) in [-1, 1] float32."""
        return _in_parts(self.decoded, np.asarray(latents, np.float32), airport)

    @cached_property
    def model(self) -> PictureCoder:
        """The network."""
        return PictureCoder(self.config, compute_dtype())

    @cached_property
    def _encode(self):
        return self._encoder(lambda indices: shown(indices, self.palette))

    @cached_property
    def colours_encoded(self):
        """The jitted encoder of pictures (B, H, W, 3) uint8, on the device; airports (B,) or one."""
        return self._encoder(lambda colours: colours.astype(jnp.float32) / 127.5 - 1.0)

    def _encoder(self, colours):
        @jax.jit
        def encode(params, scale, pictures, airport):
            raw = self.model.apply({"params": params}, colours(pictures), method="encode")
            return scale.normal(raw, airport)

        return partial(encode, jax.device_put(self.params), jax.device_put(self.scale))

    @cached_property
    def decoded(self):
        """The jitted decoder, (latents, airport) on the device."""

        @jax.jit
        def decode(params, scale, latents, airport):
            raw = scale.raw(latents, airport)
            return jnp.clip(self.model.apply({"params": params}, raw, method="decode"), -1.0, 1.0)

        return partial(decode, jax.device_put(self.params), jax.device_put(self.scale))


@dataclass(frozen=True, eq=False)
class Eyes:
    """The reader with its weights."""

    config: ReaderConfig
    params: Any

    def save(self, folder: Path) -> None:
        """Writes it."""
        _save(folder, "reader", self.config, {"params": self.params}, {})

    @classmethod
    def load(cls, folder: Path) -> "Eyes":
        """Reads it. Raises ScopeError or CheckpointError."""
        config, tree, _ = _load(folder, "reader", ReaderConfig)
        return cls(config, tree["params"])

    def read(self, pictures: np.ndarray) -> Blips:
        """Reads pictures (B, H, W, 3) in [-1, 1]; leaves [B, K, ...] on the host."""
        return _in_parts(self.seen, pictures)

    @cached_property
    def seen(self):
        """The jitted reader, on the device."""
        read = jax.jit(partial(reading.read, config=self.config, dtype=compute_dtype()))
        return partial(read, jax.device_put({"params": self.params}))


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixel model with its weights and the statistics of its commands."""

    config: ScopeConfig
    params: Any
    statistics: Statistics
    slots: int
    shift: float
    shortcut: bool
    commands: str  # "structured" or "overlay", see `configs.scope.ScopeTrain`

    def save(self, folder: Path) -> None:
        """Writes it."""
        about = {"statistics": cli.to_json(self.statistics), "features": list(FEATURES), "slots": self.slots}
        about |= {"shift": self.shift, "shortcut": self.shortcut, "commands": self.commands}
        _save(folder, "pixel model", self.config, {"params": self.params}, about)

    @classmethod
    def load(cls, folder: Path, coder: Coder) -> "Pixels":
        """Reads it.

        Raises:
          ScopeError: it was trained on other commands, or on latents of another autoencoder than `coder`.
        """
        config, tree, about = _load(folder, "pixel model", ScopeConfig)
        if about["features"] != list(FEATURES):
            raise ScopeError(f"{folder} was trained with other commands than this version's: train it again")
        side = coder.scale.background.shape[1]
        if (config.side, config.latent) != (side, coder.config.latent):
            raise ScopeError(
                f"{folder} draws {config.side} x {config.side} latents of {config.latent} numbers, the "
                f"autoencoder has {side} x {side} of {coder.config.latent}: give its own"
            )
        statistics = Statistics(*(tuple(about["statistics"][name]) for name in ("mean", "std")))
        how = (about[name] for name in ("slots", "shift", "shortcut", "commands"))
        return cls(config, tree["params"], statistics, *how)


def with_unit_scale(config: CoderConfig, params: Any, airports: tuple[str, ...], palette, side: int) -> Coder:
    """A coder that was just trained: its latents come as they are."""
    shape = (len(airports), side // 8, side // 8, config.latent)
    unit = Scale(np.zeros(shape, np.float32), np.ones(config.latent, np.float32))
    # As it will be loaded: the scale is fitted to the latents of the stored weights.
    stored = jax.tree.map(lambda x: np.asarray(x, np.float32), halved(params))
    return Coder(config, stored, unit, airports, palette)


def scaled(coder: Coder, scale: Scale) -> Coder:
    """The same coder with its latents' scale."""
    return replace(coder, scale=scale)
