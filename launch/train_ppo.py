"""Trains a controller with PPO on every device of this machine.

    python -m launch.train_ppo --out runs/ppo
    python -m launch.train_ppo shipped --out runs/ppo-shipped
    python -m launch.train_ppo --out runs/pole --env CartPole-v1 --ppo.num-envs 32 --ppo.total-steps 500000

The same command goes on where it stopped. The run folder receives

    config.json     what was asked for
    metrics.jsonl   one line per chunk of updates
    tensorboard/    the same numbers, for TensorBoard
    curves.png      the main ones over environment steps
    results.json    figures of the end of the run, speed, versions
    policy/         the controller alone, for `rl.policy.load_policy`
    resume/         everything needed to go on as if nothing had happened
"""

import json
import math
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gymnax
import jax

from configs import cli
from configs.ppo import PRESETS, PPOConfig, PPOTraining
from launch.shared import parallel, players, runs, training
from launch.shared.training import Folder, Log, TrainingError
from rl import networks
from rl.advice import Advised
from rl.clone import Cloning
from rl.policy import describe, load_network
from rl.ppo import PPO, Carry, TrainState
from rl.totals import report
from wm.state import bundle
from wm.store import checkpoints

WORLD_MODEL = "OpenScopeWM-v0"
NOT_FINITE = "lower --ppo.learning-rate or check the environment's rewards, and choose another --out"


@dataclass(frozen=True)
class Run:
    """What stays the same throughout.

    `learner.config` has the sizes of the devices that there are; `arguments.ppo` those that were asked for.
    """

    arguments: PPOTraining
    learner: PPO
    env_params: object
    devices: int  # of this host

    @property
    def config(self) -> PPOConfig:
        return self.learner.config

    @property
    def all_devices(self) -> int:
        return self.devices * jax.process_count()

    @property
    def environments(self) -> int:
        """Of this host."""
        return self.config.num_envs * self.devices

    @property
    def steps_per_chunk(self) -> int:
        config = self.config
        return config.num_envs * config.rollout_length * config.chunk * self.all_devices

    @property
    def chunks(self) -> int:
        """In the whole run, or up to where it is to stop."""
        chunks, stop = self.learner.updates // self.config.chunk, self.arguments.stop_after_steps
        return chunks if stop is None else min(chunks, math.ceil(stop / self.steps_per_chunk))

    def record(self) -> dict:
        """What every start of the run has to share: the configuration, the world model by its content."""
        asked = self.arguments
        checkpoint = asked.checkpoint or (bundle.PACKAGED if asked.env == WORLD_MODEL else None)
        begun = {} if asked.init is None else {"init": checkpoints.fingerprint(players.folder_of(asked.init))}
        return begun | {
            "env": asked.env,
            "checkpoint": checkpoint and checkpoints.fingerprint(checkpoint),
            "airport": list(asked.airport),
            "slots": asked.slots,
            "dynamics": asked.dynamics,
            "advised": asked.advised,
            "ppo": cli.to_json(asked.ppo),
        }


def make_environment(asked: PPOTraining):
    """(env, params) by gymnax id. Raises TrainingError for an unknown id, ValueError for too few slots."""
    if asked.env not in gymnax.registered_envs:
        raise TrainingError(
            f"no environment called {asked.env!r}; known are {', '.join(sorted(gymnax.registered_envs))}"
        )
    options = {
        "checkpoint": asked.checkpoint,
        "airport": asked.airport or None,
        "slots": asked.slots,
        "dynamics": None if asked.dynamics == "learned" else asked.dynamics,
    }
    env, params = gymnax.make(asked.env, **{k: v for k, v in options.items() if v is not None})
    return (Advised(env) if asked.advised else env), params


def prepare(arguments: PPOTraining) -> Run:
    """Environment, network and learner. Raises TrainingError or ValueError for what can't be trained."""
    devices = len(parallel.devices(arguments.devices))
    if arguments.devices is not None and jax.process_count() > 1:
        raise TrainingError("--devices is for one host; of several hosts all devices take part: leave it out")
    asked, everywhere = with_size_of_init(arguments), devices * jax.process_count()
    fits = lambda size: size * asked.rollout_length % asked.minibatches == 0  # noqa: E731
    size = training.per_device(arguments.out, asked.num_envs, everywhere, "environments", fits)
    config = replace(asked, num_envs=size)
    env, env_params = make_environment(arguments)
    spaces = env.observation_space(env_params), env.action_space(env_params)
    network = networks.for_spaces(*spaces, config.network)
    learner = PPO(env, network, config, config.updates(everywhere), parallel.AXIS)
    return Run(arguments, learner, env_params, devices)


def with_size_of_init(arguments: PPOTraining) -> PPOConfig:
    """The configuration with the network of --init, in the precision that was asked for."""
    if arguments.init is None:
        return arguments.ppo
    network, _ = load_network(players.folder_of(arguments.init))
    return replace(arguments.ppo, network=replace(network.config, dtype=arguments.ppo.network.dtype))


def start(run: Run) -> tuple[TrainState, Carry]:
    """Train state (fresh, or the policy of --init) and environments on all devices, leaves [D, ...]."""
    key_init, key_envs = jax.random.split(jax.random.key(run.config.seed))
    state = jax.jit(run.learner.init)(key_init, run.env_params)
    if run.arguments.init is not None:
        folder = players.folder_of(run.arguments.init)
        state = run.learner.start_from(state.replace(policy=checkpoints.restore(folder, state.policy)))
    keys = parallel.host_keys(key_envs, run.environments)
    carry = jax.jit(run.learner.reset)(keys, run.env_params)
    return parallel.replicate(state, run.devices), parallel.split(carry, run.devices)


def on_all_devices(run: Run, chunk):
    """The function of one device on those of this host, or of all hosts."""
    return parallel.wrap(chunk, run.arguments.backend, run.devices if jax.process_count() == 1 else None)


def chunk_keys(run: Run, name: int, chunk: int) -> jax.Array:
    """Keys that depend on the seed and the chunk's number only, so a resumed run draws the same ones."""
    root = jax.random.fold_in(jax.random.key(run.config.seed), name)
    return parallel.shard_keys(jax.random.fold_in(root, chunk), run.devices)


CLONING, TRAINING = 1, 2  # names of key streams


def clone(run: Run, state: TrainState, folder: Folder, log: Log) -> TrainState:
    """The warm start: imitates the hand-written expert, then gives PPO the cloned network."""
    from rl.expert import ExpertParams, expert

    config = run.config
    cloning = Cloning(run.learner, expert(), ExpertParams())
    key_envs = jax.random.fold_in(jax.random.key(config.seed), CLONING)
    keys = parallel.host_keys(jax.random.fold_in(key_envs, config.clone.updates), run.environments)
    carry = parallel.split(jax.jit(cloning.reset)(keys, run.env_params), run.devices)
    state = parallel.replicate(cloning.restarted(parallel.unreplicate(state)), run.devices)
    update = on_all_devices(run, cloning.chunk)
    for chunk in range(math.ceil(config.clone.updates / min(config.chunk, config.clone.updates))):
        state, carry, metrics = update(state, carry, chunk_keys(run, CLONING, chunk), run.env_params)
        log.write({"phase": "clone", "chunk": chunk, **report(metrics)})
        if folder.asked_to_stop():
            folder.stop("nothing, for the expert was still being cloned,")
    return parallel.replicate(cloning.warm_start(parallel.unreplicate(state)), run.devices)


def save(run: Run, folder: Folder, state: TrainState, carry: Carry, chunk: int) -> None:
    """The controller, and everything that a later start needs, the environments of all hosts included."""
    alone = parallel.unreplicate(state)
    observation = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), carry.observation
    )
    policy = {"env": run.arguments.env, **describe(run.learner.network, observation)}
    metadata = {"training": run.record(), training.ALL_DEVICES: run.config.num_envs * run.all_devices}
    checkpoints.save(folder.path / "policy", chunk, alone.policy, policy, metadata)
    everywhere = parallel.gather(parallel.merge(carry))
    folder.save(chunk, (alone, everywhere), {training.ALL_DEVICES: metadata[training.ALL_DEVICES]})


def restore(run: Run, folder: Folder) -> tuple[TrainState, Carry]:
    """State and environments of the newest checkpoint, on the devices that there are."""
    state, carry = folder.restore(jax.eval_shape(lambda: tuple(_without_devices(run))))
    own = parallel.host_rows(carry)
    return parallel.replicate(state, run.devices), parallel.split(own, run.devices)


def _without_devices(run: Run):
    keys = jax.random.split(jax.random.key(0), run.config.num_envs * run.all_devices)
    yield run.learner.init(jax.random.key(0), run.env_params)
    yield run.learner.reset(keys, run.env_params)


def begin(run: Run, folder: Folder, log: Log) -> tuple[TrainState, Carry]:
    """A new run's state and environments; a cloned expert is saved, so that it needn't be cloned again."""
    state, carry = start(run)
    if run.config.clone.updates:
        state = clone(run, state, folder, log)
        save(run, folder, state, carry, 0)
    return state, carry


def train(run: Run) -> dict:
    """The whole run; returns and writes its results, where there are several hosts on the first alone."""
    with training.hold(run.arguments.out, run.record(), run.chunks, "chunk") as folder:
        folder.write_config(run.arguments)
        folder.forget_unsaved("policy")
        durations = learn(run, folder)
        return summarise(run, folder, durations) if jax.process_index() == 0 else {}


def learn(run: Run, folder: Folder) -> list[float]:
    """Every chunk that is left; returns how long each took, in seconds."""
    keep = lambda line: line["phase"] == "clone" or line["chunk"] < folder.done  # noqa: E731
    update, durations, steps = on_all_devices(run, run.learner.chunk), [], run.steps_per_chunk
    progress = runs.progress(folder.total * steps, "step", folder.done * steps)
    with folder.log(keep, NOT_FINITE, run.arguments.wandb) as log, progress as bar:
        state, carry = restore(run, folder) if folder.begun else begin(run, folder, log)
        for chunk in range(folder.done, folder.total):
            before = time.perf_counter()
            state, carry, metrics = update(state, carry, chunk_keys(run, TRAINING, chunk), run.env_params)
            line = report(metrics)  # waits for the chunk
            durations.append(time.perf_counter() - before)
            log.write({"phase": "ppo", "chunk": chunk, "total_steps": (chunk + 1) * steps, **line})
            bar.set_postfix({"return": f"{line.get('episode/return/mean', math.nan):.1f}"}, refresh=False)
            bar.update(steps)
            due = (chunk + 1) % run.arguments.save_every == 0
            folder.checkpoint(chunk + 1, due, partial(save, run, folder, state, carry, chunk + 1))
    return durations


def summarise(run: Run, folder: Folder, durations: list[float]) -> dict:
    """results.json and curves.png from metrics.jsonl. Figures are means over the last tenth of the run."""
    lines = [line for line in folder.lines() if line["phase"] == "ppo"]
    draw(lines, folder.path / "curves.png")
    last = lines[-max(1, len(lines) // 10) :]
    names = [name for name in last[-1] if "/" in name and all(name in line for line in last)]
    timed = durations[1:]  # the first chunk compiles
    return folder.write_results(
        {
            "env": run.arguments.env,
            "total_steps": lines[-1]["total_steps"],
            "figures": {name: sum(line[name] for line in last) / len(last) for name in names},
            "steps_per_second": len(timed) * run.steps_per_chunk / sum(timed) if timed else None,
            "device": f"{run.all_devices} x {jax.devices()[0].device_kind}",
            "backend": run.arguments.backend,
        }
    )


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
    arguments = cli.parse_preset(PPOTraining, PRESETS, argv)
    with training.ends():
        results = train(prepare(arguments))
    if results:
        print(json.dumps(results["figures"], indent=2))


if __name__ == "__main__":
    main()
