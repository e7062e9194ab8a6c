"""Simulated steps per second: the environment alone, and PPO end to end, on 1..D devices.

    python -m launch.bench --checkpoint runs/wm/model

One environment step is one decision (5 game seconds) of one sector of 32 aircraft slots with
network, ten kinematic frames, separation, reward, spawns, reset and observation; actions are
uniformly random. Compilation is timed apart; each row is the median of repeated runs, with the
fastest and slowest. Writes bench.json into --out, and with --record into a record.
"""

import sys
import time
from functools import partial

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

import wm  # noqa: F401  registers the environment
from configs import cli
from configs.bench import BenchConfig
from configs.ppo import NetworkConfig, PPOConfig
from launch.shared import parallel, records, runs
from rl import networks
from rl.ppo import PPO
from wm.store.checkpoints import CheckpointError
from wm.store.provenance import write_json


def measure(step, arguments, steps_per_call: int, repeats: int) -> dict:
    """Compile, warm up, time; `step(*arguments) -> arguments`. Rates in environment steps/s."""
    begin = time.perf_counter()
    arguments = step(*arguments)
    jax.block_until_ready(arguments)
    compiled = time.perf_counter() - begin
    for _ in range(2):
        arguments = step(*arguments)
    jax.block_until_ready(arguments)
    rates = []
    for _ in range(repeats):
        begin = time.perf_counter()
        arguments = step(*arguments)
        jax.block_until_ready(arguments)
        rates.append(steps_per_call / (time.perf_counter() - begin))
    return {
        "median": float(np.median(rates)),
        "low": min(rates),
        "high": max(rates),
        "compile_and_first_s": compiled,
        "repeats": repeats,
    }


def environment_rate(env, params, envs: int, devices: int, config: BenchConfig) -> dict:
    """Environment alone with uniformly random actions."""
    space = env.action_space(params)

    def chunk(nothing, carry, key, params):
        def body(carry, key):
            observation, state = carry
            key_action, key_step = jax.random.split(key)
            actions = jax.vmap(space.sample)(jax.random.split(key_action, envs))
            observation, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(
                jax.random.split(key_step, envs), state, actions, params
            )
            return (observation, state), jnp.mean(reward)

        carry, rewards = jax.lax.scan(body, carry, jax.random.split(key, config.steps))
        return nothing, carry, jax.lax.pmean(jnp.mean(rewards), parallel.AXIS)

    update = parallel.wrap(chunk, config.backend, devices, donate_argnums=(1,))
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    first = reset(jax.random.split(jax.random.key(0), envs * devices), params)
    carry = parallel.split(first, devices)

    def step(carry, call):
        keys = parallel.shard_keys(jax.random.fold_in(jax.random.key(1), call), devices)
        _, carry, _ = update(0.0, carry, keys, params)
        return carry, call + 1

    return measure(step, (carry, 0), envs * devices * config.steps, config.repeats)


def ppo_rate(env, params, devices: int, config: BenchConfig) -> dict:
    """Rollout, advantages and all epochs, with the default policy network."""
    ppo = PPOConfig(
        num_envs=config.ppo_envs,
        rollout_length=config.rollout_length,
        chunk=1,
        network=NetworkConfig(),
    )
    spaces = env.observation_space(params), env.action_space(params)
    network = networks.for_spaces(*spaces, ppo.network)
    learner = PPO(env, network, ppo, 1000, parallel.AXIS)
    state = learner.init(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(1), config.ppo_envs * devices)
    carry = parallel.split(jax.jit(learner.reset)(keys, params), devices)
    update = parallel.wrap(learner.chunk, config.backend, devices)

    def step(state, carry, call):
        keys = parallel.shard_keys(jax.random.fold_in(jax.random.key(2), call), devices)
        state, carry, _ = update(state, carry, keys, params)
        return state, carry, call + 1

    start = (parallel.replicate(state, devices), carry, 0)
    steps = config.ppo_envs * config.rollout_length * devices
    return measure(step, start, steps, config.repeats)


def figures(rows: dict, config: BenchConfig) -> dict[str, records.Figure]:
    """The record's figures from the measured rows."""
    best = max((k for k in rows if k.startswith("env_d1_")), key=lambda k: rows[k]["median"])
    chosen = {"env_steps_per_s": rows[best], "env_ppo_steps_per_s": rows["ppo_d1"]}
    out = {
        name: records.Figure(r["median"], r["low"], r["high"], "env-steps/s", r["repeats"])
        for name, r in chosen.items()
    }
    if 2 in config.devices:
        one, two = rows["ppo_d1"], rows["ppo_d2"]
        out["scaling_2_gpus"] = records.Figure(
            two["median"] / one["median"],
            two["low"] / one["high"],
            two["high"] / one["low"],
            "x",
            two["repeats"],
        )
    return out


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark and print a table."""
    config = cli.parse(BenchConfig, argv)
    with runs.one_line_errors(CheckpointError, ValueError):
        env, params = gymnax.make(
            "OpenScopeWM-v0", checkpoint=config.checkpoint, airport=config.airport
        )
        rows = {}
        config.out.mkdir(parents=True, exist_ok=True)
        for devices in config.devices:
            jobs = {
                f"env_d{devices}_{n}": partial(environment_rate, env, params, n, devices, config)
                for n in config.envs
            }
            jobs[f"ppo_d{devices}"] = partial(ppo_rate, env, params, devices, config)
            for name, job in jobs.items():
                rows[name] = job()
                r = rows[name]
                print(
                    f"{name:18s} {r['median'] / 1e6:8.3f} M env-steps/s "
                    f"({r['low'] / 1e6:.3f}..{r['high'] / 1e6:.3f}), "
                    f"compile and first call {r['compile_and_first_s']:.1f} s",
                    flush=True,
                )
                write_json(config.out / "bench.json", {**runs.provenance(), "rows": rows})
        if config.record:
            records.write(config.record, figures(rows, config))


if __name__ == "__main__":
    main(sys.argv[1:])
