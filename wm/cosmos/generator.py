"""A Cosmos checkpoint as one function from a picture and actions to video; see `wm.cosmos.load`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.networks import dit
from wm.cosmos.networks.config import ModelConfig
from wm.cosmos.sampling.sample import SampleConfig, World, rollout
from wm.cosmos.training.clips import Normaliser
from wm.cosmos.weights import models
from wm.cosmos.weights.sources import WeightsError

FRAMES = 17  # of a chunk, as the published models with actions have them


@dataclass(frozen=True, eq=False)
class Generator:
    """Continues videos: `generator(start, actions, key)`.

    Attributes:
      world: the model with its weights.
      scale: of the actions that it was trained with; None: they are given to it as they are.
      frames: F of a chunk, given ones included.
      how: chunks are drawn.
    """

    world: World
    scale: Normaliser | None
    frames: int
    how: SampleConfig

    def __call__(
        self, start: np.ndarray, actions: np.ndarray | None, key: jax.Array, chunks: int | None = None
    ) -> np.ndarray:
        """The start and what the model makes of it.

        Args:
          start: (B, G, H, W, 3) in [-1, 1]; one picture, or the last frames of a video.
          actions: (B, chunks (F - G), A), as recorded, those after the last frame of `start`; None: the model
            takes none.
          chunks: needed where there are no actions.

        Returns:
          (B, G + chunks (F - G), H, W, 3) float32 in [-1, 1].

        Raises ValueError where these don't fit the model or each other.
        """
        if actions is not None and self.scale is not None:
            actions = self.scale(np.asarray(actions, np.float32))
        new = rollout(self.world, start, actions, key, self.how, self.frames, chunks)
        return np.concatenate([np.asarray(start, np.float32), *new], 1)


def load(
    folder: Path | str, coder: Path | str | None = None, frames: int | None = None, **how: Any
) -> Generator:
    """See `wm.cosmos.load`."""
    folder = Path(folder)
    run = folder.parent if folder.name == "model" else folder
    run = run if (run / "model").is_dir() and (run / "config.json").is_file() else None
    asked = {} if run is None else _config(run / "config.json")
    world = read(folder, coder or asked.get("vae"))
    known = {"shift": asked["shift"]} if "shift" in asked else {}
    told = {"condition_time": world.config.condition_time}
    scale = None if run is None or world.config.action is None else scale_of(run / "normaliser.json")
    return Generator(world, scale, frames or asked.get("frames", FRAMES), SampleConfig(**told | known | how))


def read(folder: Path, coder: Path | str | None = None) -> World:
    """A model on this machine's first device, in the precision that suits it.

    Args:
      folder: of a fine-tuning run, of a transformer, or of a repository as `launch.cosmos convert` writes it.
      coder: folder of its autoencoder; may be left out where the folder has one.

    Raises:
      WeightsError, CheckpointError: there is none, or it is another kind's; one line.
    """
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16

    def place(path: str, leaf: np.ndarray) -> jax.Array:
        return jnp.asarray(leaf, jnp.float32 if dit.keeps_float32(path) else dtype)

    inside = next((folder / name for name in ("transformer", "model") if (folder / name).is_dir()), folder)
    if coder is None and (folder / "vae").is_dir():
        coder = folder / "vae"
    if coder is None:
        raise WeightsError(f"{folder} has no autoencoder: name the folder of its converted weights (--vae)")
    model, made = models.load(inside, place), models.load(coder)
    if not isinstance(model.config, ModelConfig):
        raise WeightsError(f"{inside} holds an autoencoder; name a transformer's folder")
    if type(made.config) is not type(model.config.vae):
        raise WeightsError(
            f"{coder} holds a {type(made.config).__name__}; {model.config.name} wants a "
            f"{type(model.config.vae).__name__}"
        )
    whole = replace(model.config, vae=made.config)
    context = model.context if model.context is not None else dit.empty_context(whole.dit)
    return World(whole, model.params, made.params, jnp.asarray(context), dtype=dtype)


def scale_of(path: Path) -> Normaliser:
    """The scale of actions that a fine-tuning run keeps. Raises WeightsError where the file has none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Normaliser(tuple(stored["mean"]), tuple(stored["std"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} isn't the scale of actions: {error}") from error


def _config(path: Path) -> dict:
    """What a run was asked for. Raises WeightsError where the file can't be read."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: stored[name] for name in ("vae", "frames", "shift")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path} isn't the configuration of a fine-tuning run: {error}") from error
