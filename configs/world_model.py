"""Training the state world model on recordings.

    python -m launch.train_wm --data runs/recordings --out runs/wm

The defaults train four members of 0.1 M parameters; the demonstration's shorter run is in
configs/demo.py. Every size is per ensemble member.
"""

import dataclasses
from pathlib import Path


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
    backend: str = "pmap"  # or shard_map
    save_every: int = 20  # calls of the update between checkpoints
    seed: int = 0

    def __post_init__(self):
        for name in ("members", "width", "blocks", "steps", "batch", "inner", "slots", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, it is {getattr(self, name)}")
        if self.steps % self.inner:
            raise ValueError(f"steps ({self.steps}) must be a multiple of inner ({self.inner})")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, it is {self.learning_rate}")
        if self.backend not in ("pmap", "shard_map"):
            raise ValueError(f"backend must be pmap or shard_map, it is {self.backend!r}")
