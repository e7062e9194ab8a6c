"""What a single other command would bring in the world model, before anything is trained there.

    python -m launch.rollouts --airport ksea --out runs/rollouts-ksea

The default plays 240 states of imagined hours, six commands each, 16 rollouts of ten minutes a command: 2.8
million decisions, about four minutes of an H200 at 64 slots, a quarter of it compiling. With 32 slots and
--sectors 3072, --states 96 takes as long. It stops and goes on between the minutes of the hour.
"""

from dataclasses import dataclass
from pathlib import Path

from configs.evaluation import Dynamics
from configs.values import at_least, require, within


@dataclass(frozen=True)
class Rollouts:
    """Compare the expert's command with others by rollouts. The same command goes on where it stopped."""

    out: Path
    """Run folder."""
    airport: str = "klas"
    checkpoint: Path | None = None
    """World model; the packaged one if left out. Its last member judges, the others choose."""
    dynamics: Dynamics = "learned"
    """What moves aircraft: the world model's network, or the hand-written rules beside it."""
    traffic: float = 1.0
    """Factor on the airport's own rates."""
    at_minutes: tuple[int, ...] = (5, 15, 25, 35, 45)
    """When the states are taken from hours that the expert plays."""
    states: int = 48
    """At each of these minutes, of as many hours; rounded up to whole groups of those played at once."""
    commands: int = 6
    """Compared in every state: none, and those that save most by the expert's prices."""
    keys: int = 8
    """Rollouts of a command in the members that choose, and again in the one that judges."""
    minutes: int = 10
    """Length of a rollout."""
    seed: int = 0
    sectors: int = 768
    """Played at once; see launch.tune_expert's."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        at_least(self, 1, "states", "keys", "minutes", "sectors")
        at_least(self, 2, "commands")
        at_least(self, 0, "traffic")
        latest = 60 - self.minutes
        require(bool(self.at_minutes), "at_minutes", self.at_minutes, "at least one")
        for minute in self.at_minutes:
            require(0 < minute <= latest, "at_minutes", minute, f"1 to {latest}: a rollout ends in its hour")
        within(self, 0, 2**31 - 1, "seed")
