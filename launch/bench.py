"""Simulated steps per second: the environment alone, with a policy, and PPO end to end.

    python -m launch.bench --devices 1 2 4 --record bench

One environment step is one decision (5 game seconds) of one sector with network, ten kinematic frames,
separation, reward, spawns, reset and observation; actions are uniformly random. Compilation is timed apart;
each row is the median of repeated runs, with the fastest and slowest. Writes results.json and speed.png into
--out, and with --record into a record. See configs/bench.py.
"""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial

import gymnax
import jax
import jax.numpy as jnp

import wm  # noqa: F401  registers the environment
from configs import cli
from configs.bench import BenchConfig
from configs.ppo import SHIPPED, NetworkConfig, PPOConfig
from launch.shared import bench_figures, bench_step, cold, parallel, records, runs, speed
from rl import networks
from rl.ppo import PPO
from wm.store.checkpoints import CheckpointError

PEERS = ("CartPole-v1", "Asterix-MinAtar", "Breakout-MinAtar", "SpaceInvaders-MinAtar")
Jobs = Iterator[tuple[str, Callable[[], speed.Row]]]
# What is judged by return per second, not by steps alone.
RECIPES = {
    "1_epoch": {"epochs": 1},
    "4_minibatches": {"minibatches": 4},
    "16_minibatches": {"minibatches": 16},
    "1_epoch_4_minibatches": {"epochs": 1, "minibatches": 4},
}


def environment_rate(env, params, envs: int, devices: int, backend: str, config: BenchConfig) -> speed.Row:
    """Environment alone with uniformly random actions."""
    space = env.action_space(params)

    def chunk(axis):
        def run(nothing, carry, key, params):
            def body(carry, key):
                observation, state = carry
                key_action, key_step = jax.random.split(key)
                actions = jax.vmap(space.sample)(jax.random.split(key_action, envs))
                observation, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(
                    jax.random.split(key_step, envs), state, actions, params
                )
                return (observation, state), jnp.mean(reward.astype(jnp.float32))

            carry, rewards = jax.lax.scan(body, carry, jax.random.split(key, config.steps))
            mean = jnp.mean(rewards)
            return nothing, carry, mean if axis is None else jax.lax.pmean(mean, axis)

        return run

    update = speed.mapped(chunk, backend, devices, donate=(1,))
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    first = reset(jax.random.split(jax.random.key(0), envs * devices), params)
    # A Python number in a state has a weak type; a step gives it back without.
    first = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), first)
    start = (jnp.zeros(()), parallel.split(first, devices))
    steps = envs * devices * config.steps
    return speed.measure(update, start, _keys(1, devices), params, steps, config.repeats)


def ppo_rate(
    env, params, devices: int, config: BenchConfig, ppo: PPOConfig, learns: bool = True
) -> speed.Row:
    """Rollout, advantages and all epochs; the rollout alone where it does not learn."""
    backend = next((name for name in config.backends if name != "single"), "single")
    network = networks.for_spaces(env.observation_space(params), env.action_space(params), ppo.network)

    def update(axis):
        learner = PPO(env, network, ppo, 1000, axis)

        def rollout(state, carry, key, params):
            carry, transitions, totals = learner.rollout(state, carry, params)
            # Used, so that nothing of what the learner needs is left out.
            kept = jax.tree.map(lambda leaf: jnp.sum(leaf.astype(jnp.float32)), transitions)
            kept = kept if axis is None else jax.lax.pmean(kept, axis)
            return state, carry, (totals, kept, jax.random.bits(key) * 0)

        return learner.chunk if learns else rollout

    learner = PPO(env, network, ppo, 1000)
    state = learner.init(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(1), ppo.num_envs * devices)
    carry = parallel.split(jax.jit(learner.reset)(keys, params), devices)
    steps = ppo.num_envs * ppo.rollout_length * devices
    compiled = speed.mapped(update, backend, devices)
    start = (parallel.replicate(state, devices) if backend != "single" else state, carry)
    return speed.measure(compiled, start, _keys(2, devices), params, steps, config.repeats)


def _keys(seed: int, devices: int) -> Callable:
    return lambda run: parallel.shard_keys(jax.random.fold_in(jax.random.key(seed), run), devices)


def recipe(config: BenchConfig, envs: int | None = None, **changes) -> PPOConfig:
    """PPO at the benchmark's size."""
    size = {"num_envs": envs or config.at, "rollout_length": config.rollout_length, "chunk": 1}
    return PPOConfig(**(size | {"network": NetworkConfig()} | changes))


def jobs(part: str, config: BenchConfig) -> Jobs:
    """The rows of a part by name, each with what measures it."""
    env, params = gymnax.make("OpenScopeWM-v0", checkpoint=config.checkpoint, airport=config.airport)
    rate = partial(environment_rate, config=config)
    if part == "environment":
        for backend in config.backends:
            yield f"env_{backend}", partial(rate, env, params, config.at, 1, backend)
        for envs in config.envs:
            yield f"env_{envs}", partial(rate, env, params, envs, 1, config.backends[0])
    elif part == "slots":
        for slots in config.slots:
            yield f"slots_{slots}", partial(_of_slots, slots, config)
    elif part == "airports":
        everywhere = gymnax.make("OpenScopeWM-v0", checkpoint=config.checkpoint)
        yield "env_all_airports", partial(rate, *everywhere, config.at, 1, config.backends[0])
    elif part == "ppo":
        yield "rollout", partial(ppo_rate, env, params, 1, config, recipe(config), False)
        yield "ppo", partial(ppo_rate, env, params, 1, config, recipe(config))
        wide = recipe(config, network=SHIPPED.ppo.network)
        yield "rollout_shipped_network", partial(ppo_rate, env, params, 1, config, wide, False)
        yield "ppo_shipped_network", partial(ppo_rate, env, params, 1, config, wide)
    elif part == "recipes":
        for name, changes in RECIPES.items():
            yield f"ppo_{name}", partial(ppo_rate, env, params, 1, config, recipe(config, **changes))
    elif part == "step":
        yield from bench_step.jobs(env, params, config)
    elif part == "scaling":
        for devices in config.devices:
            yield f"ppo_d{devices}", partial(ppo_rate, env, params, devices, config, recipe(config))
            shared = recipe(config, envs=config.at // devices)
            if devices > 1 and config.at % devices == 0:
                yield f"ppo_strong_d{devices}", partial(ppo_rate, env, params, devices, config, shared)
    elif part == "peers":
        for name in PEERS:
            peer = gymnax.make(name)
            yield f"peer_{name}", partial(rate, *peer, config.at, 1, config.backends[0])
            yield f"peer_{name}_ppo", partial(ppo_rate, *peer, 1, config, recipe(config))
    elif part == "start":
        yield from cold.jobs(config)


def _of_slots(slots: int, config: BenchConfig) -> speed.Row:
    env, params = bench_step.with_slots(config, slots)
    return environment_rate(env, params, config.at, 1, config.backends[0], config)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    config = cli.parse(BenchConfig, argv)
    with runs.one_line_errors(CheckpointError, ValueError, OSError):
        config.out.mkdir(parents=True, exist_ok=True)
        path = config.out / "results.json"
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
        for part in config.parts:
            if part == "roofline":
                rows |= speed.ceilings()
            for name, job in jobs(part, config):
                rows[name] = row = job()
                print(f"{name:32s} {row['median']:14.4g} {row['unit']:12s} "
                      f"({row['low']:.4g} .. {row['high']:.4g})", flush=True)  # fmt: skip
                runs.write_results(config.out, {"rows": rows})
            if "copy" in rows and part == "step":
                rows["bound_s"] = bench_step.least(config, rows)
            runs.write_results(config.out, {"rows": rows})
        bench_figures.draw(rows, config.out / "speed.png")
        if config.record:
            records.write(config.record, bench_figures.figures(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
