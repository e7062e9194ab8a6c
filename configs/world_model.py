"""Training the state world model on recordings.

    python -m launch.train_wm --data runs/recordings --out runs/wm

The defaults train four members of 0.1 M parameters; the demonstration's shorter run is in
configs/demo.py. Every size is per ensemble member.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.values import above, at_least, not_empty, require


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """Options of launch.train_wm."""

    data: tuple[Path, ...] = ()  # recording directories; none: the shipped recording
    test: tuple[Path, ...] = ()  # directories of test-seed recordings; none: the shipped ones
    out: Path = Path("runs/wm")
    airports: tuple[str, ...] = ("kabq", "klas")
    members: int = 4
    width: int = 128
    blocks: int = 2
    steps: int = 20000  # optimiser steps
    batch: int = 2048  # rows per member, step and device
    inner: int = 100  # optimiser steps per call of the compiled update
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    slots: int = 32  # aircraft of the environment
    rows: int = 2048  # recorded states to reset to
    backend: Literal["pmap", "shard_map"] = "pmap"
    save_every: int = 20  # calls of the update between checkpoints
    seed: int = 0

    def __post_init__(self):
        at_least(self, 1, "members", "width", "blocks", "steps", "batch", "inner", "slots", "rows")
        at_least(self, 1, "save_every")
        above(self, 0, "learning_rate")
        not_empty(self, "airports")
        whole = self.steps % self.inner == 0
        require(whole, "steps", self.steps, f"a multiple of inner, {self.inner}")
