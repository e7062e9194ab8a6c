"""Training the state world model on recordings.

    python -m launch.train_wm --data runs/recordings --out runs/wm

The defaults train four members of 0.1 M parameters; the demonstration's shorter run is in
configs/demo.py. Every size is per ensemble member.
"""

import dataclasses
from pathlib import Path
from typing import Literal


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
        for name in ("members", "width", "blocks", "steps", "batch", "inner", "slots", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("data", "test"):
            if missing := [path for path in getattr(self, name) if not path.exists()]:
                raise ValueError(f"{name} names {missing[0]}, which isn't there")
        if not self.airports:
            raise ValueError("airports is empty, must name at least one")
        if self.steps % self.inner:
            raise ValueError(f"steps is {self.steps}, must be a multiple of inner, {self.inner}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be positive")
