"""`shapes`: learn a small world of moving shapes from scratch, and measure that its actions are obeyed.

    python -m launch.cosmos shapes --out runs/shapes

Below --out come

    clips/          the data, in the format that `finetune` reads; clips/truth.npy holds the true positions
    vae/            the autoencoder's weights, vae.png what it gives back
    run/            the fine-tuning run from random weights, see `finetune`
    drawn.png       test clips: the truth, under their own actions, under another clip's, in few steps
    results.json    position errors of all of these, and how solid the drifters are
    few/ opposite/ ...  further runs, see `launch.cosmos.shapes_further`
"""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos import Finetune, Shapes
from launch.cosmos.finetune import saved_variables, train
from launch.cosmos.latents import Coder
from launch.cosmos.samples import Judge, sampler, save_grid
from launch.cosmos.shapes_further import begun, by_heart, opposite
from launch.shared import parallel, records, runs
from wm.cosmos.networks.config import ModelConfig, resolve
from wm.cosmos.networks.vae import WanVAE, initial_params
from wm.cosmos.sampling.sample import SampleConfig
from wm.cosmos.training import clips, fit_vae, shapes
from wm.cosmos.training.shapes import World
from wm.cosmos.training.train import Trainer
from wm.cosmos.weights import models
from wm.store import checkpoints


def make_clips(config: Shapes, world: World, folder: Path) -> None:
    """The data set: training clips, then test clips, and the true positions of all (clips, F, shapes, 2)."""
    if (folder / "truth.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    count = config.clips + config.test
    write = partial(shapes.write, world, folder, 1_000_000 * config.seed)
    # Spawned, not forked: this process may hold a device.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(write, range(count), chunksize=64)
        truth = np.stack(list(runs.track(done, "clip", count)))
    np.save(folder / "truth.npy", truth.astype(np.float32))


def train_vae(config: Shapes, model: ModelConfig, data: Path, out: Path) -> None:
    """The autoencoder with its latents' statistics, on random windows of the first clips."""
    if out.exists():
        return
    paths = clips.find(data)[: config.vae_clips]
    frames = np.stack([clips.read(path).frames for path in runs.track(paths, "clip")])
    dtype = jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32
    optimizer = replace(config.vae_optimizer, steps=config.vae_steps)
    trainer = Trainer(fit_vae.objective(WanVAE(model.vae, dtype)), optimizer, axis=parallel.AXIS)
    params = jax.jit(lambda key: initial_params(model.vae, key))(jax.random.key(config.seed))
    state = parallel.replicate(trainer.init({"params": params}), 1)
    update = parallel.wrap(trainer.update, "pmap", 1, (0,))
    generator, begin = np.random.default_rng(config.seed), None
    with runs.progress(config.vae_steps, "step") as line:
        for step in range(config.vae_steps):
            batch = windows(generator, frames, config.vae_batch, config.vae_frames)
            key = jax.random.fold_in(jax.random.key(config.seed + 1), step)
            rows = batch, jax.random.split(key, config.vae_batch)
            state, _, metrics = update(state, *(parallel.split(x, 1) for x in rows), {})
            line.update()
            if step % 20 == 0:  # waits for the step, so that time is known
                shown = {name: f"{float(metrics[name]):.4g}" for name in ("loss", "mse", "kl")}
                line.set_postfix(shown, refresh=False)
                begin = begin or time.perf_counter()
                if config.vae_minutes and time.perf_counter() - begin > 60 * config.vae_minutes:
                    break
    params = jax.device_get(parallel.unreplicate(state.ema))["params"]
    vae = fit_vae.with_statistics(model.vae, raw_means(model, params, frames[: 4 * config.vae_batch]))
    show_vae(replace(model, vae=vae), params, frames[:4], out.with_suffix(".png"))
    models.save(out, vae, params)


def windows(generator: np.random.Generator, frames: np.ndarray, batch: int, length: int) -> np.ndarray:
    """Random stretches uint8 (batch, length, H, W, 3) of clips (N, F, H, W, 3)."""
    which = generator.integers(len(frames), size=batch)
    start = generator.integers(frames.shape[1] - length + 1, size=batch)
    return np.stack([frames[w, s : s + length] for w, s in zip(which, start, strict=True)])


def raw_means(model: ModelConfig, params: Any, frames: np.ndarray) -> np.ndarray:
    """Latents as the untouched statistics (0, 1) leave them, of uint8 clips."""
    unit = {"latents_mean": (0.0,) * model.vae.z_dim, "latents_std": (1.0,) * model.vae.z_dim}
    return Coder(replace(model, vae=replace(model.vae, **unit)), params, 16).encode(frames)


def show_vae(model: ModelConfig, params: Any, frames: np.ndarray, path: Path) -> None:
    """Clips above what comes back of them."""
    coder = Coder(model, params, len(frames))
    rebuilt = coder.decode(coder.encode(frames))
    print(f"autoencoder: {fit_vae.psnr(frames, rebuilt).mean():.1f} dB", flush=True)
    save_grid(path, frames, rebuilt)


def measure(
    config: Shapes, world: World, judge: Judge, variables: dict, last: dict
) -> tuple[dict[str, records.Figure], dict[str, np.ndarray]]:
    """Figures and drawn videos of the test clips.

    They are drawn under their own and under other clips' actions, in few plain steps, in few steps whose size
    the model learned, and with the weights of the `last` step in place of their running mean, `variables`.
    """
    run, rows = judge.run, judge.rows
    truth = np.load(config.out / "clips" / "truth.npy")[rows]
    actions = run.actions(rows)

    def drawn(variables: dict, actions: np.ndarray, how: SampleConfig) -> np.ndarray:
        return run.coder.decode(judge.draw(variables, rows, actions, how))

    many = sampler(run)
    videos = {
        "vae": run.coder.decode(np.asarray(run.data.latents[rows], np.float32)),
        "true_actions": drawn(variables, actions, many),
        "shuffled_actions": drawn(variables, np.roll(actions, 1, axis=0), many),
        "last_step": drawn(last, actions, many),
    }
    for steps in (4, 1):
        videos[f"{steps}_plain"] = drawn(variables, actions, replace(many, steps=steps))
        if config.shortcut_share:
            videos[f"{steps}_learned"] = drawn(variables, actions, SampleConfig(steps, "euler", "few"))
    errors = {name: shapes.position_error(video, truth, world) for name, video in videos.items()}
    figures = {
        f"shapes_position_error_{name}": records.bootstrap(error, "px", seed=0)
        for name, error in errors.items()
    }
    if world.drifters:
        figures |= {
            f"shapes_drifter_solidity_{name}": records.bootstrap(shapes.solidity(video, world), "", seed=0)
            for name, video in videos.items()
        }
    pairs = np.stack([errors["shuffled_actions"], errors["true_actions"]], axis=1)
    ratio = records.bootstrap(pairs, "", seed=0, statistic=lambda x: x[:, 0].sum() / x[:, 1].sum())
    return figures | {"shuffled_action_error_ratio_shapes": ratio}, videos


def finetune_config(config: Shapes) -> Finetune:
    """The run from random weights, with the test clips held out."""
    return Finetune(
        data=config.out / "clips",
        vae=config.out / "vae",
        out=config.out / "run",
        model=config.model,
        frames=config.frames,
        height=config.size,
        width=config.size,
        epochs=config.epochs,
        batch=config.batch,
        shift=config.shift,
        shortcut_share=config.shortcut_share,
        remat="none",
        devices=1,
        minutes=config.minutes,
        save_every=config.epochs,
        holdout=config.test,
        pictures=config.test,
        sampler_steps=config.sampler_steps,
        seed=config.seed,
        optimizer=config.optimizer,
    )


def learn(config: Shapes) -> dict[str, Any]:
    """All of it; returns and writes the results."""
    begin = time.perf_counter()
    world = World(config.size, config.frames, config.shapes, config.drifters)
    model, _ = resolve(config.model)
    if config.vae_width:
        model = replace(model, vae=replace(model.vae, base_dim=config.vae_width))
    seconds, figures, trained = {}, {}, {}

    def stage(name: str, work, *arguments):
        before = time.perf_counter()
        result = work(*arguments)
        seconds[name] = time.perf_counter() - before
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
        return result

    def store(found: dict[str, records.Figure]) -> dict[str, Any]:
        """At every stage, so that a run that is cut off and begun again has lost none of its figures."""
        figures.update(found)
        shown = {name: asdict(figure) for name, figure in figures.items()}
        results = {"config": cli.to_json(config), "figures": shown, "seconds": seconds, "training": trained}
        runs.write_results(config.out, results)
        if config.record:
            records.write(config.record, found)
        return shown

    stage("clips", make_clips, config, world, config.out / "clips")
    stage("vae", train_vae, config, model, config.out / "clips", config.out / "vae")
    options = finetune_config(config)
    begun_before = begun(options.out)
    results, _ = stage("training", train, options)
    trained |= results
    judge, *variables = saved_variables(options)
    found, videos = stage("judging", measure, config, world, judge, *variables)
    minutes = (time.perf_counter() - begin) / 60
    if not begun_before:
        found["shapes_minutes"] = records.Figure(minutes, minutes, minutes, "min", 1)
    save_grid(config.out / "drawn.png", *videos.values(), clips=4)
    store(found)
    store(stage("by heart", by_heart, config, options, world))
    return store(stage("opposite", opposite, config, options, world, judge))


def main(argv: list[str]) -> None:
    """Learn, and print the figures."""
    config = cli.parse(Shapes, argv)
    with runs.one_line_errors(ValueError, OSError, checkpoints.CheckpointError):
        figures = learn(config)
    for name, f in figures.items():
        print(f"{name}: {f['value']:.4g} ({f['low']:.4g} to {f['high']:.4g}) {f['unit']}, n = {f['n']}")
    print(f"{config.out}/results.json, {config.out}/drawn.png")
