"""Tuning the expert's prices to an airport, in the world model.

    python -m launch.tune_expert --airport ksea --out runs/tuned-ksea
    python -m launch.eval_policy --policies noop expert runs/tuned-ksea --airport ksea --slots 64

    python -m launch.tune_expert --airport klas --tries again=1 again=1,low_share=0.1 --out runs/tried

A generation of the default size plays 4,096 hours, 2.9 million decisions: about a minute and a half of an
H200 at 64 slots, half a minute at 32 with --sectors 4096. It stops and goes on between generations.
"""

from dataclasses import dataclass
from pathlib import Path

from configs.evaluation import Dynamics
from configs.values import above, at_least


@dataclass(frozen=True)
class ExpertTuning:
    """Search the expert's prices by evolution strategies. The same command goes on where it stopped."""

    out: Path
    """Run folder; a policy that launch.eval_policy plays."""
    airport: str = "klas"
    checkpoint: Path | None = None
    """World model; the packaged one if left out."""
    dynamics: Dynamics = "learned"
    """What moves aircraft: the world model's network, or the hand-written rules beside it."""
    tries: tuple[str, ...] = ()
    """Prices to compare in place of a search: NAME=VALUE, and NAME=VALUE,NAME=VALUE for several at once."""
    start: str = ""
    """Prices to begin from, written as one of tries; the expert's own if left out."""
    minutes: int = 60
    """Length of an imagined hour."""
    generations: int = 8
    pairs: int = 32
    """Candidates on opposite sides of the centre; at least as many as there are prices."""
    hours: int = 64
    """Imagined hours that every candidate of a generation plays, the same for all."""
    judged_hours: int = 256
    """Imagined hours, other ones, in which the centres of all generations play for the choice among them."""
    spread: float = 0.25
    """Standard deviation of the candidates' prices about the centre, of the natural logarithm."""
    step: float = 0.3
    """How far the centre moves in a generation, likewise, all prices together."""
    seed: int = 0
    sectors: int = 768
    """Of a device at once; the rest is played after them. With 64 slots, programs of 1,408 and of 1,536 ended
    in an illegal memory access on an H200; with 32, 4,608 ran."""
    devices: int | None = None
    """How many of this machine's devices; all if left out."""

    def __post_init__(self):
        at_least(self, 1, "minutes", "generations", "pairs", "hours", "judged_hours", "sectors", "devices")
        above(self, 0, "spread", "step")
