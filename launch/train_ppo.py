"""Trains a controller with PPO on every device of this machine.

    python -m launch.train_ppo --directory runs/ppo
    python -m launch.train_ppo --directory runs/ppo --resume
    python -m launch.train_ppo --directory runs/cartpole --env CartPole-v1 --ppo.num-envs 32 --ppo.total-steps
    500000

The directory receives

    config.json     what was asked for
    metrics.jsonl   one line per chunk of updates
    curves.png      the main ones over environment steps
    results.json    figures of the end of the run, speed, versions
    policy/         the controller alone, for `rl.policy.load_policy`
    resume/         everything needed to go on as if nothing had happened
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import gymnax
import jax

from configs import cli
from configs.ppo import OPENSCOPE, PPOConfig
from launch.shared import parallel, runs
from rl import networks
from rl.clone import Cloning
from rl.policy import describe
from rl.ppo import PPO, Carry, TrainState
from rl.totals import report
from wm.store import checkpoints
from wm.store.provenance import write_json


@dataclass(frozen=True)
class Arguments:
    """Train a controller with PPO."""

    directory: Path
    """Run folder; must be new unless --resume is given."""
    env: str = "OpenScopeWM-v0"
    """gymnax id."""
    checkpoint: Path | None = None
    """World model for OpenScopeWM-v0; the packaged one if left out."""
    airport: str | None = None
    """Train at this airport of the world model alone; at all it knows if left out."""
    backend: parallel.Backend = "pmap"
    devices: int | None = None
    """How many of this machine's devices; all if left out. For several machines see launch/on_hosts.py."""
    resume: bool = False
    save_every: int = 20
    """Chunks between checkpoints; the last chunk is always saved."""
    ppo: PPOConfig = OPENSCOPE


class TrainingError(Exception):
    """The run can't start or go on; one line with cause and remedy."""


@dataclass(frozen=True)
class Run:
    """What stays the same throughout."""

    arguments: Arguments
    learner: PPO
    env_params: object
    devices: int  # of this host

    @property
    def all_devices(self) -> int:
        return self.devices * jax.process_count()

    @property
    def environments(self) -> int:
        """Of this host."""
        return self.arguments.ppo.num_envs * self.devices

    @property
    def steps_per_chunk(self) -> int:
        config = self.arguments.ppo
        return config.num_envs * config.rollout_length * config.chunk * self.all_devices

    def record(self) -> dict:
        """The configuration as plain JSON. What may differ on resuming is left out."""
        asked = asdict(self.arguments)
        for name in ("directory", "resume", "save_every"):
            del asked[name]
        return {**asked, "checkpoint": str(asked["checkpoint"] or ""), "devices": self.all_devices}


def make_environment(name: str, checkpoint: Path | None, airport: str | None):
    """(env, params) by gymnax id. Raises TrainingError for an unknown id."""
    if name not in gymnax.registered_envs:
        raise TrainingError(
            f"no environment called {name!r}; known are {', '.join(sorted(gymnax.registered_envs))}"
        )
    options = {"checkpoint": checkpoint, "airport": airport}
    return gymnax.make(name, **{k: v for k, v in options.items() if v is not None})


def prepare(arguments: Arguments) -> Run:
    """Environment, network and learner. Raises TrainingError or ValueError for what can't be trained."""
    devices = len(parallel.devices(arguments.devices))
    if arguments.devices is not None and jax.process_count() > 1:
        raise TrainingError("--devices is for one host; of several hosts all devices take part: leave it out")
    env, env_params = make_environment(arguments.env, arguments.checkpoint, arguments.airport)
    spaces = env.observation_space(env_params), env.action_space(env_params)
    network = networks.for_spaces(*spaces, arguments.ppo.network)
    updates = arguments.ppo.updates(devices * jax.process_count())
    learner = PPO(env, network, arguments.ppo, updates, parallel.AXIS)
    return Run(arguments, learner, env_params, devices)


def start(run: Run) -> tuple[TrainState, Carry]:
    """A fresh train state, and environments on all devices (leaves [D, E, ...])."""
    config = run.arguments.ppo
    key_init, key_envs = jax.random.split(jax.random.key(config.seed))
    state = jax.jit(run.learner.init)(key_init, run.env_params)
    keys = parallel.host_keys(key_envs, run.environments)
    carry = jax.jit(run.learner.reset)(keys, run.env_params)
    return parallel.replicate(state, run.devices), parallel.split(carry, run.devices)


def on_all_devices(run: Run, chunk):
    """The function of one device on those of this host, or of all hosts."""
    return parallel.wrap(chunk, run.arguments.backend, run.devices if jax.process_count() == 1 else None)


def chunk_keys(run: Run, name: int, chunk: int) -> jax.Array:
    """Keys that depend on the seed and the chunk's number only, so a resumed run draws the same ones."""
    root = jax.random.fold_in(jax.random.key(run.arguments.ppo.seed), name)
    return parallel.shard_keys(jax.random.fold_in(root, chunk), run.devices)


CLONING, TRAINING = 1, 2  # names of key streams


def clone(run: Run, state: TrainState, log) -> TrainState:
    """The warm start: imitates the hand-written expert, then gives PPO the cloned network."""
    from rl.expert import ExpertParams, expert

    config = run.arguments.ppo
    cloning = Cloning(run.learner, expert(), ExpertParams())
    key_envs = jax.random.fold_in(jax.random.key(config.seed), CLONING)
    keys = parallel.host_keys(jax.random.fold_in(key_envs, config.clone.updates), run.environments)
    carry = parallel.split(jax.jit(cloning.reset)(keys, run.env_params), run.devices)
    state = parallel.replicate(
        parallel.unreplicate(state).replace(optimizer=cloning.optimizer().init(state.policy.network)),
        run.devices,
    )
    update = on_all_devices(run, cloning.chunk)
    for chunk in range(math.ceil(config.clone.updates / min(config.chunk, config.clone.updates))):
        state, carry, metrics = update(state, carry, chunk_keys(run, CLONING, chunk), run.env_params)
        log({"phase": "clone", "chunk": chunk, **report(metrics)})
    return parallel.replicate(cloning.warm_start(parallel.unreplicate(state)), run.devices)


def save(run: Run, state: TrainState, carry: Carry, chunk: int) -> None:
    """The controller, and everything that a resumed run needs, the environments of all hosts included."""
    directory = run.arguments.directory
    alone = parallel.unreplicate(state)
    observation = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), carry.observation
    )
    policy = {"env": run.arguments.env, **describe(run.learner.network, observation)}
    checkpoints.save(directory / "policy", chunk, alone.policy, policy)
    everywhere = parallel.gather(parallel.merge(carry))
    checkpoints.save(directory / "resume", chunk, (alone, everywhere), run.record(), keep=1)


def restore(run: Run) -> tuple[TrainState, Carry, int]:
    """State, environments and chunks done of the newest checkpoint. The configuration must be the same."""
    folder = run.arguments.directory / "resume"
    shapes = jax.eval_shape(lambda: tuple(_without_devices(run)))
    state, carry = checkpoints.restore(folder, shapes, config=run.record())
    own = parallel.host_rows(carry)
    placed = parallel.replicate(state, run.devices), parallel.split(own, run.devices)
    return *placed, checkpoints.latest_step(folder)


def _without_devices(run: Run):
    keys = jax.random.split(jax.random.key(0), run.arguments.ppo.num_envs * run.all_devices)
    yield run.learner.init(jax.random.key(0), run.env_params)
    yield run.learner.reset(keys, run.env_params)


def train(run: Run) -> dict:
    """The whole run; returns and writes its results, where there are several hosts on the first alone."""
    arguments, config = run.arguments, run.arguments.ppo
    lines = open_log(arguments)
    if jax.process_index() == 0:
        write_json(arguments.directory / "config.json", run.record())

    def log(line: dict) -> None:
        check_finite(line)
        lines.write(json.dumps(line) + "\n")
        lines.flush()

    if arguments.resume:
        state, carry, done = restore(run)
    else:
        state, carry = start(run)
        done = 0
        if config.clone.updates:
            state = clone(run, state, log)

    update = on_all_devices(run, run.learner.chunk)
    chunks, durations = run.learner.updates // config.chunk, []
    progress = runs.progress(chunks * run.steps_per_chunk, "step", done * run.steps_per_chunk)
    with lines, progress as bar:
        for chunk in range(done, chunks):
            before = time.perf_counter()
            state, carry, metrics = update(state, carry, chunk_keys(run, TRAINING, chunk), run.env_params)
            line = report(metrics)  # waits for the chunk
            durations.append(time.perf_counter() - before)
            log({"phase": "ppo", "chunk": chunk, "total_steps": (chunk + 1) * run.steps_per_chunk, **line})
            bar.set_postfix({"return": f"{line.get('episode/return/mean', math.nan):.1f}"}, refresh=False)
            bar.update(run.steps_per_chunk)
            if (chunk + 1) % arguments.save_every == 0 or chunk + 1 == chunks:
                save(run, state, carry, chunk + 1)
    return summarise(run, durations) if jax.process_index() == 0 else {}


def open_log(arguments: Arguments):
    """metrics.jsonl for appending; on resuming, without the lines of chunks that were never saved.

    A run that ended before its first checkpoint left nothing to go on from: a new one takes its place.
    Only the first of several hosts writes. All look before it does, so that all say what is wrong.
    """
    path = arguments.directory / "metrics.jsonl"
    saved = checkpoints.latest_step(arguments.directory / "resume")
    if arguments.resume and saved is None:
        raise TrainingError(f"{arguments.directory} has no checkpoint to resume; start it without --resume")
    if not arguments.resume and saved is not None:
        raise TrainingError(
            f"{arguments.directory} holds a run already; add --resume or choose another directory"
        )
    parallel.wait_for_all("looked for an earlier run")
    if jax.process_index() > 0:
        return open(os.devnull, "w")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    keep = lambda line: line["phase"] == "clone" or line["chunk"] < saved  # noqa: E731
    return runs.reopen_log(path, keep) if arguments.resume else path.open("w")


def check_finite(line: dict) -> None:
    """Raises TrainingError where a metric isn't a number."""
    for name, value in line.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise TrainingError(
                f"{name} is {value} in chunk {line['chunk']}; lower --ppo.learning-rate or check the "
                "environment's rewards, then start again or --resume from the last checkpoint"
            )


def summarise(run: Run, durations: list[float]) -> dict:
    """results.json and curves.png from metrics.jsonl. Figures are means over the last tenth of the run."""
    directory = run.arguments.directory
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["phase"] == "ppo"]
    draw(lines, directory / "curves.png")
    last = lines[-max(1, len(lines) // 10) :]
    names = [name for name in last[-1] if "/" in name and all(name in line for line in last)]
    timed = durations[1:]  # the first chunk compiles
    results = {
        **runs.provenance(),
        "env": run.arguments.env,
        "total_steps": lines[-1]["total_steps"],
        "figures": {name: sum(line[name] for line in last) / len(last) for name in names},
        "steps_per_second": len(timed) * run.steps_per_chunk / sum(timed) if timed else None,
        "device": f"{run.all_devices} x {jax.devices()[0].device_kind}",
        "backend": run.arguments.backend,
    }
    write_json(directory / "results.json", results)
    return results


def draw(lines: list[dict], path: Path) -> None:
    """Return and reward terms per episode, and the health of the optimisation, over environment steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    episode = sorted(
        {name for line in lines for name in line if name.startswith("episode/") and name.endswith("/mean")}
    )
    names = [
        *episode,
        "train/entropy",
        "train/kl",
        "train/clip_fraction",
        "train/explained_variance",
        "train/value_loss",
    ]
    figure, axes = pyplot.subplots(len(names), 1, figsize=(7, 1.6 * len(names)), sharex=True)
    for name, axis in zip(names, axes, strict=True):
        points = [(line["total_steps"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True))
        axis.set_ylabel(name.removeprefix("episode/").removeprefix("train/"), fontsize=7)
    axes[-1].set_xlabel("environment steps")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Train, and print the figures of the end of the run."""
    arguments = cli.parse(Arguments, argv)
    with runs.one_line_errors(TrainingError, checkpoints.CheckpointError, ValueError):
        results = train(prepare(arguments))
    if results:
        print(json.dumps(results["figures"], indent=2))


if __name__ == "__main__":
    main()
