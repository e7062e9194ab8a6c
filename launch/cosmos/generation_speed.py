"""Frames per second that a Cosmos model with random weights generates: a part of `launch.cosmos.bench`."""

import itertools
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.cosmos import Bench
from launch.shared import records
from wm.cosmos.networks import autoencoder, dit
from wm.cosmos.networks.config import resolve
from wm.cosmos.sampling.sample import SampleConfig, World
from wm.cosmos.training import cost


def measure(config: Bench) -> tuple[dict[str, Any], dict[str, records.Figure]]:
    """Rows and figures: frames per second with decoding for each number of steps, and of decoding alone.

    One clip is one given frame and `frames - 1` new ones; only these count. The first frame is encoded before
    and its encoding isn't timed: in a rollout it is one frame in `frames`.
    """
    world = _world(config)
    model, batch = world.config, config.batch_generate
    latent_frames, size = model.latent_frames(config.frames), model.latent_size(config.large, config.large)
    known = jnp.zeros((batch, latent_frames, *size, model.dit.latent_channels))
    mask = jnp.broadcast_to(jnp.arange(latent_frames) < 1, (batch, latent_frames)).astype(jnp.float32)
    actions = jnp.ones((batch, config.frames - 1, model.action.width)) if model.action else None
    new_frames = batch * (config.frames - 1)

    rows, figures = {}, {}
    latents = jax.random.normal(jax.random.key(3), known.shape)
    first, decode = timed(partial(world.decode, latents), config.repeats)
    rows["decode"] = {"compile_and_first_s": first, "seconds": decode}
    figures["fps_decode"] = rate(new_frames, decode)
    print(f"decode: {figures['fps_decode'].value:.4g} frames/s", flush=True)
    for steps in config.sampler_steps:
        how = SampleConfig(steps) if steps > 4 else SampleConfig(steps, "euler", "few")
        numbers = itertools.count()

        def draw(how=how, numbers=numbers):
            return world.draw(known, mask, actions, jax.random.key(next(numbers)), how)

        first, seconds = timed(draw, config.repeats)
        tflops = steps * cost.forward_flops(model, config.frames, config.large, config.large, batch) / 1e12
        both = [a + b for a, b in zip(seconds, decode, strict=True)]
        name = f"{steps}_step{'s' if steps > 1 else ''}"
        rows[name] = {
            "batch": batch,
            "compile_and_first_s": first,
            "seconds": seconds,
            "tflops": tflops / float(np.median(seconds)),
        }
        figures[f"fps_{name}"] = rate(new_frames, both)
        figures[f"fps_{name}_latents"] = rate(new_frames, seconds)
        print(f"fps_{name}: {figures[f'fps_{name}'].value:.4g} frames/s, decoded", flush=True)
    return rows, figures


def timed(call, repeats: int) -> tuple[float, list[float]]:
    """(seconds of the first call, which compiles; seconds of each of `repeats` further ones)."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return times[0], times[1:]


def rate(frames: int, seconds: list[float]) -> records.Figure:
    """Frames per second: median, slowest and fastest."""
    rates = [frames / each for each in seconds]
    return records.Figure(float(np.median(rates)), min(rates), max(rates), "frames/s", len(rates))


def random_params(shapes: Any, dtype: jnp.dtype) -> Any:
    """Normal weights of unit gain and norms' gains of one, made leaf by leaf so that memory stays low."""
    normal = jax.jit(
        lambda key, gain, shape: (jax.random.normal(key, shape, dtype) * gain).astype(dtype),
        static_argnums=2,
    )
    leaves, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = []
    for (path, leaf), key in zip(leaves, keys, strict=True):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        ones = name in ("scale", "gamma")
        made.append(
            jnp.ones(leaf.shape, dtype)
            if ones
            else normal(key, _fan_in(leaf.shape, name) ** -0.5, leaf.shape)
        )
    return treedef.unflatten(made)


def _fan_in(shape: tuple[int, ...], name: str) -> float:
    """What a weight is summed over: rows of a matrix, or positions and channels of a convolution."""
    if name != "kernel":
        return 2500.0
    return float(np.prod(shape[:-1]) if len(shape) > 3 else shape[-2])


def _world(config: Bench) -> World:
    model = resolve(config.model)[0].without_text()
    network = dit.CosmosDiT(model.dit, model.action)
    coder = jax.eval_shape(partial(autoencoder.initial_params, model.vae), jax.random.key(0))
    shapes = jax.eval_shape(lambda: dit.init(network, jax.random.key(0)))
    params = random_params(shapes, jnp.bfloat16)
    return World(model, params, random_params(coder, jnp.bfloat16), dit.empty_context(model.dit))
