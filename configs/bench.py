"""How fast the simulator is.

    python -m launch.bench --checkpoint runs/wm/model --devices 1 2

On one H200 the environment alone makes 3.3 M decisions a second with 65536 sectors, and PPO 0.9 M
(launch/records/README.md). A CPU wants fewer of them: `--envs 64 --ppo-envs 64`.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs import values


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """Options of launch.bench."""

    checkpoint: Path | None = None
    """World model; the packaged one if left out."""
    airport: str = "kabq"
    out: Path = Path("runs/bench")
    envs: tuple[int, ...] = (4096, 16384, 65536)
    """Environments per device, environment alone."""
    ppo_envs: int = 16384
    """Environments per device, PPO."""
    rollout_length: int = 32
    steps: int = 100
    """Environment steps per timed run."""
    repeats: int = 10
    devices: tuple[int, ...] = (1,)
    record: str | None = None
    """Merge the figures into launch/records/<record>.json."""
    backend: Literal["pmap", "shard_map"] = "pmap"

    def __post_init__(self):
        values.not_empty(self, "envs", "devices")
        values.at_least(self, 1, "ppo_envs", "rollout_length", "steps")
        values.at_least(self, 3, "repeats")
        for name in ("envs", "devices"):
            least = min(getattr(self, name))
            values.require(least >= 1, name, least, "at least 1")
