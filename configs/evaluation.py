"""Playing controllers for a verdict: in the real game, in the model, or both.

    python -m launch.eval_policy --policies noop expert runs/ppo --where both --checkpoint runs/wm/model

Every finished episode is kept in --cache, so the same command again goes on where it stopped.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.recording import Wind
from configs.server import ServerConfig
from configs.values import at_least, not_empty


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(ServerConfig):
    """Options of launch.eval_policy; all policies play the same seeds."""

    policies: tuple[str, ...] = ("noop", "expert")
    """noop, random, expert, perturbed, shipped (the project's controller), or the folder of a training run or
    of its policy."""
    where: Literal["real", "model", "both"] = "real"
    airport: str = "kabq"
    episodes: int = 20
    split: Literal["test", "select", "train"] = "test"
    """Seeds: test from 600000 (reported figures), select from 500000, train from 0."""
    traffic: float = 1.0
    """Factor on the airport's own rates; the real game has steps of 0.5."""
    wind: Wind | None = None
    """None is the airport's own."""
    minutes: int = 60
    """Length of an episode (game time)."""
    slots: int = 32
    """Aircraft a policy sees in the real game; 48 for the largest airports."""
    pages: int = 2
    """Episodes of the real game at once, each in a browser of its own."""
    checkpoint: Path | None = None
    """World model for --where model; the packaged one if left out."""
    cache: Path = Path("runs/evaluations")
    """Finished episodes, by policy, conditions and seed."""
    out: Path | None = None
    """Folder for results.json, table.md and radar.png; a new one below runs/ if left out."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json; full hours on test seeds only."""

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 1, "episodes", "minutes", "slots", "pages")
        not_empty(self, "policies")
        if self.episodes > 100_000:
            raise ValueError(f"episodes is {self.episodes}, must be at most 100000, the test seeds there are")
        if not 0 <= self.traffic <= 10 or (self.where != "model" and self.traffic % 0.5):
            raise ValueError(f"traffic is {self.traffic}, must be 0 to 10 in steps of 0.5")
        if self.record and (self.split != "test" or self.minutes != 60):
            raise ValueError("record takes only full hours of test seeds: leave out --split and --minutes")
