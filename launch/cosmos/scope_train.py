"""`scope_train`: learn openScope's pictures, stage by stage.

    python -m launch.cosmos scope_train --data runs/scope/train --out runs/scope/run

Below --out come coder/, reader/ and model/, checkpoints of `wm.cosmos.scope.stored`, latents.npy with the
latents of every picture of the hours in --data, log.jsonl with what came out of the stages, and for each of
them training/STAGE, a run folder of `launch.shared.training`: the same command goes on with the step after
the last one that was saved.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos import OptimizerConfig
from configs.scope import ScopeTrain
from launch.shared import runs, training
from launch.shared.training import Folder
from wm.cosmos.scope import coder as coding
from wm.cosmos.scope import commands, hours, model, reader
from wm.cosmos.scope.commands import Statistics
from wm.cosmos.scope.crops import Sampler
from wm.cosmos.scope.hours import Hour, ScopeError
from wm.cosmos.scope.stored import Coder, Eyes, Pixels, compute_dtype, scaled, with_unit_scale
from wm.cosmos.training.train import Objective, Trainer, TrainState
from wm.store import checkpoints

PLAN = 100_000  # to which the optimiser counts in a stage's time
WARMING = 30  # part of the time in which the learning rate rises
CHUNK_S, LONGEST_CHUNK = 0.5, 16  # steps between two looks at the clock take about so long
TOLD = 50  # reports of a stage
SAVED_S = 100.0  # between two checkpoints
NOT_FINITE = "lower --learning-rate and choose another --out"
# Options that a stage's run goes on with.
SHARED = {
    "coder": ("steps", "seed", "coder_width", "coder_batch"),
    "reader": ("steps", "seed", "reader_width", "reader_batch"),
    "model": (
        *("steps", "seed", "width", "blocks", "heads", "slots", "batch", "shortcut_share", "silent"),
        *("holdout", "commands", "learning_rate", "action_learning_rate_scale"),
    ),
}
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
        print(as_text(line), flush=True)
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def fit(self, stage: str, learning: "Learned", minutes: float) -> Any:
        """Trains a stage's parameters for its minutes, or goes on; returns their running mean on the host.

        Raises training.Stopped where the process was asked to end before.
        """
        planned = replace(learning.optimizer, steps=PLAN, warmup=PLAN // WARMING)
        trainer = Trainer(learning.objective, planned, keeps_float32=learning.keeps_float32)
        record, total = self.record(stage, learning), self.config.steps or PLAN
        with training.hold(self.out / "training" / stage, record, total, "step") as folder:
            state = trainer.init({"params": learning.params})
            if folder.begun:
                state = folder.restore(jax.eval_shape(lambda: state))
            update = jax.jit(trainer.update, donate_argnums=(0,))
            state = self._learn(folder, state, update, learning, minutes)
        return jax.device_get(state.ema)["params"]

    def record(self, stage: str, learning: "Learned") -> dict:
        """What a later start of a stage has to share; not the minutes, which may be extended."""
        names = {name: getattr(self.config, name) for name in SHARED[stage]}
        data = {f"{hour.airport}-{hour.seed}": len(hour.pictures) for hour in self.hours}
        sizes = {"parameters": sum(x.size for x in jax.tree.leaves(learning.params))}
        return {"stage": stage, **names, "hours": data, **sizes}

    def _learn(self, folder: Folder, state: TrainState, update, learning: "Learned", minutes: float):
        """All steps that are left."""
        config, key, done = self.config, jax.random.key(self.config.seed), folder.done
        pace, batches = Pace(folder, minutes, config.steps), ahead(learning.draw, config.seed, folder.done)
        save = lambda: folder.save(done, state, {"seconds": pace.seconds})  # noqa: E731
        keep = lambda line: line["step"] <= folder.done  # noqa: E731
        with folder.log(keep, NOT_FINITE) as log, runs.progress(pace.total, pace.unit, pace.passed) as bar:
            while not pace.over:
                for _ in range(pace.chunk):
                    batch = next(batches)
                    keys = jax.random.split(jax.random.fold_in(key, done), len(jax.tree.leaves(batch)[0]))
                    state = state.replace(step=jnp.asarray(pace.plan(done), jnp.int32))
                    state, _, metrics = update(state, batch, keys, {})
                    done += 1
                line = {"step": done, **{name: float(value) for name, value in metrics.items()}}
                bar.update(pace.look(done))
                due = pace.saves()
                line |= learning.examine(state.ema["params"]) if due else {}
                if pace.tells() or due:
                    log.write(line | {"seconds": round(pace.seconds, 1)})
                    print(as_text({"stage": folder.path.name, **line}), flush=True)
                folder.checkpoint(done, due, save)
        return state


@dataclass(frozen=True)
class Learned:
    """What a stage learns and from what; `examine` says of parameters what the log shall keep."""

    objective: Objective
    params: Any
    draw: Callable[[np.random.Generator], Any]
    optimizer: OptimizerConfig
    keeps_float32: Callable[[str], bool] = lambda name: False
    examine: Callable[[Any], dict[str, float]] = lambda params: {}


class Pace:
    """How far a stage is: by its steps where they are given, else by its minutes, those of all starts.

    The learning rate falls with it: `plan` counts to PLAN, whatever the number of steps. Compiling counts as
    nothing.
    """

    def __init__(self, folder: Folder, minutes: float, steps: int | None):
        before = 0.0
        if folder.begun:
            before = checkpoints.load_metadata(folder.path / training.RESUME, folder.saved)["seconds"]
        self.steps, self.minutes, self.before, self.begun = steps, minutes, before, 0.0
        self.total, self.unit = (steps, "step") if steps else (60.0 * minutes, "s")
        self.passed = folder.done if steps else min(before, self.total)
        self.chunk, self._looked, self._saved, self._told = 1, time.perf_counter(), time.perf_counter(), -1

    @property
    def seconds(self) -> float:
        """Of training, of all starts."""
        return self.before + (time.perf_counter() - self.begun if self.begun else 0.0)

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.passed >= self.total

    def plan(self, done: int) -> int:
        """Which of PLAN steps the one after `done` stands for."""
        return int(PLAN * (done if self.steps else self.passed) / self.total)

    def look(self, done: int) -> float:
        """Looks at the clock after a chunk; returns by how much the stage has moved on."""
        now, before = time.perf_counter(), self.passed
        self.begun = self.begun or now  # the first step compiles
        self.passed = done if self.steps else min(self.seconds, self.total)
        self.chunk = 1 if now - self._looked > CHUNK_S else min(2 * self.chunk, LONGEST_CHUNK)
        self.chunk = min(self.chunk, max(1, self.steps - done)) if self.steps else self.chunk
        self._looked = now
        return self.passed - before

    def saves(self) -> bool:
        """Whether it is time to save."""
        due = self.over or time.perf_counter() - self._saved > SAVED_S
        self._saved = time.perf_counter() if due else self._saved
        return due

    def tells(self) -> bool:
        """Whether it is time to say how the stage stands."""
        part = int(TOLD * self.passed / self.total)
        due, self._told = part > self._told, part
        return due


def as_text(line: dict) -> str:
    """name=value, and so on."""
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in line.items())


def ahead(
    draw: Callable[[np.random.Generator], Any], seed: int, first: int, workers: int = 4
) -> Iterator[Any]:
    """Batches number `first` and so on for ever, drawn by threads before they are asked for.

    A batch depends on the seed and its number alone.
    """
    with ThreadPoolExecutor(workers) as pool:
        number, waiting = first, []
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
    params = run.fit("coder", Learned(objective, params, draw, optimizer), config.coder_minutes)
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
    params = run.fit("reader", Learned(objective, params, draw, optimizer), config.reader_minutes)
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


def windows_of(run: Run, coder: Coder) -> tuple[model.Windows, dict[str, model.Windows], Statistics]:
    """Windows to learn from, those held out with their own and with exchanged commands, and statistics."""
    config, latents = run.config, np.load(run.out / "latents.npy")
    if len(latents) != sum(len(hour.pictures) for hour in run.hours):
        raise ScopeError(f"{run.out / 'latents.npy'} has {len(latents)} pictures, --data others: remove it")
    if len(run.hours) <= config.holdout:
        held = config.holdout
        raise ScopeError(f"{config.data} has {len(run.hours)} hours, of which {held} are held out: give more")
    apart, kept = run.hours[: config.holdout], run.hours[config.holdout :]
    border = sum(len(hour.pictures) for hour in apart)
    windows = model.Windows.of(kept, latents[border:], config.slots)
    own = model.Windows.of(apart, latents[:border], config.slots)
    statistics = Statistics.fit(windows.told(np.arange(len(windows.rows))))
    held_out = {"loss": own, "loss_exchanged": own.exchanged()}
    if config.commands == "overlay":
        held_out = {name: overlaid(these, apart, coder) for name, these in held_out.items()}
        windows = overlaid(windows, kept, coder, np.random.default_rng(config.seed))
    return windows, held_out, statistics


def train_model(run: Run) -> None:
    """The pixel model, on all windows but those of the hours held out."""
    config, coder = run.config, Coder.load(run.out / "coder")
    windows, apart, statistics = windows_of(run, coder)
    sizes = model.ScopeConfig(
        width=config.width, blocks=config.blocks, heads=config.heads, side=run.first.side // 8,
        latent=coder.config.latent, step_hidden=256 if config.shortcut_share else 0,
    )  # fmt: skip
    network = model.ScopeModel(sizes, compute_dtype())
    learning = model.Learning(shortcut_share=config.shortcut_share)
    params = jax.jit(lambda key: model.init(sizes, key))(jax.random.key(config.seed))
    optimizer = optimizer_of(
        config, config.learning_rate, ema_decay=0.998, weight_decay=0.05,
        action_learning_rate_scale=config.action_learning_rate_scale,
    )  # fmt: skip
    draw = lambda generator: windows.draw(generator, config.batch, statistics, config.silent)  # noqa: E731
    examine = partial(held_out, held_out_losses(network), apart, statistics, config.batch)
    learned = Learned(
        model.objective(network, learning), params, draw, optimizer, model.keeps_float32, examine
    )  # fmt: skip
    params = run.fit("model", learned, config.model_minutes)
    how = (config.slots, learning.shift, config.shortcut_share > 0, config.commands)
    Pixels(sizes, params, statistics, *how).save(run.out / "model")
    run.tell("model", 0, examine(params))


def overlaid(
    windows: model.Windows, hours: list[Hour], coder: Coder, misread: np.random.Generator | None = None
) -> model.Windows:
    """The windows of these hours with their commands drawn on the last given pictures."""
    parts, first = [], 0
    for hour in hours:
        pictures = hour.pictures[model.GIVEN - 1 : -1]
        told = windows.told(first + np.arange(len(pictures)), misread)
        drawn = [
            commands.overlay(hour.palette[picture], jax.tree.map(lambda x, i=i: x[i], told))
            for i, picture in enumerate(pictures)
        ]
        parts.append(coder.encode_colours(np.stack(drawn), coder.number(hour.airport)))
        first += len(pictures)
    return replace(windows, overlaid=np.concatenate(parts))


def held_out_losses(network: model.ScopeModel) -> Callable:
    """The jitted losses of windows as the model finds them when it draws: no noise on the given pictures."""
    objective = model.objective(network, model.Learning(given_noise=0.0))
    return jax.jit(lambda params, window, keys: objective({"params": params}, window, keys, {})[0])


def held_out(
    losses: Callable, apart: dict[str, model.Windows], statistics: Statistics, batch: int, params: Any
) -> dict[str, float]:
    """Loss on held-out windows with commands, and with those of the aircraft exchanged among themselves.

    Equal ones mean a model that ignores its commands.
    """
    chosen = np.linspace(0, len(apart["loss"].rows) - 1, HELD_OUT).astype(int)
    found: dict[str, list] = {name: [] for name in apart}
    for start in range(0, len(chosen), batch):
        part = np.resize(chosen[start : start + batch], batch)
        for name, windows in apart.items():
            window = windows.window(part, statistics(windows.told(part)))
            for draw in range(DRAWS):
                keys = jax.random.split(jax.random.key(draw), batch)
                found[name].append(float(losses(params, window, keys).mean()))
    mean = {f"held_out_{name}": float(np.mean(values)) for name, values in found.items()}
    return mean | {"exchanged_loss_ratio": mean["held_out_loss_exchanged"] / mean["held_out_loss"]}


STAGES = {"coder": train_coder, "reader": train_reader, "latents": encode_all, "model": train_model}
LEAVES = {"coder": "coder", "reader": "reader", "latents": "latents.npy", "model": "model"}


def main(argv: list[str]) -> None:
    """Train the stages that are missing."""
    config = cli.parse(ScopeTrain, argv)
    with training.ends(training.TrainingError):
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
