"""`generate`: continue a picture or video under given actions into an mp4, chunk by chunk."""

import dataclasses
import time
from functools import partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos_use import Generate
from launch.shared import runs, video
from launch.shared.video import VideoError
from wm.cosmos import generator
from wm.cosmos.networks import autoencoder, dit
from wm.cosmos.networks.config import ModelConfig, resolve
from wm.cosmos.sampling.sample import SampleConfig, World, rollout
from wm.cosmos.training.clips import ClipError
from wm.cosmos.weights import text_embedding
from wm.cosmos.weights.sources import WeightsError
from wm.store.checkpoints import CheckpointError


class GenerateError(ValueError):
    """What is asked for can't be generated; one line with the remedy."""


def world_of(config: Generate) -> World:
    """The model on this machine's first device, in the precision that suits it."""
    if not Path(config.model).is_dir():
        return _random_world(config, jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    world = generator.read(Path(config.model), config.vae)
    if config.schedule == "few" and not world.config.dit.step_hidden:
        raise GenerateError(
            f"{config.model} wasn't trained to sample in few steps: fine-tune with a shortcut share"
        )
    context = world.context if config.context is None else _embedding(config.context, world)
    negative = None if config.negative is None else _embedding(config.negative, world)
    own_fps = config.fps if world.config.rope_fps else None
    return dataclasses.replace(world, context=context, negative=negative, fps=own_fps)


def _random_world(config: Generate, dtype) -> World:
    model, note = resolve(config.model)
    if model.name not in ("tiny", "mini"):
        raise GenerateError(f"{note or model.name}: convert its weights first, then name their folder")
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.jit(partial(dit.init, dit.CosmosDiT(model.dit, model.action)))(keys[0])
    coder_params = jax.jit(partial(autoencoder.initial_params, model.vae))(keys[1])
    print(f"{model.name}: random weights, so the video is noise")
    return World(model, params, coder_params, dit.empty_context(model.dit), dtype=dtype)


def _embedding(path: Path, world: World) -> jax.Array:
    """(1, K, context_width) from a file, projected if it holds what the text encoder gave."""
    return jnp.asarray(text_embedding.project(world.config.dit, world.params, text_embedding.read(path)))


def start_of(config: Generate) -> np.ndarray:
    """(1, given, H, W, 3) in [-1, 1]."""
    if config.start is None:
        size = (config.height or 64, config.width or 64)
        return np.zeros((1, config.given, *size, 3), np.float32)
    frames = video.read(config.start, last=config.given)
    if len(frames) < config.given:
        raise GenerateError(f"{config.start} has {len(frames)} frames; --given asks for {config.given}")
    if config.height:
        size = (config.width, config.height)
        frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    return frames[None]


def actions_of(config: Generate, model: ModelConfig) -> np.ndarray | None:
    """(1, n, A) in the scale that the model was trained with."""
    if config.actions is None:
        return None
    try:
        if config.actions.suffix == ".npy":
            actions = np.load(config.actions, allow_pickle=False)
        else:
            actions = np.loadtxt(config.actions, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise GenerateError(f"{config.actions} can't be read as actions: {error}") from error
    if actions.ndim != 2 or not np.isfinite(actions).all():
        raise GenerateError(f"{config.actions} is {actions.shape}, must be (n, A) finite numbers")
    beside = Path(config.model).parent / "normaliser.json"
    path = config.normaliser or (beside if Path(config.model).is_dir() and beside.exists() else None)
    if path is not None:
        actions = generator.scale_of(Path(path))(actions)
    elif model.action is not None:
        print("no normaliser: actions are given to the model as they are")
    return actions[None].astype(np.float32)


def generate(config: Generate) -> dict:
    """Writes video.mp4, frames.png (where chunks end) and results.json; returns what is in the last."""
    world = world_of(config)
    start, actions = start_of(config), actions_of(config, world.config)
    told = world.config.condition_time if config.condition_time is None else config.condition_time
    how = SampleConfig(config.steps, config.solver, config.schedule, config.shift, told, config.guidance)
    chunks = rollout(world, start, actions, jax.random.key(config.seed), how, config.frames, config.chunks)
    new = config.frames - config.given
    total = config.chunks if actions is None else actions.shape[1] // new
    first = next(chunks)  # before anything is written: what doesn't fit the model is refused here
    folder = config.out or runs.create("cosmos-generate")
    height, width = start.shape[2:4]
    seconds, shown = [], [start[0, -1], first[0, -1]]
    with (
        video.writer(folder / "video.mp4", height, width, config.fps) as write,
        runs.progress((total or 1) * new, "frame", done=new) as line,
    ):
        write(start[0])
        write(first[0])
        begin = time.perf_counter()
        for chunk in chunks:
            write(chunk[0])
            shown.append(chunk[0, -1])
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            line.update(new)
    chosen = np.linspace(0, len(shown) - 1, min(8, len(shown))).round().astype(int)
    strip = np.concatenate([video.to_bytes(shown[index]) for index in chosen], 1)
    cv2.imwrite(str(folder / "frames.png"), strip[..., ::-1])
    results = {
        "config": cli.to_json(config),
        "frames": config.given + new * (len(shown) - 1),
        # The first chunk compiles; without a second there is no time to tell.
        "seconds_per_frame": float(np.median(seconds)) / new if seconds else None,
    }
    runs.write_results(folder, results)
    speed = f", {results['seconds_per_frame']:.3f} s per frame" if seconds else ""
    print(f"{folder}/video.mp4: {results['frames']} frames{speed}")
    return results


def main(argv: list[str]) -> None:
    """Generate, or say in one line why not."""
    config = cli.parse(Generate, argv)
    with runs.one_line_errors(ValueError, WeightsError, CheckpointError, ClipError, VideoError, OSError):
        generate(config)
