"""What goes wrong around a run, done on purpose: inputs that do not belong, and interruptions.

    python -m launch.check_faults fuzz --inputs 1200 --record people   # 6,000 inputs
    python -m launch.check_faults drill --no-slow --no-game --record people  # 36 faults
    python -m launch.check_faults drill                  # all faults; an hour and more

Two CPU cores. `drill` also breaks evaluations in the real game where OPENSCOPE_URL or --url is a game of your
own, by http. Recordings are broken by `launch.check_game faults`, training by `launch.check_training`.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.server import ServerConfig
from configs.values import at_least, not_empty

Input = Literal["recordings", "weights", "checkpoints", "configurations", "answers"]


@dataclasses.dataclass(frozen=True)
class Fuzz:
    """Spoil inputs of every reader: each must give equal data or one line of error."""

    readers: tuple[Input, ...] = ("recordings", "weights", "checkpoints", "configurations", "answers")
    inputs: int = 1000
    """Of each reader."""
    draw: int = 0
    """Seed; the same one makes the same inputs."""
    out: Path | None = None
    """Folder for results.json and inputs that were not refused as they should; a new one below runs/."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json; all readers and 1,000 inputs or more only."""

    def __post_init__(self):
        at_least(self, 1, "inputs")
        not_empty(self, "readers")
        if self.record and (self.inputs < Fuzz.inputs or set(self.readers) < set(Fuzz.readers)):
            raise ValueError("record takes 1,000 inputs of every reader: leave out --inputs and --readers")


@dataclasses.dataclass(frozen=True)
class Drill(ServerConfig):
    """Interrupt small runs of the commands, and give them damaged inputs; then let them finish."""

    commands: tuple[str, ...] = ()
    """Only faults of these commands, such as pack or train_wm; all if left out."""
    game: bool = True
    """Also evaluate in the real game, where its address is given."""
    slow: bool = True
    """Also break training and evaluations in the model, which compile for minutes."""
    draw: int = 0
    """Seed of the moments."""
    out: Path | None = None
    """Folder for the runs and results.json; a new one below runs/ if left out."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json; 30 faults or more only."""
