"""`bench`: time training steps and generation of a model with random weights.

    python -m launch.cosmos bench --record cosmos
    python -m launch.cosmos bench --parts train_256 --batch-256 24 --remat dots+attention

Every part runs in a process of its own, so that peak memory is its own and one that doesn't fit takes no
other with it; what it measured is printed, and written to --out and to the record, when that part ends.
"""

import itertools
import multiprocessing
import time
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import cli
from configs.cosmos import Bench, Part
from launch.cosmos import generation_speed
from launch.cosmos.generation_speed import random_params, timed
from launch.shared import parallel, records, runs
from wm.cosmos.networks import dit, lora
from wm.cosmos.networks.config import resolve
from wm.cosmos.training import cost
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.objective import Clips
from wm.cosmos.training.train import Batch, Trainer, TrainState
from wm.store.provenance import write_json

Figures = dict[str, records.Figure]


class Setting:
    """A model of the benchmark with random weights and random clips, on some devices."""

    def __init__(self, config: Bench, side: int, batch: int, devices: int, low_rank: bool):
        self.config, self.batch, self.devices, self.side = config, batch, devices, side
        self.model = resolve(config.model)[0].without_text()
        self.lora = config.lora if low_rank else None
        remat = config.remat_lora if low_rank else config.remat
        network = dit.CosmosDiT(self.model.dit, self.model.action, jnp.bfloat16, remat=remat)
        context = dit.empty_context(self.model.dit)
        objective = Clips(network, context).flow_objective(FlowConfig())
        self.trainer = Trainer(objective, config.optimizer, self.lora, parallel.AXIS, dit.keeps_float32)
        self.shapes = jax.eval_shape(lambda: dit.init(network, jax.random.key(0)))

    def state(self) -> tuple[TrainState, Any]:
        """Train state and frozen variables on the devices."""
        dtype = jnp.bfloat16 if self.lora else jnp.dtype(self.config.optimizer.master)
        params = random_params(self.shapes, dtype)
        trained, frozen = lora.divide(params, self.lora, jax.random.key(1))
        frozen = self.trainer.compute_copy(frozen)
        del params
        return tuple(parallel.replicate(tree, self.devices) for tree in (self.trainer.init(trained), frozen))

    def batches(self) -> Batch:
        """Clips of noise, split over the devices."""
        count = self.batch * self.devices
        shape = (self.model.latent_frames(self.config.frames), *self.model.latent_size(self.side, self.side))
        generator = np.random.default_rng(0)
        latents = generator.standard_normal((count, *shape, self.model.dit.latent_channels), np.float32)
        actions = None
        if self.model.action:
            wide = (count, self.config.frames - 1, self.model.action.width)
            actions = generator.standard_normal(wide, np.float32)
        return parallel.split(Batch(latents.astype(np.float16), actions), self.devices)

    def keys(self, step: int) -> jax.Array:
        """A key for each clip of a step, split over the devices."""
        key = jax.random.fold_in(jax.random.key(2), step)
        return parallel.split(jax.random.split(key, self.batch * self.devices), self.devices)

    @property
    def flops(self) -> float:
        """Model FLOPs of one step on one device: three forward passes."""
        return 3 * cost.forward_flops(self.model, self.config.frames, self.side, self.side, self.batch)


def train(setting: Setting) -> dict[str, Any]:
    """Seconds per step of a part, its TFLOP/s per device, peak memory and a loss that is finite."""
    config, update = setting.config, parallel.wrap(setting.trainer.update, "pmap", setting.devices, (0,))
    state, frozen = setting.state()
    batch, done = setting.batches(), itertools.count()

    def steps():
        nonlocal state
        for _ in range(config.steps):
            state, _, metrics = update(state, batch, setting.keys(next(done)), frozen)
        return metrics

    first, times = timed(steps, config.repeats)
    per_step = np.asarray(times) / config.steps
    loss = float(steps()["loss"])
    if not np.isfinite(loss):
        raise ValueError(f"loss is {loss} after {config.steps * (config.repeats + 3)} steps of the benchmark")
    return {
        "batch_per_device": setting.batch,
        "devices": setting.devices,
        "compile_and_first_s": first,
        "seconds_per_step": per_step.tolist(),
        "samples_per_s": setting.batch * setting.devices / float(np.median(per_step)),
        "tflops": (setting.flops / per_step / 1e12).tolist(),
        "peak_gib": peak_gib(setting.devices),
        "loss": loss,
    }


def peak_gib(devices: int) -> float | None:
    """Most memory in use at once on any device since this process began; None where it isn't counted."""
    stats = [device.memory_stats() for device in parallel.devices(devices)]
    return max(s["peak_bytes_in_use"] for s in stats) / 2**30 if all(stats) else None


def spread(values: list[float], unit: str) -> records.Figure:
    """Median with the smallest and largest of the repeats."""
    return records.Figure(float(np.median(values)), min(values), max(values), unit, len(values))


def train_full(config: Bench, side: int, batch: int, name: str) -> tuple[dict, Figures]:
    """Training of all weights on clips of `side` pixels, on one device."""
    row = train(Setting(config, side, batch, 1, low_rank=False))
    figures = {f"train_tflops_{name}": spread(row["tflops"], "TFLOP/s")}
    return {name: row}, figures | _peak(row, f"peak_gib_{name}")


def train_lora(config: Bench) -> tuple[dict, Figures]:
    """Training of adapters, on one device."""
    row = train(Setting(config, config.small, config.batch_lora, 1, low_rank=True))
    # Three forward passes aren't what adapters cost: no gradient of a frozen kernel is computed.
    del row["tflops"]
    rates = [config.batch_lora / seconds for seconds in row["seconds_per_step"]]
    figures = {"lora_samples_per_s_256": spread(rates, "clips/s")}
    return {"lora": row}, figures | _peak(row, "lora_peak_gib")


def scaling(config: Bench) -> tuple[dict, Figures]:
    """Samples per second on two devices over one, one after the other in the same process."""
    if len(parallel.devices()) < 2:
        print("scaling: left out, it needs two devices", flush=True)
        return {}, {}
    rows = {n: train(Setting(config, config.small, config.batch_256, n, low_rank=False)) for n in (1, 2)}
    one, two = (np.asarray(rows[n]["seconds_per_step"]) for n in (1, 2))
    figure = records.Figure(
        2 * float(np.median(one) / np.median(two)),
        2 * float(one.min() / two.max()),
        2 * float(one.max() / two.min()),
        "x",
        len(two),
    )
    return {f"scaling_{n}": row for n, row in rows.items()}, {"scaling_2_gpus_cosmos": figure}


def _peak(row: dict, name: str) -> Figures:
    peak = row["peak_gib"]
    return {} if peak is None else {name: records.Figure(peak, peak, peak, "GiB", 1)}


def measure(config: Bench, part: Part) -> tuple[dict, Figures]:
    """Rows for the part's file and figures for the record."""
    if part == "train_256":
        return train_full(config, config.small, config.batch_256, "256")
    if part == "train_512":
        return train_full(config, config.large, config.batch_512, "512")
    if part == "lora_256":
        return train_lora(config)
    if part == "scaling":
        return scaling(config)
    return generation_speed.measure(config)


def run(config: Bench, part: Part) -> None:
    """Measure one part, print and write it; ends the process with one line where it can't be measured."""
    with runs.one_line_errors(ValueError, records.RecordError, jax.errors.JaxRuntimeError):
        rows, figures = measure(config, part)
        shown = {name: asdict(figure) for name, figure in figures.items()}
        write_json(config.out / f"{part}.json", {**runs.provenance(), "rows": rows, "figures": shown})
        for name, row in rows.items():
            print(name, *(f"{key} {_short(value)}" for key, value in row.items()), sep="  ", flush=True)
        for name, f in figures.items():
            print(f"{name}: {f.value:.4g} ({f.low:.4g} to {f.high:.4g}) {f.unit}, n = {f.n}", flush=True)
        if config.record and figures:
            records.write(config.record, figures)


def _short(value: Any) -> str:
    value = float(np.median(value)) if isinstance(value, list) else value
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: list[str]) -> None:
    """Measure the parts one after the other, each in its own process; status 1 where one failed."""
    config = cli.parse(Bench, argv)
    with runs.one_line_errors(ValueError):
        resolve(config.model)
    config.out.mkdir(parents=True, exist_ok=True)
    if len(config.parts) == 1:
        run(config, config.parts[0])
        return
    failed = []
    for part in config.parts:
        begin = time.perf_counter()
        process = multiprocessing.get_context("spawn").Process(target=run, args=(config, part))
        process.start()
        process.join()
        print(f"{part}: {time.perf_counter() - begin:.0f} s in all", flush=True)
        failed += [part] if process.exitcode else []
    if failed:
        runs.fail(f"not measured: {', '.join(failed)}; the lines above say why")
