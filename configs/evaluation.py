"""Judging controllers and world models.

    python -m launch.eval_policy --policies noop expert runs/ppo --where both --checkpoint runs/wm/model
    python -m launch.eval_wm --checkpoint runs/wm/model --test runs/recordings/test

Policies play the real game, the model, or both. An hour of the real game at KABQ takes about half a minute
of a page and its browser. Every finished episode is kept in --cache, so the same command again goes on where
it stopped. The shipped controller scores 0.97 between no commands (0) and the expert (1).

A world model replays recorded hours under the recorded commands. The packaged one's error after a minute is
0.0001 nm in the median and 0.03 nm in the worst twentieth, of aircraft under commands at KABQ and KLAS.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs import values
from configs.recording import Wind
from configs.server import ServerConfig

SLOTS = {"ksea": 64, "katl": 64, "klax": 64, "kord": 64}
"""Aircraft a policy sees at the airports where 32 are too few."""
Dynamics = Literal["learned", "rules"]
"""What moves the model's aircraft, as wm.state.env names it."""


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(ServerConfig):
    """Options of launch.eval_policy; all policies play the same seeds."""

    policies: tuple[str, ...] = ("noop", "expert")
    """noop, random, expert, perturbed, shipped (the project's controller), or the folder of a training run or
    of its policy; perturbed:0.4 and its like as in launch.record."""
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
    every: int = 1
    """Policies act in one of so many decisions of the real game, as in launch.record: 3 is once in 15 s."""
    eyes: Path | None = None
    """Run folder of `launch.cosmos scope_train`: policies see the traffic in view of the real game as its
    reader reads it off pictures alone; with --every 3."""
    checkpoint: Path | None = None
    """World model for --where model; the packaged one if left out."""
    dynamics: Dynamics = "learned"
    """What moves aircraft there: the world model's network, or the hand-written rules beside it."""
    cache: Path = Path("runs/evaluations")
    """Finished episodes, by policy, conditions and seed."""
    out: Path | None = None
    """Folder for results.json, table.md, radar.png and view.html; a new one below runs/ if left out."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json; full hours on test seeds only."""

    def __post_init__(self):
        values.not_empty(self, "policies")
        values.at_least(self, 1, "minutes", "slots", "pages", "every")
        if self.eyes is not None:
            values.require(self.every == 3, "every", self.every, "3 with --eyes: its pictures show altitudes")
        real = self.where == "real" or self.every == 1
        values.require(real, "where", self.where, "real with --every or --eyes")
        values.within(self, 1, 100_000, "episodes")  # the test seeds there are
        fits = 0 <= self.traffic <= 10 and (self.where == "model" or not self.traffic % 0.5)
        values.require(fits, "traffic", self.traffic, "0 to 10 in steps of 0.5")
        if self.record and (self.split != "test" or self.minutes != 60):
            raise ValueError("record takes only full hours of test seeds: leave out --split and --minutes")


@dataclasses.dataclass(frozen=True)
class WorldModelEvaluation(ServerConfig):
    """Options of launch.eval_wm."""

    checkpoint: Path | None = None
    """World model; the packaged one if left out."""
    dynamics: Dynamics = "learned"
    """What moves aircraft in its hours: its network, or the hand-written rules beside it."""
    test: tuple[Path, ...] = ()
    """Directories of test-seed recordings; the shipped ones if left out."""
    airports: tuple[str, ...] = ("kabq", "klas")
    hours: int = 0
    """Whole hours that each policy plays in the real game, from the first test seed on; 0: none."""
    imagined: int = 64
    """Whole hours that each policy plays in the model."""
    policies: tuple[str, ...] = (
        "noop", "expert", "random", "perturbed", "shipped", "perturbed:0.5", "dangerous:0.5",
    )  # fmt: skip
    """Who plays the hours, as in launch.eval_policy; noop and expert must be among them."""
    where: Literal["real", "model", "both", "neither"] = "both"
    """Play what is missing of the hours only there. Only "both" and "neither", which compares what there is,
    report the hours."""
    traffic: float = 1.0
    wind: Wind | None = None
    pages: int = 2
    cache: Path = Path("runs/evaluations")
    out: Path = Path("runs/eval_wm")
    """Folder for results.json, errors.png, overlay.png; of hours hours.md, hours.png, view-AIRPORT.html."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        super().__post_init__()
        values.not_empty(self, "airports", "policies")
        values.at_least(self, 0, "hours")
        values.at_least(self, 1, "imagined", "pages")
        missing = {"noop", "expert"} - set(self.policies)
        if self.hours and missing:
            names = ", ".join(sorted(missing))
            raise ValueError(f"policies lack {names}: differences are measured in their units")

    def of_airport(self, icao: str, world: str) -> EvaluationConfig:
        """The hours of one airport in one world, as launch.eval_policy plays them."""
        return EvaluationConfig(
            url=self.url, insecure=self.insecure, wait_s=self.wait_s, policies=self.policies, where=world,
            airport=icao, episodes=self.hours if world == "real" else self.imagined, traffic=self.traffic,
            wind=self.wind, slots=SLOTS.get(icao, 32), pages=self.pages, checkpoint=self.checkpoint,
            dynamics=self.dynamics, cache=self.cache,
        )  # fmt: skip
