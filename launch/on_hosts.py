"""Runs a command in one process of several, one per host, that share their devices.

    srun python -m launch.on_hosts launch.train_ppo --out runs/ppo

SLURM (or whatever else jax finds its processes by) has to start it once on every host; see
launch/slurm/train_ppo.sbatch. Hosts have to meet before anything uses a device, and importing gymnax already
does, so the command can't see to it itself.
"""

import runpy
import sys

import jax

from launch.shared.runs import fail


def main() -> None:
    """Meet the other hosts, then be the command."""
    if len(sys.argv) < 2:
        fail("name a module and its arguments: python -m launch.on_hosts launch.train_ppo ...", 2)
    try:
        # Told nothing, jax takes SLURM for a starter of one process per GPU, and sees one of them.
        jax.distributed.initialize(local_device_ids=())
    except (ValueError, RuntimeError) as error:
        fail(f"the hosts can't meet ({error}): start this with srun, as launch/slurm/train_ppo.sbatch does")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
