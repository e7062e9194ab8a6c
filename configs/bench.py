"""How fast the simulator is.

    python -m launch.bench --devices 1 2
    python -m launch.bench --parts peers start      # goes on in the same --out

The figures of one H200 are in launch/records/README.md. A CPU wants fewer sectors:
`--envs 64 --at 64 --steps 2 --rollout-length 4`.
"""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from configs import values

Part = Literal[
    "roofline", "environment", "slots", "airports", "ppo", "recipes", "step", "scaling", "peers", "start"
]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """Options of launch.bench."""

    checkpoint: Path | None = None
    """World model; the packaged one if left out."""
    airport: str = "kabq"
    out: Path = Path("runs/bench")
    """Folder of results.json. Rows that it holds already stay, so that parts may be measured in turn."""
    parts: tuple[Part, ...] = PARTS
    envs: tuple[int, ...] = (1024, 4096, 8192, 16384, 65536, 131072)
    """Sectors per device of the environment alone."""
    at: int = 16384
    """Sectors per device of everything else."""
    slots: tuple[int, ...] = (20, 32, 64)
    rollout_length: int = 32
    steps: int = 100
    """Environment steps per timed run."""
    repeats: int = 10
    devices: tuple[int, ...] = (1,)
    """Device counts of the part "scaling"; all else is measured on one."""
    backends: tuple[Literal["single", "pmap", "shard_map"], ...] = ("single", "pmap", "shard_map")
    """How the environment at --at is run on one device; PPO and scaling take the first of the last two."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        values.not_empty(self, "envs", "devices", "parts", "slots", "backends")
        values.at_least(self, 1, "at", "rollout_length", "steps")
        values.at_least(self, 3, "repeats")
        for name in ("envs", "devices", "slots"):
            least = min(getattr(self, name))
            values.require(least >= 1, name, least, "at least 1")
