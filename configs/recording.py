"""Recording the real game.

    python -m launch.record --out runs/recordings --episodes 200
    python -m launch.record seed --workers 8             # a plan of PLANS; options come after its name
    python -m launch.record world-model --workers 16

An hour takes about half a minute of a worker and its browser, and 0.3 MB (KABQ) or 0.5 MB (KLAS);
pictures of 512 pixels add half of the time and 55 kB each, of 256 pixels 20 kB. The same command again
goes on where it stopped.

seed: pictures to begin with. 100 hours of KLAS, half random and half expert, with a picture of 512 pixels per
decision: 3.7 GB and 27 minutes of two workers on two CPU cores. --pictures 5 takes five times as many, one a
second.

world-model: data for a model of many airports. 50 hours at each of twelve airports of all four levels, played
well, badly, dangerously, by the shipped controller and not at all, in thin and in thick traffic and in eight
winds besides the airport's own: 0.3 GB. At 20 decisions a second of each worker it takes one worker six hours
and 16 workers 25 minutes; --episodes 240 is 20 hours of each airport with the same mix.

starts: the first five seconds of 30 more hours at each of these airports, so that imagined hours begin in as
many ways as real ones: 46 MB and about 25 minutes of one worker.

shipped-model: what the shipped world model learned from, 18 hours at KABQ and 18 at KLAS: 15 minutes of two
workers on two cores. The shipped one saw an earlier expert play them.
"""

import dataclasses
from pathlib import Path

from configs.server import ServerConfig
from configs.values import at_least, not_empty, require, within


@dataclasses.dataclass(frozen=True)
class Wind:
    """Surface wind."""

    from_deg: int  # in steps of 10
    speed_kt: int

    def __post_init__(self):
        if not 10 <= self.from_deg <= 360 or self.from_deg % 10:
            raise ValueError(f"from_deg is {self.from_deg}, must be 10 to 360 in steps of 10")
        within(self, 0, 25, "speed_kt")


@dataclasses.dataclass(frozen=True)
class RecordingConfig(ServerConfig):
    """Play episodes of the real game with a mix of policies and store them.

    Episode i has seed first_seed + i // airports. Airports, policies, traffic rates and winds take turns
    over the episodes, so that every part of a recording has a similar mix.
    """

    out: Path = Path("runs/recordings")
    episodes: int = 40
    """Over all airports."""
    first_seed: int = 0
    """Training seeds are below 500000; 500000-599999 select, 600000-699999 test."""
    airports: tuple[str, ...] = ("kabq", "klas")
    policies: tuple[str, ...] = ("random", "perturbed", "expert", "noop")
    """noop, random, expert, perturbed (the expert, wrong in one of ten decisions), dangerous (the expert,
    overruled to bring aircraft together and to let approaches fail), shipped, or a policy folder.
    perturbed:0.4 is wrong in four of ten, dangerous:0.5 overruled on half of the occasions, random:0.9 idle
    in nine of ten."""
    traffic: tuple[float, ...] = (1.0,)
    """Factors on the airport's own rates, in steps of 0.5 as the game has them. An episode with more than
    128 aircraft ends there."""
    winds: tuple[Wind | None, ...] = (None,)
    """None is the airport's own."""
    minutes: float = 60.0
    """Length of an episode (game time)."""
    slots: int = 32
    """Aircraft a policy sees; 48 for the largest airports."""
    picture_px: int | None = None
    """Side of the recorded pictures; none if left out."""
    pictures: int = 1
    """In each decision of 5 s, at the ends of equal parts: 5 is one a second. 1, 2, 5 or 10."""
    every: int = 1
    """The policy acts, and a picture is taken, in one of so many decisions, the second: 3 is once in 15 s,
    and the data blocks of all these pictures show altitude and speed. Nobody acts in between."""
    palette: bool = True
    """Pictures of the recorder's 256 colours; --no-palette keeps all, at three times the size."""
    workers: int = 1
    """Processes, each with a browser and a directory of its own; one per core is best."""
    pages: int = 1
    """Per worker, played at the same time; they share its browser, which saves memory."""
    share: tuple[int, int] | None = None
    """Record only every n-th episode from the i-th on, `i n`: one task's share of an array of n."""

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 1, "episodes", "workers", "pages", "slots", "every")
        not_empty(self, "airports", "policies", "traffic", "winds")
        for rate in self.traffic:
            if not 0 <= rate <= 10 or rate % 0.5:
                raise ValueError(f"traffic holds {rate}, must be 0 to 10 in steps of 0.5")
        require(self.pictures in (1, 2, 5, 10), "pictures", self.pictures, "1, 2, 5 or 10 a decision")
        one = self.pictures == 1 or self.every == 1
        require(one, "pictures", self.pictures, f"1 where every is {self.every}")
        within(self, 64, 4096, "picture_px")
        if self.share and not 0 <= self.share[0] < self.share[1]:
            raise ValueError(f"share is {self.share}, must be a number and how many there are, such as 0 4")
        if self.minutes <= 0 or self.minutes * 12 % 1:
            raise ValueError(f"minutes is {self.minutes}, must be a positive multiple of 5 seconds")
        last = self.first_seed + (self.episodes - 1) // len(self.airports)
        if not 0 <= self.first_seed <= last < 700_000:
            raise ValueError(f"first_seed is {self.first_seed}, must leave all seeds within 0 to 699999")
        if self.first_seed < 500_000 <= last or self.first_seed < 600_000 <= last:
            raise ValueError(
                f"seeds {self.first_seed} to {last} cross the border of train, select or test seeds"
            )


AIRPORTS = (
    *("kabq", "klas", "ksea", "kpdx", "kmia", "kbna"),
    *("kaus", "eddh", "kpit", "ksat", "kslc", "eddl"),
)
"""For a model of many airports."""

TRAFFIC = (1.0, 1.5, 1.0, 0.5, 1.0)

PLANS = {
    "seed": RecordingConfig(
        out=Path("runs/recordings/seed"),
        episodes=100,
        airports=("klas",),
        policies=("random", "expert"),
        picture_px=512,
    ),
    "world-model": RecordingConfig(
        out=Path("runs/recordings/world-model"),
        episodes=600,
        first_seed=10_000,
        airports=AIRPORTS,
        policies=(
            *("expert", "noop", "perturbed", "dangerous", "expert"),
            *("random", "perturbed:0.4", "shipped", "expert", "dangerous:0.5"),
        ),
        traffic=TRAFFIC,
        winds=(
            *(None, Wind(360, 25), Wind(90, 12), Wind(180, 25), None, Wind(270, 18)),
            *(Wind(50, 25), None, Wind(230, 25), Wind(140, 20), Wind(320, 25)),
        ),
        slots=48,
    ),
    "shipped-model": RecordingConfig(
        out=Path("runs/recordings/shipped-model"),
        episodes=36,
        first_seed=1000,
        policies=(
            *("expert", "perturbed", "random", "expert", "perturbed"),
            *("expert", "perturbed", "random", "expert", "noop"),
        ),
        workers=2,
    ),
    "starts": RecordingConfig(
        out=Path("runs/recordings/starts"),
        episodes=360,
        first_seed=20_000,
        airports=AIRPORTS,
        policies=("noop",),
        traffic=TRAFFIC,
        minutes=1 / 12,
        slots=48,
    ),
}
