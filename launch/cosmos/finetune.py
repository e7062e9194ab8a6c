"""`finetune`: train a model, whole or by adapters, on a folder of clips with actions.

    python -m launch.cosmos finetune --data clips --vae vae --init converted --directory runs/cosmos
    python -m launch.cosmos finetune --data clips --vae vae --init converted --directory runs/cosmos --resume

The run folder receives

    config.json       what was asked for
    metrics.jsonl     one line per step (loss, gradient norms, samples/s, TFLOP/s and MFU per device), and one
                      per epoch
    curves.png        losses over steps
    epoch-0001.png    held-out clips: the truth above what the model draws
    results.json      figures of the end of the run, speed, versions
    model/            the weights, adapters merged, ready for `generate`, `export` and --init
    resume/           everything needed to go on as if nothing had happened, after every epoch
"""

import json
import math
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from configs import cli
from configs.cosmos import Finetune
from launch.cosmos.run import FinetuneError, Run, make
from launch.cosmos.samples import Judge
from launch.shared import parallel, runs
from wm.cosmos.networks import lora
from wm.cosmos.training import cost
from wm.cosmos.training.train import TrainState
from wm.cosmos.weights import models
from wm.store import checkpoints
from wm.store.provenance import write_json


def train(config: Finetune) -> tuple[dict, Judge]:
    """The whole run; returns and writes its results, where there are several hosts on the first alone.

    The judge is given back as well: what it compiled serves further questions about the model.
    """
    saved = saved_step(config)
    run, first_state = make(config)
    state, frozen = first_state()
    done = 0
    if saved is not None:
        state, done = restore(run, state), saved
    lines = open_log(run, saved)
    judge = Judge(run)
    update, clock = run.compiled(), Clock(run)
    total = config.epochs * run.steps_per_epoch

    def log(line: dict) -> None:
        check_finite(line)
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    with lines, runs.progress(total, "step", done) as bar:

        def report(step: int, metrics: dict) -> None:
            line = clock.line(step, metrics)
            log(line)
            speed = {"TFLOP/s": f"{line['tflops']:.3g}"} if "tflops" in line else {}
            bar.set_postfix({"loss": f"{line['loss']:.4f}", **speed}, refresh=False)
            bar.update()

        for epoch in range(done // run.steps_per_epoch, config.epochs):
            clock.start()
            behind = None  # the step before the newest is waited for, so that the device always has work
            for step, (batch, keys) in enumerate(run.batches(epoch), epoch * run.steps_per_epoch):
                state, _, metrics = update(state, batch, keys, frozen)
                if behind is not None:
                    report(*behind)
                behind = step, metrics
            report(*behind)
            last = epoch + 1 == config.epochs or clock.spent(config.minutes)
            if last or (epoch + 1) % config.save_every == 0:
                log(judged(run, judge, state, frozen, epoch))
                save(run, state, (epoch + 1) * run.steps_per_epoch)
            if last:
                break
    return (finish(run, state, frozen, clock) if jax.process_index() == 0 else {}), judge


class Clock:
    """Times steps from one result to the next and adds speed to their metrics."""

    def __init__(self, run: Run):
        self.run, self.device = run, jax.local_devices()[0]
        self.peak = cost.peak_flops(self.device.device_kind)
        self.seconds: list[float] = []
        self._last, self._compiled = 0.0, 0.0

    def spent(self, minutes: float | None) -> bool:
        """Whether so much time has passed since all was compiled; all hosts get the first one's answer."""
        if minutes is None:
            return False
        over = time.perf_counter() - self._compiled >= 60 * minutes
        return bool(multihost_utils.broadcast_one_to_all(over)) if jax.process_count() > 1 else over

    def start(self) -> None:
        """What follows isn't part of what came before: an epoch begins."""
        self._last = time.perf_counter()

    def line(self, step: int, metrics: dict) -> dict:
        """Waits for a step; {"step", metrics, "seconds", "samples_per_s", "tflops", "mfu", "peak_gib"}."""
        line = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        if self._compiled:  # the first step compiles
            self.seconds.append(seconds)
            tflops = self.run.flops / seconds / 1e12
            line |= {"seconds": seconds, "samples_per_s": self.run.batch / seconds, "tflops": tflops}
            if self.peak:
                line["mfu"] = 1e12 * tflops / self.peak
        self._compiled = self._compiled or now
        if stats := self.device.memory_stats():
            line["peak_gib"] = stats["peak_bytes_in_use"] / 2**30
        return {"step": step, "epoch": step // self.run.steps_per_epoch, **line}


def judged(run: Run, judge: Judge, state: TrainState, frozen: Any, epoch: int) -> dict:
    """Held-out losses and the picture of an epoch, drawn with the running mean if there is one."""
    variables = run.trainer.variables(*_alone(run, (_best(state), frozen)))
    line = {"step": (epoch + 1) * run.steps_per_epoch, "epoch": epoch, **judge.losses(variables)}
    if jax.process_index() == 0:
        judge.picture(variables, run.config.directory / f"epoch-{epoch + 1:04d}.png")
    return line


def save(run: Run, state: TrainState, step: int) -> None:
    """Everything that a resumed run needs."""
    metadata = {"data_fingerprint": run.data.fingerprint}
    checkpoints.save(
        run.config.directory / "resume", step, _alone(run, state), run.record(), metadata, keep=1
    )


def restore(run: Run, fresh: TrainState) -> TrainState:
    """The newest checkpoint's state. The configuration must be the same."""
    shapes = jax.eval_shape(lambda: fresh)
    folder = run.config.directory / "resume"
    return run.place(checkpoints.restore(folder, shapes, config=run.record()))


def saved_variables(config: Finetune) -> tuple[Judge, dict, dict]:
    """A finished run's judge, and its variables twice: their running mean, and as the last step left them.

    Adapters are beside the kernels that they adapt.
    """
    run, first_state = make(config)
    state, frozen = first_state()
    state = restore(run, state)
    mean, last = (run.trainer.variables(*_alone(run, (x, frozen))) for x in (_best(state), state.trained))
    return Judge(run), mean, last


def saved_step(config: Finetune) -> int | None:
    """Steps done by the run that goes on; None for a new one.

    A run that ended before its first checkpoint left nothing to go on from: a new one takes its place.

    Raises:
      FinetuneError: nothing to resume, or a run in the directory already.
    """
    saved = checkpoints.latest_step(config.directory / "resume")
    if not config.resume and saved is not None:
        raise FinetuneError(f"{config.directory} holds a run; add --resume or choose another directory")
    if config.resume and saved is None:
        raise FinetuneError(f"{config.directory} has no checkpoint to resume; start it without --resume")
    return saved


def open_log(run: Run, saved: int | None):
    """metrics.jsonl for appending; on resuming, without the lines of steps that were never saved."""
    directory = run.config.directory
    parallel.wait_for_all("looked for an earlier run")
    if jax.process_index() > 0:
        return open(os.devnull, "w")
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "config.json", cli.to_json(run.config))
    write_json(directory / "normaliser.json", asdict(run.normaliser))
    if saved is None:
        return (directory / "metrics.jsonl").open("w")
    done = saved // run.steps_per_epoch
    return runs.reopen_log(directory / "metrics.jsonl", lambda line: line["epoch"] < done)


def check_finite(line: dict) -> None:
    """Raises FinetuneError where a metric isn't a number."""
    for name, value in line.items():
        if not math.isfinite(value):
            raise FinetuneError(
                f"{name} is {value} in step {line['step']}; lower --optimizer.learning-rate, then --resume"
            )


def finish(run: Run, state: TrainState, frozen: Any, clock: Clock) -> dict:
    """The model's folder, curves.png and results.json."""
    directory = run.config.directory
    variables = run.trainer.variables(*_alone(run, (_best(state), frozen)))
    metadata = {"data_fingerprint": run.data.fingerprint}
    params = jax.device_get(lora.merge(variables))
    shutil.rmtree(directory / "model", ignore_errors=True)  # of this run when it had ended early
    models.save(directory / "model", run.model, params, np.asarray(run.clips.context), metadata)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if "loss" not in line]
    draw(steps, epochs, directory / "curves.png")
    seconds = float(np.median(clock.seconds)) if clock.seconds else None
    results = {
        **runs.provenance(),
        "steps": len(steps),
        "loss": float(np.mean([line["loss"] for line in steps[-max(1, len(steps) // 10) :]])),
        **{name: value for name, value in epochs[-1].items() if name.startswith("held_out/")},
        "seconds_per_step": seconds,
        "tflops": run.flops / seconds / 1e12 if seconds else None,
        "peak_gib": steps[-1].get("peak_gib"),
        "trained_parameters": sum(x.size for x in jax.tree.leaves(state.trained)),
    }
    write_json(directory / "results.json", results)
    return results


def draw(steps: list[dict], epochs: list[dict], path: Path) -> None:
    """Training loss, held-out loss with true and exchanged actions, and gradient norms over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (losses, norms) = pyplot.subplots(2, 1, figsize=(7, 5), sharex=True)
    x = [line["step"] for line in steps]
    losses.plot(x, [line["loss"] for line in steps], linewidth=0.6, label="training")
    for name in ("held_out/loss", "held_out/loss_shuffled"):
        points = [(line["step"], line[name]) for line in epochs if name in line]
        if points:
            losses.plot(*zip(*points, strict=True), marker=".", label=name.replace("_", " "))
    losses.set_yscale("log")
    losses.legend()
    for name in ("grad_norm", "grad_norm_action"):
        norms.plot(x, [line[name] for line in steps], linewidth=0.6, label=name.replace("_", " "))
    norms.set_yscale("symlog", linthresh=1e-4)
    norms.legend()
    norms.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _best(state: TrainState) -> Any:
    return state.trained if state.ema is None else state.ema


def _alone(run: Run, tree: Any) -> Any:
    """One device's copy where every device has one; as it is where it lies in parts."""
    return tree if run.config.backend == "fsdp" else parallel.unreplicate(tree)


def main(argv: list[str]) -> None:
    """Train, and print the figures of the end of the run."""
    config = cli.parse(Finetune, argv)
    with runs.one_line_errors(ValueError, OSError, checkpoints.CheckpointError):
        results, _ = train(config)
    if results:
        print(json.dumps({k: v for k, v in results.items() if isinstance(v, int | float)}, indent=2))
