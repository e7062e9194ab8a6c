"""One of two processes for `test_parallel.py`: port, back-end, process number, directory for a checkpoint."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import jax
import jax.numpy as jnp
import numpy as np

from launch.shared import parallel
from wm.store import checkpoints


def update(train_state, carry, key, params):
    gradient = jax.lax.pmean(jax.grad(lambda w: w * carry * params)(train_state), parallel.AXIS)
    return train_state - gradient, carry + 1, {"gradient": gradient, "noise": jax.random.normal(key)}


def main(port: str, backend: str, process: int, directory: str) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
    carry = parallel.split(2.0 * process + jnp.arange(2.0))[:, 0]
    keys = parallel.shard_keys(jax.random.key(0))
    train_state, params = parallel.replicate((jnp.float32(1.0), jnp.float32(1.0)))
    wrapped = parallel.wrap(update, backend)
    train_state, carry, metrics = wrapped(train_state, carry, keys, params)
    rows = [float(shard.data[0]) for shard in carry.addressable_shards]
    checkpoints.save(directory, 1, {"w": parallel.unreplicate(train_state)}, {})
    restored = checkpoints.restore(directory, {"w": np.float32(0)})
    print(float(metrics["gradient"]), float(restored["w"]), rows, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
