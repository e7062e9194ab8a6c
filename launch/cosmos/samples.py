"""How a fine-tuning run stands: its loss with true and with exchanged actions, and what it draws."""

from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from launch.cosmos.run import Run
from wm.cosmos.sampling.sample import SampleConfig, sample
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.train import Batch

DRAWS = 8  # noise levels per held-out clip, the same ones every time


class Judge:
    """Compiled once, asked after every epoch."""

    def __init__(self, run: Run):
        self.run = run
        self.rows = np.arange(run.training, len(run.data))
        self._losses = jax.jit(run.clips.flow_objective(FlowConfig(shift=run.config.shift)))
        self._draw = jax.jit(self._drawn, static_argnames="config")

    def losses(self, variables: Any) -> dict[str, float]:
        """Mean held-out loss, and that when every clip gets its neighbour's actions.

        Equal ones mean a model that ignores its actions.
        """
        latents = np.asarray(self.run.data.latents[self.rows], np.float32)
        actions = self.run.actions(self.rows)
        result = {"loss": self._mean_loss(variables, latents, actions)}
        if actions is not None:
            result["loss_shuffled"] = self._mean_loss(variables, latents, np.roll(actions, 1, axis=0))
        return {f"held_out/{name}": value for name, value in result.items()}

    def draw(
        self,
        variables: Any,
        rows: np.ndarray,
        actions: np.ndarray | None,
        config: SampleConfig,
        seed: int = 0,
    ) -> np.ndarray:
        """Latents (B, T, H, W, C) that continue the given frames of clips under `actions`, normalised."""
        known = jnp.asarray(self.run.data.latents[rows], jnp.float32)
        return np.asarray(self._draw(variables, known, actions, jax.random.key(seed), config=config))

    def picture(self, variables: Any, path: Path) -> None:
        """Held-out clips: above the truth as the autoencoder gives it back, below what the model draws."""
        rows = self.rows[: self.run.config.pictures]
        config = sampler(self.run)
        drawn = self.draw(variables, rows, self.run.actions(rows), config)
        truth = self.run.coder.decode(np.asarray(self.run.data.latents[rows], np.float32))
        save_grid(path, truth, self.run.coder.decode(drawn))

    def _mean_loss(self, variables: Any, latents: np.ndarray, actions: np.ndarray | None) -> float:
        total = []
        for draw in range(DRAWS):
            keys = jax.random.split(jax.random.key(draw), len(latents))
            losses, _ = self._losses(variables, Batch(latents, actions), keys, {})
            total.append(np.asarray(losses))
        return float(np.mean(total))

    def _drawn(self, variables, known, actions, key, config: SampleConfig):
        mask = self.run.clips.mask(*known.shape[:2])
        network = self.run.clips.network(variables, actions)
        return sample(network, known, mask, key, config, self.run.model.parametrisation)


def sampler(run: Run) -> SampleConfig:
    """As the run's options say; few steps of models that learned them are steps of known size."""
    few = run.config.shortcut_share > 0 and run.config.sampler_steps <= 8
    if few:
        return SampleConfig(run.config.sampler_steps, "euler", "few")
    return SampleConfig(run.config.sampler_steps, shift=run.config.shift)


def save_grid(path: Path, *videos: np.ndarray, clips: int = 8, frames: int = 6) -> None:
    """A PNG of uint8 videos (B, F, H, W, 3): a row for each of the first clips and each video."""
    chosen = np.linspace(0, videos[0].shape[1] - 1, min(frames, videos[0].shape[1])).round().astype(int)
    edge = 2
    strips = []
    for clip in zip(*(video[:clips] for video in videos), strict=True):
        for video in clip:
            padded = np.pad(video[chosen], ((0, 0), (edge, 0), (edge, 0), (0, 0)), constant_values=128)
            strips.append(np.concatenate(list(padded), axis=1))
    if not cv2.imwrite(str(path), np.concatenate(strips)[..., ::-1]):
        raise OSError(f"{path} can't be written")
