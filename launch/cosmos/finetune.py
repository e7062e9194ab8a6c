"""`finetune`: train a model, whole or by adapters, on a folder of clips with actions.

    python -m launch.cosmos finetune --data clips --vae vae --init converted --out runs/cosmos

The same command goes on where it stopped. The run folder receives

    config.json       what was asked for
    metrics.jsonl     one line per step (loss, gradient norms, samples/s, TFLOP/s and MFU per device), and one
                      per epoch
    tensorboard/      the same numbers, for TensorBoard
    curves.png        losses over steps
    epoch-0001.png    held-out clips: the truth above what the model draws
    results.json      figures of the end of the run, speed, versions
    model/            the weights, adapters merged, ready for `generate`, `export` and --init
    resume/           everything needed to go on as if nothing had happened, after every epoch
"""

import json
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from configs import cli
from configs.cosmos import Finetune
from launch.cosmos.run import Run, make
from launch.cosmos.samples import Judge
from launch.shared import parallel, runs, training
from launch.shared.training import Folder
from wm.cosmos.networks import lora
from wm.cosmos.training import cost
from wm.cosmos.training.train import TrainState
from wm.cosmos.weights import models
from wm.store import checkpoints
from wm.store.provenance import write_json

NOT_FINITE = "lower --optimizer.learning-rate and choose another --out"


def train(asked: Finetune) -> tuple[dict, Judge]:
    """The whole run; returns and writes its results, where there are several hosts on the first alone.

    The judge is given back as well: what it compiled serves further questions about the model.
    """
    run, first_state = make(asked)
    judge, total = Judge(run), asked.epochs * run.steps_per_epoch
    with training.hold(asked.out, run.record(), total, "step") as folder:
        folder.write_config(asked)
        if jax.process_index() == 0:
            write_json(asked.out / "normaliser.json", asdict(run.normaliser))
        state, frozen = first_state()
        if folder.begun:
            state = restored(run, folder, state)
        state = learn(run, folder, judge, state, frozen)
        return (finish(run, folder, state, frozen) if jax.process_index() == 0 else {}), judge


def learn(run: Run, folder: Folder, judge: Judge, state: TrainState, frozen: Any) -> TrainState:
    """Every step that is left."""
    epoch_steps, update, clock = run.steps_per_epoch, run.compiled(), Clock(run, spent_before(folder))
    # A line of a whole epoch has the number of the step after it.
    keep = lambda line: line["step"] < folder.done + ("loss" not in line)  # noqa: E731
    progress = runs.progress(folder.total, "step", folder.done)
    with folder.log(keep, NOT_FINITE, run.config.wandb) as log, progress as bar:

        def report(step: int, metrics: dict) -> None:
            line = clock.line(step, metrics)
            log.write(line)
            speed = {"TFLOP/s": f"{line['tflops']:.3g}"} if "tflops" in line else {}
            bar.set_postfix({"loss": f"{line['loss']:.4f}", **speed}, refresh=False)
            bar.update()

        begun, within = divmod(folder.done, epoch_steps)
        over = clock.spent(run.config.minutes) and not within
        for epoch in range(begun, begun if over else run.config.epochs):
            clock.start()
            behind = None  # the step before the newest is waited for, so that the device always has work
            first = epoch * epoch_steps + within
            for done, (batch, keys) in enumerate(run.batches(epoch, within), first + 1):
                state, _, metrics = update(state, batch, keys, frozen)
                if behind is not None:
                    report(*behind)
                behind = done - 1, metrics
                if done % epoch_steps and _look(done) and folder.asked_to_stop():
                    report(*behind)
                    folder.checkpoint(done, True, partial(save, run, folder, clock, state, done))
            report(*behind)
            within, done = 0, (epoch + 1) * epoch_steps
            over = done == folder.total or clock.spent(run.config.minutes)
            due = over or (epoch + 1) % run.config.save_every == 0
            if due:
                log.write(judged(run, judge, state, frozen, epoch))
            folder.checkpoint(done, due, partial(save, run, folder, clock, state, done))
            if over:
                break
    return state


def _look(step: int) -> bool:
    """Whether to ask for signals after a step: on several hosts every tenth time, since they wait for it."""
    return jax.process_count() == 1 or step % 10 == 0


class Clock:
    """Times steps from one result to the next and adds speed to their metrics."""

    def __init__(self, run: Run, before: float):
        """`before`: seconds of training of earlier starts."""
        self.run, self.device = run, jax.local_devices()[0]
        self.peak = cost.peak_flops(self.device.device_kind)
        self.before = before
        self._last, self._compiled = 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Of training, of all starts; each counts from when its first step was compiled and done."""
        return self.before + (time.perf_counter() - self._compiled if self._compiled else 0.0)

    def spent(self, minutes: float | None) -> bool:
        """Whether training took so long; all hosts get the first one's answer."""
        if minutes is None:
            return False
        over = self.seconds >= 60 * minutes
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
        judge.picture(variables, run.config.out / f"epoch-{epoch + 1:04d}.png")
    return line


def save(run: Run, folder: Folder, clock: Clock, state: TrainState, step: int) -> None:
    """Everything that a later start needs."""
    metadata = {
        "data_fingerprint": run.data.fingerprint,
        "seconds": clock.seconds,
        training.ALL_DEVICES: run.batch,
    }
    folder.save(step, _alone(run, state), metadata)


def spent_before(folder: Folder) -> float:
    """Seconds of training of the starts before this one."""
    if not folder.begun:
        return 0.0
    return checkpoints.load_metadata(folder.path / training.RESUME, folder.saved).get("seconds", 0.0)


def restored(run: Run, folder: Folder, fresh: TrainState) -> TrainState:
    """The newest checkpoint's state, on the devices."""
    return run.place(folder.restore(jax.eval_shape(lambda: fresh)))


def saved_variables(asked: Finetune) -> tuple[Judge, dict, dict]:
    """A finished run's judge, and its variables twice: their running mean, and as the last step left them.

    Adapters are beside the kernels that they adapt.
    """
    run, first_state = make(asked)
    state, frozen = first_state()
    with training.hold(asked.out, run.record(), asked.epochs * run.steps_per_epoch, "step") as folder:
        state = restored(run, folder, state)
    mean, last = (run.trainer.variables(*_alone(run, (x, frozen))) for x in (_best(state), state.trained))
    return Judge(run), mean, last


def finish(run: Run, folder: Folder, state: TrainState, frozen: Any) -> dict:
    """The model's folder, curves.png and results.json."""
    variables = run.trainer.variables(*_alone(run, (_best(state), frozen)))
    metadata = {"data_fingerprint": run.data.fingerprint}
    params, context = jax.device_get(lora.merge(variables)), np.asarray(run.clips.context)
    folder.product("model", lambda path: models.save(path, run.model, params, context, metadata))
    lines = folder.lines()
    steps = [line for line in lines if "loss" in line]
    epochs = [line for line in lines if "loss" not in line]
    draw(steps, epochs, folder.path / "curves.png")
    timed = [line["seconds"] for line in steps if "seconds" in line]
    seconds = float(np.median(timed)) if timed else None
    return folder.write_results(
        {
            "steps": len(steps),
            "loss": float(np.mean([line["loss"] for line in steps[-max(1, len(steps) // 10) :]])),
            **{name: value for name, value in epochs[-1].items() if name.startswith("held_out/")},
            "seconds_per_step": seconds,
            "tflops": run.flops / seconds / 1e12 if seconds else None,
            "peak_gib": steps[-1].get("peak_gib"),
            "trained_parameters": sum(x.size for x in jax.tree.leaves(state.trained)),
        }
    )


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
    asked = cli.parse(Finetune, argv)
    with training.ends():
        results, _ = train(asked)
    if results:
        print(json.dumps({k: v for k, v in results.items() if isinstance(v, int | float)}, indent=2))
