"""Check that training loses nothing when it is killed: the same command always goes on, to the same end.

    python -m launch.check_training --record recorder
    python -m launch.check_training --commands train_ppo --kills 2

Every command is run once undisturbed. Then it is started again and again in another folder and killed, by
SIGTERM and by SIGKILL in turn: mostly while it trains, sometimes while it starts. A run that comes to its end
before it is killed makes room for another. Writes results.json; ends with status 1 where something was lost.
"""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from configs import cli
from configs.training_checks import TrainingCheck
from launch import eval_wm, export
from launch.shared import records, runs, training
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.networks.vae import initial_params
from wm.cosmos.training import clips
from wm.cosmos.weights import models
from wm.store import checkpoints
from wm.store.provenance import ROOT

FRAMES, SIDE, CLIPS = 5, 16, 12
DECISIONS = {"train": 240, "test": 84}  # of the recorded episodes, from a cold start
PATIENCE_S = 1200.0  # for one start
EARLY = 5  # every so many kills one comes before training has begun
PRODUCTS = {"train_ppo": "policy", "finetune": "model", "train_wm": "model"}


def make_inputs(folder: Path, commands: tuple[str, ...] = TrainingCheck.commands) -> None:
    """What the commands read, made once in a folder."""
    if "finetune" in commands and not (folder / "vae").exists():
        make_clips(folder)
    if "train_wm" in commands and not (folder / "test").exists():
        for use, decisions in DECISIONS.items():
            export.write_first(decisions, eval_wm.SHIPPED / use, folder / use)


def make_clips(folder: Path) -> None:
    """Clips of noise and an autoencoder with random weights, for `finetune`."""
    (folder / "clips").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(CLIPS):
        frames = generator.integers(0, 256, (FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
        actions = generator.normal(5.0, 3.0, (FRAMES - 1, 3)).astype(np.float32)
        clips.write(folder / "clips" / f"{number:02d}.npz", clips.Clip(frames, actions))
    vae = PRESETS["tiny"].vae
    params = jax.jit(initial_params, static_argnums=0)(vae, jax.random.key(0))
    models.save(folder / "vae", vae, jax.device_get(params))


def command_line(name: str, inputs: Path, out: Path) -> list[str]:
    """A small run of a training command, with a checkpoint every few steps."""
    words = {
        "train_ppo": """launch.train_ppo --env CartPole-v1 --save-every 2 --ppo.total-steps 3072
            --ppo.num-envs 4 --ppo.rollout-length 16 --ppo.epochs 1 --ppo.minibatches 2 --ppo.chunk 2
            --ppo.network.dtype float32""",
        "finetune": f"""launch.cosmos finetune --data {inputs}/clips --vae {inputs}/vae --model tiny
            --frames {FRAMES} --height {SIDE} --width {SIDE} --epochs 6 --batch 2 --holdout 4 --pictures 1
            --sampler-steps 2 --optimizer.warmup 1 --optimizer.compute float32""",
        "train_wm": f"""launch.train_wm --data {inputs}/train --test {inputs}/test --airports kabq
            --members 2 --width 32 --batch 64 --steps 48 --inner 2 --rows 64 --save-every 2""",
    }
    return [sys.executable, "-m", *words[name].split(), "--devices", "1", "--out", str(out)]


@dataclass
class Trial:
    """One command, killed again and again.

    Attributes:
      kills: what each did, a row each.
      faults: what went wrong, one line each.
    """

    name: str
    folder: Path
    moments: random.Random
    kills: list[dict] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def out(self) -> Path:
        return self.folder / f"killed-{self.runs}"

    def start(self, out: Path) -> subprocess.Popen:
        """The command in a process group of its own, its programs kept for the next start."""
        command = command_line(self.name, self.folder.parent / "inputs", out)
        kept = {"JAX_COMPILATION_CACHE_DIR": str(self.folder.parent / "programs")}
        kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
        with open(self.folder / "log.txt", "a") as log:
            return subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | kept, start_new_session=True
            )

    def undisturbed(self) -> float:
        """Runs to the end; returns how long it trained, in seconds."""
        process = self.start(self.folder / "whole")
        begin = self._first_line(process, self.folder / "whole")
        if status := self._wait(process, "the undisturbed run"):
            raise ValueError(f"{self.name} ends with status {status}: see {self.folder / 'log.txt'}")
        return (self.folder / "whole" / training.METRICS).stat().st_mtime - begin

    def kill(self, number: int, window_s: float) -> None:
        """Starts the command and kills it; `window_s` is how long after its first line at the most."""
        saved, out, begin = self._saved(), self.out, time.time()
        process = self.start(out)
        if number % EARLY == 0:
            delay = self.moments.uniform(0.0, self.startup_s)
        else:
            self.startup_s = self._first_line(process, out) - begin
            delay = self.moments.uniform(0.0, window_s)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            chosen = signal.SIGTERM if number % 2 else signal.SIGKILL
            process.send_signal(chosen)
            status = process.wait(PATIENCE_S)
            self._killed(number, chosen, status, delay, saved)
        else:
            self.end(process.returncode)

    def _killed(self, number: int, chosen: signal.Signals, status: int, delay: float, before: int) -> None:
        after = self._saved()
        moment = {"kill": number, "signal": chosen.name, "after_s": delay, "status": status}
        self.kills.append({**moment, "run": self.runs, "saved": after})
        if after < before:
            self.faults.append(f"{self.name}, kill {number}: step {before} was saved and is lost")
        if status not in (-chosen, 128 + chosen, 0):
            self.faults.append(f"{self.name}, kill {number}: ended with status {status}")

    def end(self, status: int | None = None) -> None:
        """The run's end, given the command once more if it isn't there; what differs from the whole one."""
        status = self._wait(self.start(self.out), "the last start") if status is None else status
        if status:
            self.faults.append(f"{self.name}: ended with status {status}, see {self.folder / 'log.txt'}")
        else:
            self.faults += [f"{self.name}: {line}" for line in self.differences()]
        self.runs += 1

    def differences(self) -> list[str]:
        """What the killed run's last checkpoint and product have otherwise than the whole run's."""
        found = []
        for part in (training.RESUME, PRODUCTS[self.name]):
            ours, theirs = (checkpoints.load_leaves(f / part) for f in (self.folder / "whole", self.out))
            found += [
                f"{part}/{name} differs after kills"
                for name in ours | theirs
                if name not in ours or name not in theirs or ours[name].tobytes() != theirs[name].tobytes()
            ]
        return found

    def _saved(self) -> int:
        return checkpoints.latest_step(self.out / training.RESUME) or 0

    def _first_line(self, process: subprocess.Popen, out: Path) -> float:
        """Waits until the run writes its first line of metrics; returns when, by the clock."""
        path, begin = out / training.METRICS, time.time()
        while process.poll() is None and time.time() < begin + PATIENCE_S:
            if path.exists() and path.stat().st_size and path.stat().st_mtime > begin:
                return path.stat().st_mtime
            time.sleep(0.02)
        return time.time()

    def _wait(self, process: subprocess.Popen, what: str) -> int:
        try:
            return process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ValueError(f"{self.name}: {what} took longer than {PATIENCE_S:g} s") from None

    startup_s: float = 20.0


def check(config: TrainingCheck, folder: Path) -> list[str]:
    """Runs all trials and writes what they found; returns what went wrong, one line each."""
    make_inputs(folder / "inputs", config.commands)
    trials, lost, rows = [], 0, []
    with runs.progress(config.kills * len(config.commands), "kill") as line:
        for name in config.commands:
            (folder / name).mkdir(parents=True)
            trial = Trial(name, folder / name, random.Random(config.draw))
            window = trial.undisturbed() / 4
            while len(trial.kills) < config.kills:
                before = len(trial.kills)
                trial.kill(before + 1, window)
                line.update(len(trial.kills) - before)
            trial.end()
            trials.append(trial)
            rows += [{"command": name, **row} for row in trial.kills]
            lost += len(trial.kills) if trial.faults else 0
    figures = {"training_kills_lost": records.Figure(lost, lost, lost, "kills", len(rows))}
    faults = [fault for trial in trials for fault in trial.faults]
    shown = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
    runs.write_results(
        folder, {"config": cli.to_json(config), "figures": shown, "kills": rows, "faults": faults}
    )
    if config.record:
        records.write(config.record, figures)
    print(f"{lost} of {len(rows)} kills lost something\n{folder}/results.json")
    return faults


def main(argv: list[str] | None = None) -> None:
    """Check, or say in one line why not."""
    config = cli.parse(TrainingCheck, argv)
    with runs.one_line_errors(checkpoints.CheckpointError, ValueError, OSError):
        faults = check(config, (config.out or runs.create("check-training")).resolve())
    if faults:
        runs.fail("; ".join(faults))


if __name__ == "__main__":
    main(sys.argv[1:])
