"""Training the state world model on recordings.

    python -m launch.train_wm --data runs/recordings/train --test runs/recordings/test --out runs/wm
    python -m launch.train_wm shipped --out runs/wm-shipped      # one of PRESETS; options come after it

The defaults train four members of 0.1 M parameters; the demonstration's shorter run is in configs/demo.py.
The same command goes on where it stopped, on however many devices there are then.

shipped: what wm/data/default was made with, from what `python -m launch.record world-model` and `... starts`
record. It takes three minutes of one H200, of which the optimiser runs for half a minute.
launch/records/fidelity.json has its errors on unseen hours.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recording import AIRPORTS
from configs.values import above, at_least, not_empty, require


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """Train the state world model. The same command goes on where it stopped."""

    data: tuple[Path, ...] = ()  # recording directories; none: the shipped recording
    test: tuple[Path, ...] = ()  # directories of test-seed recordings; none: the shipped ones
    out: Path = Path("runs/wm")
    airports: tuple[str, ...] = ("kabq", "klas")
    members: int = 4
    width: int = 128
    blocks: int = 2
    steps: int = 20_000  # optimiser steps
    batch: int = 2048  # rows per member, step and device
    inner: int = 100  # optimiser steps per call of the compiled update
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    slots: int = 32  # aircraft of the environment
    rows: int = 2048  # recorded states to reset to
    backend: Literal["pmap", "shard_map"] = "pmap"
    devices: int | None = None  # how many of this machine's; all if left out
    save_every: int = 20
    """Calls of the update between checkpoints: what a kill costs at most. The last is always saved; SIGTERM
    saves at the end of the running one."""
    wandb: str | None = None
    """Project of Weights & Biases that shows the run as well; needs pip install wandb."""
    seed: int = 0

    def __post_init__(self):
        at_least(self, 1, "members", "width", "blocks", "steps", "batch", "inner", "slots", "rows")
        at_least(self, 1, "save_every", "devices")
        above(self, 0, "learning_rate")
        not_empty(self, "airports")
        whole = self.steps % self.inner == 0
        require(whole, "steps", self.steps, f"a multiple of inner, {self.inner}")


SHIPPED = WorldModelConfig(
    data=(Path("runs/recordings/world-model"), Path("runs/recordings/starts")),
    out=Path("runs/wm-shipped"),
    airports=AIRPORTS,
    devices=1,
    steps=12_000,
    batch=4096,
    rows=1800,
)

PRESETS = {"shipped": SHIPPED}
