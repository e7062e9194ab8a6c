"""Whether training that is killed loses anything.

    python -m launch.check_training --record recorder

Starts train_wm, train_ppo and launch.cosmos finetune, small, on the CPU; kills each ten times, half of them
with SIGTERM and half with SIGKILL; gives the same command every time; and compares what comes out with a run
that nobody disturbed, to the bit. Expected: `training_kills_lost` 0 of 30.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.values import at_least, not_empty

Command = Literal["train_ppo", "finetune", "train_wm"]


@dataclasses.dataclass(frozen=True)
class TrainingCheck:
    """Kill training commands at random moments, and compare their end with that of an undisturbed run."""

    commands: tuple[Command, ...] = ("train_ppo", "finetune", "train_wm")
    kills: int = 10
    """Of each command; every second one is a SIGTERM, the others are SIGKILL."""
    draw: int = 0
    """Seed of the moments."""
    out: Path | None = None
    """Folder for the runs and results.json; a new one below runs/ if left out."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json; all commands and ten kills or more only."""

    def __post_init__(self):
        at_least(self, 1, "kills")
        not_empty(self, "commands")
        whole = TrainingCheck.kills <= self.kills and set(self.commands) >= set(TrainingCheck.commands)
        if self.record and not whole:
            raise ValueError("record takes ten kills of every command: leave out --commands and --kills")
