"""`scope_train`: learn openScope's pictures, stage by stage.

    python -m launch.cosmos scope_train --data runs/scope/train --out runs/scope/run

Below --out come coder/, reader/ and model/, checkpoints of `wm.cosmos.scope.stored`, latents.npy with the
latents of every picture of the hours in --data, and log.jsonl.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos import OptimizerConfig
from configs.scope import ScopeTrain
from launch.shared import runs
from wm.cosmos.scope import coder as coding
from wm.cosmos.scope import hours, model, reader
from wm.cosmos.scope.commands import Statistics
from wm.cosmos.scope.crops import Sampler
from wm.cosmos.scope.hours import Hour, ScopeError
from wm.cosmos.scope.stored import Coder, Eyes, Pixels, compute_dtype, scaled, with_unit_scale
from wm.cosmos.training.train import Objective, Trainer
from wm.store.checkpoints import CheckpointError

PLAN = 100_000  # to which the optimiser counts in a stage's time
WARMING = 30  # part of the time in which the learning rate rises
CHUNK_S, LONGEST_CHUNK = 0.5, 16  # steps between two looks at the clock take about so long
TOLD = 20  # reports of a stage
FITTING = 256  # pictures that the latents' scale is fitted on
DRAWS = 4  # noise levels for each held-out window
HELD_OUT = 64  # windows


class Run:
    """One command: its options, its hours, and where it reports to."""

    def __init__(self, config: ScopeTrain):
        self.config, self.out = config, config.out
        paths = hours.find(config.data)
        with ThreadPoolExecutor() as pool:
            self.hours: list[Hour] = list(pool.map(lambda path: hours.load(path, "train"), paths))
        hours.check_alike(self.hours)
        self.airports = tuple(sorted({hour.airport for hour in self.hours}))
        self.first = self.hours[0]
        self.begin = time.perf_counter()

    def tell(self, stage: str, step: int, found: dict[str, float]) -> None:
        """Print and keep how a stage stands."""
        seconds = time.perf_counter() - self.begin
        line = {"stage": stage, "step": step, "seconds": round(seconds, 1), **found}
        words = (f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in line.items())
        print(" ".join(words), flush=True)
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def fit(
        self,
        stage: str,
        objective: Objective,
        params: Any,
        draw: Callable[[np.random.Generator], Any],
        optimizer: OptimizerConfig,
        minutes: float,
        keeps_float32: Callable[[str], bool] = lambda name: False,
    ) -> Any:
        """Trains a stage's parameters for its minutes; returns their running mean on the host.

        The learning rate falls with the time that has passed: `state.step` counts to PLAN, whatever the
        number of steps. Compiling counts as time, but not for the rate.
        """
        begin, most = time.perf_counter(), self.config.steps
        end = begin + 60.0 * minutes
        planned = replace(optimizer, steps=PLAN, warmup=PLAN // WARMING)
        trainer = Trainer(objective, planned, keeps_float32=keeps_float32)
        update = jax.jit(trainer.update, donate_argnums=(0,))
        state, key = trainer.init({"params": params}), jax.random.key(self.config.seed)
        batches, done, chunk, told = ahead(draw, self.config.seed), 0, 1, 0
        while most is None or done < most:
            before = time.perf_counter()
            for _ in range(chunk):
                batch = next(batches)
                keys = jax.random.split(jax.random.fold_in(key, done), len(jax.tree.leaves(batch)[0]))
                state, _, metrics = update(state, batch, keys, {})
                done += 1
            metrics = {name: float(value) for name, value in metrics.items()}  # waits for the steps
            now = time.perf_counter()
            if done == 1:
                learning = now  # it has compiled
            passed = (now - learning) / max(end - learning, 1e-9) if most is None else done / most
            if passed >= 1.0 or passed * TOLD >= told or done == most:
                self.tell(stage, done, metrics)
                told += 1
            if passed >= 1.0:
                break
            state = state.replace(step=jnp.asarray(int(PLAN * passed), jnp.int32))
            room = 1 if most is None else most - done
            chunk = 1 if now - before > CHUNK_S else min(2 * chunk, LONGEST_CHUNK)
            chunk = chunk if most is None else max(1, min(chunk, room))
        return jax.device_get(state.ema)["params"]


def ahead(draw: Callable[[np.random.Generator], Any], seed: int, workers: int = 4) -> Iterator[Any]:
    """Batches for ever, drawn by threads before they are asked for; the same ones for the same seed."""
    with ThreadPoolExecutor(workers) as pool:
        number, waiting = 0, []
        while True:
            while len(waiting) < 2 * workers:
                waiting.append(pool.submit(draw, np.random.default_rng([seed, number])))
                number += 1
            yield waiting.pop(0).result()


def optimizer_of(config: ScopeTrain, learning_rate: float, **more: Any) -> OptimizerConfig:
    """AdamW as all stages have it; float32 but for the products where there is a GPU."""
    compute = "bfloat16" if compute_dtype() == jnp.bfloat16 else "float32"
    return OptimizerConfig(
        learning_rate=learning_rate, final_share=0.02, compute=compute, moments="float32",
        ema="float32", **more,
    )  # fmt: skip


def train_coder(run: Run) -> None:
    """The autoencoder, on crops around data blocks."""
    config, sampler = run.config, Sampler.of(run.hours)
    sizes = coding.CoderConfig(width=config.coder_width)
    network = coding.PictureCoder(sizes, compute_dtype())
    params = network.init(jax.random.key(config.seed), jnp.zeros((1, 64, 64, 3)))["params"]
    objective = coding.objective(network, run.first.palette)
    optimizer = optimizer_of(config, 1e-3, ema_decay=0.995, weight_decay=0.0)
    draw = lambda generator: sampler.draw(generator, config.coder_batch).indices  # noqa: E731
    params = run.fit("coder", objective, params, draw, optimizer, config.coder_minutes)
    coder = with_unit_scale(sizes, params, run.airports, run.first.palette, run.first.side)
    raw, airport = [], []
    for number, icao in enumerate(run.airports):
        mine = [hour for hour in run.hours if hour.airport == icao]
        each = -(-FITTING // len(mine))
        chosen = [hour.pictures[np.linspace(0, len(hour.pictures) - 1, each).astype(int)] for hour in mine]
        raw.append(coder.encode(np.concatenate(chosen)[:FITTING], number))
        airport += [number] * len(raw[-1])
    scaled(coder, coding.scale_of(np.concatenate(raw), np.asarray(airport))).save(run.out / "coder")


def train_reader(run: Run) -> None:
    """The reader, on crops as recorded and as the autoencoder gives them back with noise in their latents."""
    config, sampler, coder = run.config, Sampler.of(run.hours), Coder.load(run.out / "coder")
    sizes = reader.ReaderConfig(read_width=config.reader_width)
    network = reader.Reader(sizes, compute_dtype())
    shapes = (jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 3)))
    params = network.init(jax.random.key(config.seed), *shapes)["params"]

    def degrade(pictures: jax.Array, keys: jax.Array) -> jax.Array:
        """A third as they are, the rest through the autoencoder with latents up to .5 deviations off."""
        variables = {"params": coder.params}
        raw = coder.model.apply(variables, pictures, method="encode")

        def off(key):
            level, noise_key, share = jax.random.split(key, 3)
            noise = jax.random.normal(noise_key, raw.shape[1:]) * coder.scale.deviation
            return noise * 0.5 * jax.random.uniform(level), jax.random.uniform(share) < 1 / 3

        noise, untouched = jax.vmap(off)(keys)
        rebuilt = coder.model.apply(variables, raw + noise, method="decode")
        return jnp.where(untouched[:, None, None, None], pictures, jnp.clip(rebuilt, -1.0, 1.0))

    objective = reader.objective(network, run.first.palette, degrade)
    optimizer = optimizer_of(config, 1e-3, ema_decay=0.995)
    draw = lambda generator: sampler.draw(generator, config.reader_batch)  # noqa: E731
    params = run.fit("reader", objective, params, draw, optimizer, config.reader_minutes)
    Eyes(sizes, params).save(run.out / "reader")


def encode_all(run: Run) -> None:
    """latents.npy: of every picture, hour after hour."""
    coder = Coder.load(run.out / "coder")
    side, count = run.first.side // 8, sum(len(hour.pictures) for hour in run.hours)
    unfinished = run.out / "latents.unfinished.npy"
    shape = (count, side, side, coder.config.latent)
    store = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=shape)
    at = 0
    for hour in run.hours:
        coder.check(hour)
        store[at : at + len(hour.pictures)] = coder.encode(hour.pictures, coder.number(hour.airport))
        at += len(hour.pictures)
    store.flush()
    unfinished.replace(run.out / "latents.npy")
    run.tell("latents", count, {"megabytes": store.nbytes / 1e6})


def train_model(run: Run) -> None:
    """The pixel model, on all windows but those of the hours held out."""
    config, coder = run.config, Coder.load(run.out / "coder")
    latents = np.load(run.out / "latents.npy", mmap_mode=None)
    if len(latents) != sum(len(hour.pictures) for hour in run.hours):
        raise ScopeError(f"{run.out / 'latents.npy'} has {len(latents)} pictures, --data others: remove it")
    if len(run.hours) <= config.holdout:
        held = config.holdout
        raise ScopeError(f"{config.data} has {len(run.hours)} hours, of which {held} are held out: give more")
    apart, kept = run.hours[: config.holdout], run.hours[config.holdout :]
    border = sum(len(hour.pictures) for hour in apart)
    windows = model.Windows.of(kept, latents[border:], config.slots)
    apart = model.Windows.of(apart, latents[:border], config.slots)
    statistics = Statistics.fit(windows.told(np.arange(len(windows.rows))))
    sizes = model.ScopeConfig(
        width=config.width, blocks=config.blocks, heads=config.heads, side=run.first.side // 8,
        latent=coder.config.latent, step_hidden=256 if config.shortcut_share else 0,
    )  # fmt: skip
    network = model.ScopeModel(sizes, compute_dtype())
    learning = model.Learning(shortcut_share=config.shortcut_share)
    if config.init is None:
        params = jax.jit(lambda key: model.init(sizes, key))(jax.random.key(config.seed))
    else:
        before = Pixels.load(config.init, coder)
        if before.config != sizes:
            raise ScopeError(f"{config.init} has other sizes: give its --width, --blocks and --heads")
        params, statistics = before.params, before.statistics
    optimizer = optimizer_of(
        config, config.learning_rate, ema_decay=0.995, weight_decay=0.05,
        action_learning_rate_scale=config.action_learning_rate_scale,
    )  # fmt: skip
    draw = lambda generator: windows.draw(generator, config.batch, statistics, config.silent)  # noqa: E731
    objective = model.objective(network, learning)
    params = run.fit(
        "model", objective, params, draw, optimizer, config.model_minutes, model.keeps_float32
    )  # fmt: skip
    pixels = Pixels(sizes, params, statistics, config.slots, learning.shift, config.shortcut_share > 0)
    pixels.save(run.out / "model")
    run.tell("model", 0, held_out(network, params, apart, statistics, config.batch))


def held_out(network, params, windows: model.Windows, statistics: Statistics, batch: int) -> dict[str, float]:
    """Loss on held-out windows with commands, and with those of the aircraft exchanged among themselves.

    Equal ones mean a model that ignores its commands.
    """
    losses = jax.jit(model.objective(network, model.Learning(given_noise=0.0)))
    chosen = np.linspace(0, len(windows.rows) - 1, HELD_OUT).astype(int)
    found: dict[str, list] = {"loss": [], "loss_exchanged": []}
    for start in range(0, len(chosen), batch):
        part = np.resize(chosen[start : start + batch], batch)
        for name, told in (("loss", windows.told(part)), ("loss_exchanged", windows.exchanged(part))):
            for draw in range(DRAWS):
                keys = jax.random.split(jax.random.key(draw), batch)
                values, _ = losses({"params": params}, windows.window(part, statistics(told)), keys, {})
                found[name].append(float(values.mean()))
    mean = {f"held_out_{name}": float(np.mean(values)) for name, values in found.items()}
    return mean | {"exchanged_loss_ratio": mean["held_out_loss_exchanged"] / mean["held_out_loss"]}


STAGES = {"coder": train_coder, "reader": train_reader, "latents": encode_all, "model": train_model}
LEAVES = {"coder": "coder", "reader": "reader", "latents": "latents.npy", "model": "model"}


def main(argv: list[str]) -> None:
    """Train the stages that are missing."""
    config = cli.parse(ScopeTrain, argv)
    with runs.one_line_errors(ValueError, OSError, CheckpointError):
        config.out.mkdir(parents=True, exist_ok=True)
        run = Run(config)
        took = time.perf_counter() - run.begin
        print(f"{len(run.hours)} hours of {', '.join(run.airports)} in {took:.0f} s", flush=True)
        for stage in config.stages:
            if (config.out / LEAVES[stage]).exists():
                print(f"{stage}: is there already")
                continue
            before = time.perf_counter()
            STAGES[stage](run)
            print(f"{stage}: {time.perf_counter() - before:.0f} s", flush=True)
