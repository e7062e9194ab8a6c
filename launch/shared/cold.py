"""How long programs take from their start: to a first step, and to ten million decisions of PPO.

Each is timed in a process of its own, once with an empty store of compiled programs and then with what the
first run left there.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from configs.bench import BenchConfig
from launch.shared import speed

CACHE = "JAX_COMPILATION_CACHE_DIR"
DECISIONS = 10_000_000
FIRST_STEP = """
import sys, jax, gymnax, launch, wm
env, params = gymnax.make("OpenScopeWM-v0", checkpoint=sys.argv[1] or None, airport=sys.argv[2])
keys = jax.random.split(jax.random.key(0), (3, int(sys.argv[3])))
state = jax.jit(jax.vmap(env.reset, (0, None)))(keys[0], params)[1]
actions = jax.vmap(env.action_space(params).sample)(keys[1])
step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
jax.block_until_ready(step(keys[2], state, actions, params))
"""


def jobs(config: BenchConfig) -> Iterator[tuple[str, Callable[[], speed.Row]]]:
    """The rows by name, in seconds."""
    checkpoint = "" if config.checkpoint is None else str(config.checkpoint)
    first = [sys.executable, "-c", FIRST_STEP, checkpoint, config.airport, str(config.at)]
    with tempfile.TemporaryDirectory() as folder:
        yield "first_step_cold", lambda: _seconds(first, Path(folder) / "cache", 1)
        yield "first_step_cached", lambda: _seconds(first, Path(folder) / "cache", 3)
        updates = -(-DECISIONS // (config.at * config.rollout_length))
        train = [
            *(sys.executable, "-m", "launch.train_ppo", "--airport", config.airport, "--devices", "1"),
            *("--ppo.num-envs", str(config.at), "--ppo.rollout-length", str(config.rollout_length)),
            *("--ppo.total-steps", str(DECISIONS), "--ppo.chunk", str(min(updates, 10))),
            *(() if config.checkpoint is None else ("--checkpoint", checkpoint)),
        ]
        yield "ppo_10m_cold", lambda: _seconds([*train, "--out", f"{folder}/a"], Path(folder) / "cache", 1)
        yield "ppo_10m", lambda: _seconds([*train, "--out", f"{folder}/b"], Path(folder) / "cache", 1)


def _seconds(command: list[str], cache: Path, repeats: int) -> speed.Row:
    samples = []
    for _ in range(repeats):
        begin = time.perf_counter()
        done = subprocess.run(command, env=os.environ | {CACHE: str(cache)}, capture_output=True, text=True)
        samples.append(time.perf_counter() - begin)
        if done.returncode:
            raise ValueError(f"a program that is timed ended with {done.returncode}: {done.stderr[-500:]}")
    return speed.summary(samples, "s")
