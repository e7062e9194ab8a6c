"""Generating clips: a picture and actions become a video, chunk by chunk for as long as there are actions.

Dimension letters as in `wm/cosmos/networks/dit.py`; F pixel frames, of which the model sees the last G
before a chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.networks import autoencoder
from wm.cosmos.networks.config import ModelConfig
from wm.cosmos.networks.dit import CosmosDiT
from wm.cosmos.sampling import solvers
from wm.cosmos.sampling.solvers import Solver
from wm.cosmos.training import edm, flow, shortcut
from wm.cosmos.training.flow import FlowConfig


@dataclass(frozen=True)
class SampleConfig:
    """How a clip is drawn.

    Attributes:
      steps: calls of the network (twice that with guidance).
      solver: of rectified flow; EDM models are solved by Euler's method.
      schedule: noise levels: NVIDIA's "shifted", diffusers' "karras", or "few": equal steps of whose size the
        network is told, for models trained with `wm.cosmos.training.shortcut`.
      shift: of the first.
      condition_time: t told for given frames; None: that of the others, as the released model with actions.
      guidance: g of v + g (v - v_negative), for models with text; 0: none.
    """

    steps: int = 35
    solver: Solver = "unipc"
    schedule: Literal["shifted", "karras", "few"] = "shifted"
    shift: float = 5.0
    condition_time: float | None = None
    guidance: float = 0.0

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, must be at least 1")
        if self.guidance < 0:
            raise ValueError(f"guidance is {self.guidance}, must not be negative")


def sample(
    network: shortcut.StepNetwork,
    known: jax.Array,
    condition_mask: jax.Array,
    key: jax.Array,
    config: SampleConfig,
    parametrisation: str = "flow",
) -> jax.Array:
    """Draws latents (B, T, H, W, C) that continue the given frames, which come back as they are in `known`.

    Args:
      network: answers to (noisy, times, condition_mask, steps or nothing); see `wm.cosmos.training.flow`.
      known: normalised latents; what isn't given is ignored.
      condition_mask: (B, T), 1 where a frame is given.
      key: for the noise.
      config: how.
      parametrisation: of the model.
    """
    noise_key, solver_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, known.shape)
    if parametrisation != "flow":
        own = edm.CONFIGS[parametrisation]
        scaled = known.astype(jnp.float32) * own.sigma_data
        levels = solvers.karras_levels(config.steps)
        denoise = edm.denoiser(network, scaled, condition_mask, own)
        drawn = solvers.solve(denoise, noise * levels[0], levels, solver_key, "euler", rectified=False)
        return flow.given(condition_mask, known, drawn / own.sigma_data)
    if config.schedule == "few":
        denoise = shortcut.denoiser(network, known, condition_mask)
        drawn = solvers.solve(denoise, noise, solvers.even_levels(config.steps), solver_key, "euler")
    else:
        levels = solvers.shifted_levels(config.steps, config.shift)
        if config.schedule == "karras":
            levels = solvers.to_flow(solvers.karras_levels(config.steps, 0.01, 200.0))
        told = FlowConfig(condition_time=config.condition_time)
        denoise = flow.denoiser(network, known, condition_mask, told)
        drawn = solvers.solve(denoise, noise, levels, solver_key, config.solver)
    return flow.given(condition_mask, known, drawn)


def guided(network: Callable, negative: Callable, scale: float) -> Callable:
    """The network with its answer pushed away from that of `negative`, which is told what to avoid."""

    def answer(*arguments):
        wanted = network(*arguments)
        return wanted + scale * (wanted - negative(*arguments))

    return answer


@dataclass(frozen=True, eq=False)
class World:
    """A model with its weights, ready to generate.

    Attributes:
      config: of the model.
      params, coder_params: of transformer and autoencoder.
      context: (1, K, context_width) for every clip; negative: what guidance leads away from.
      dtype: of the products.
      fps: of the clips, for models whose positions depend on it.
    """

    config: ModelConfig
    params: Any
    coder_params: Any
    context: jax.Array
    negative: jax.Array | None = None
    dtype: Any = jnp.bfloat16
    fps: float | None = None

    def encode(self, video: jax.Array) -> jax.Array:
        """Video (B, F, H, W, 3) in [-1, 1] -> normalised latents (B, T, H / 8, W / 8, C) float32."""
        return self._coders[0](self.coder_params, video)

    def decode(self, latents: jax.Array) -> jax.Array:
        """Inverse of `encode`, limited to [-1, 1], float32."""
        return self._coders[1](self.coder_params, latents)

    def draw(
        self,
        known: jax.Array,
        condition_mask: jax.Array,
        actions: jax.Array | None,
        key: jax.Array,
        config: SampleConfig,
    ) -> jax.Array:
        """Latents (B, T, H, W, C) of a chunk; see `sample`."""
        if config.guidance and self.negative is None:
            raise ValueError("guidance needs the embedding of what to avoid, and there is none")
        contexts = (self.context, self.negative if config.guidance else None)
        return self._draw(self.params, contexts, known, condition_mask, actions, key, config=config)

    @cached_property
    def _coders(self):
        coder = autoencoder.module(self.config.vae, self.dtype)

        def encode(params, video):
            return coder.apply({"params": params}, video, method="encode").astype(jnp.float32)

        def decode(params, latents):
            video = coder.apply({"params": params}, latents, method="decode")
            return jnp.clip(video.astype(jnp.float32), -1.0, 1.0)

        return jax.jit(encode), jax.jit(decode)

    @cached_property
    def _draw(self):
        model = CosmosDiT(self.config.dit, self.config.action, dtype=self.dtype)
        fps = self.fps if self.config.rope_fps else None

        @partial(jax.jit, static_argnames="config")
        def draw(params, contexts, known, condition_mask, actions, key, config):
            def network(context):
                def velocity(noisy, times, mask, steps=None):
                    variables = {"params": params}
                    return model.apply(
                        variables, noisy, times, context, mask, actions=actions, fps=fps, steps=steps
                    )

                return velocity

            answer = network(contexts[0])
            if config.guidance:
                answer = guided(answer, network(contexts[1]), config.guidance)
            return sample(answer, known, condition_mask, key, config, self.config.parametrisation)

        return draw


def rollout(
    world: World,
    start: np.ndarray | jax.Array,
    actions: np.ndarray | jax.Array | None,
    key: jax.Array,
    config: SampleConfig,
    frames: int = 17,
    chunks: int | None = None,
) -> Iterator[np.ndarray]:
    """Continues videos chunk by chunk; each chunk sees the last G frames, encoded anew.

    Args:
      world: the model.
      start: (B, G, H, W, 3) in [-1, 1], G = 1 or what the autoencoder takes.
      actions: (B, chunks (frames - G), A), those after the last frame of `start`; None: the model takes none.
      key: split into one per chunk.
      config: how chunks are drawn.
      frames: F of a chunk, given ones included.
      chunks: needed where there are no actions.

    Yields:
      (B, frames - G, H, W, 3) float32 in [-1, 1], new frames only.

    Raises:
      ValueError: frames, actions or sizes that don't fit the model or each other.
    """
    chunks = _check_rollout(world.config, start, actions, frames, chunks)
    batch, seen = start.shape[:2]
    total, given_latents = world.config.latent_frames(frames), world.config.latent_frames(seen)
    mask = jnp.broadcast_to(jnp.arange(total) < given_latents, (batch, total)).astype(jnp.float32)
    pad = ((0, 0), (0, total - given_latents), (0, 0), (0, 0), (0, 0))
    history = jnp.asarray(start, jnp.float32)
    for index, own_key in enumerate(jax.random.split(key, chunks)):
        known = jnp.pad(world.encode(history), pad)
        chunk_actions = None
        if actions is not None:
            new = frames - seen
            chunk_actions = jnp.asarray(actions[:, index * new : (index + 1) * new], jnp.float32)
            # Actions between frames that are given reach no frame that isn't.
            chunk_actions = jnp.pad(chunk_actions, ((0, 0), (seen - 1, 0), (0, 0)))
        video = world.decode(world.draw(known, mask, chunk_actions, own_key, config))
        history = video[:, -seen:]
        yield np.asarray(video[:, seen:])


def _check_rollout(config, start, actions, frames, chunks):
    """How many chunks there are."""
    seen = start.shape[1]
    config.latent_size(*start.shape[2:4])
    config.latent_frames(seen)
    config.latent_frames(frames)
    if seen >= frames:
        raise ValueError(f"{seen} frames are given; chunks of {frames} would hold nothing new")
    if actions is None:
        if config.action is not None:
            raise ValueError(f"{config.name} takes actions of {config.action.width} numbers; none are given")
        if not chunks:
            raise ValueError("say how many chunks to generate, or give actions")
        return chunks
    if config.action is None:
        raise ValueError(f"{config.name} takes no actions")
    new = frames - seen
    if actions.ndim != 3 or actions.shape[0] != start.shape[0] or actions.shape[2] != config.action.width:
        raise ValueError(f"actions are {actions.shape}, must be ({start.shape[0]}, n, {config.action.width})")
    if actions.shape[1] % new or not actions.shape[1]:
        raise ValueError(f"{actions.shape[1]} actions: chunks of {frames} frames take a multiple of {new}")
    return actions.shape[1] // new
