"""Checks of the real game and its recorder: the game repeats, it is fast, and no recorded episode is lost.

    python -m launch.check_game replay --record spine    # 5 minutes; 4 of 4 hours repeat to the bit
    python -m launch.check_game speed --record recorder  # 6 minutes; KLAS: 161 decisions/s of a core, 79 with
                                                         # pictures; nothing else may run on the machine
    python -m launch.check_game kill --record spine      # 10 minutes; 0 episodes lost in 20 kills
    python -m launch.check_game timing --record spine    # 15 minutes; no difference in points on 5 seeds;
                                                         # goes on where it stopped
    python -m launch.check_game faults --record recorder # 10 minutes; 0 episodes lost by 8 faults
    python -m launch.check_game soak --record recorder   # 2 hours; 10 MB (-12 to 32) more at the end
    python -m launch.check_game plan --record recorder   # the seed's 100 hours: 27 minutes, 3.7 GB, 0 faults
    python -m launch.check_game plan --minutes 3         # the same in short

The times and figures are of two CPU cores that also serve the game (launch/records/recorder.json and
spine.json). Each check writes results.json into a run folder.
"""

import dataclasses
from pathlib import Path

from configs.server import ServerConfig
from configs.values import above, not_empty, require


@dataclasses.dataclass(frozen=True)
class Check(ServerConfig):
    """What all checks share."""

    out: Path | None = None
    """Folder for results.json; a new one below runs/ if left out."""
    record: str | None = None
    """Merge the figures into launch/records/<record>.json."""
    minutes: int = 60
    """Length of an episode (game time); records take full hours only."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "minutes")
        if self.record and self.minutes != Check.minutes and not isinstance(self, Kill | Faults):
            raise ValueError("record takes only full hours: leave out --minutes")


@dataclasses.dataclass(frozen=True)
class Replay(Check):
    """Play hours, and play each again from its seed and commands in a fresh browser, beside another page.

    Compares a hash of every field, event and log line of every decision. An hour in which one
    command was changed must hash to something else.
    """

    airports: tuple[str, ...] = ("klas", "kabq")
    hours: int = 2
    """Per airport, on neighbouring seeds."""
    first_seed: int = 300_000
    policy: str = "perturbed"
    """Who gives the commands: noop, random, expert, perturbed, or a policy folder."""
    beside: str = "kjfk"
    """Airport of the page that keeps the second browser busy meanwhile."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "hours")
        not_empty(self, "airports")


@dataclasses.dataclass(frozen=True)
class Speed(Check):
    """Decisions per second of one page, its browser and the Python driver on one core together.

    The commands are those of hours that `policy` has played before, so that the sky is as full as
    under control and the policy's own time is left out. Nothing of the game's drawing is left out.
    """

    airport: str = "klas"
    hours: int = 3
    first_seed: int = 310_000
    policy: str = "expert"
    window: int = 120
    """Decisions timed together; an hour has 720."""
    picture_px: int = 512
    core: int = 0

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "hours", "window", "picture_px")
        fits = self.window <= 12 * self.minutes
        require(fits, "window", self.window, f"at most {12 * self.minutes}, an episode")


@dataclasses.dataclass(frozen=True)
class Kill(Check):
    """Kill a recording (SIGKILL to its whole process group) at random moments, then let it finish.

    After every kill each episode that the recording's index ever named must be there unchanged.
    """

    minutes: int = 2
    kills: int = 20
    episodes: int = 150
    """Of the recording; enough that it isn't finished before the last kill."""
    workers: int = 1
    airport: str = "kabq"
    policy: str = "random"
    window_s: float = 8.0
    """A kill comes at a random moment within this time after a start has stored its first episode.

    Every second one then waits until an episode is being stored.
    """
    draw: int = 0
    """Seed of those moments."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "kills", "episodes", "workers", "window_s")


@dataclasses.dataclass(frozen=True)
class Timing(Check):
    """Play test hours in frames as short as a browser's beside the same seeds in lock-step."""

    airport: str = "kabq"
    episodes: int = 5
    policies: tuple[str, ...] = ("noop", "expert")
    frames_per_s: int = 60
    pages: int = 1
    cache: Path = Path("runs/evaluations")
    """Finished episodes; lock-step ones are shared with launch.eval_policy."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "episodes", "pages")
        not_empty(self, "policies")
        even = self.frames_per_s % 2 == 0 and self.frames_per_s >= 4
        require(even, "frames_per_s", self.frames_per_s, "an even number of 4 or more")


@dataclasses.dataclass(frozen=True)
class Faults(Check):
    """Break recordings in every way that `faults` names, and let them finish.

    The recordings reach the game through a relay that is cut, so its server must be your own and speak http.
    """

    minutes: int = 2
    episodes: int = 6
    workers: int = 1
    airport: str = "kabq"
    policy: str = "random"
    faults: tuple[str, ...] = (
        *("browser_killed", "page_crashed", "page_hung", "clock_jumps"),
        *("server_gone", "disk_full", "sigterm", "recorder_killed"),
    )
    times: int = 1
    """Each fault hits so many recordings."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "episodes", "workers", "times")
        not_empty(self, "faults")


@dataclasses.dataclass(frozen=True)
class Soak(Check):
    """Record for hours on end and see whether memory grows."""

    hours: float = 2.0
    """Wall time."""
    airport: str = "klas"
    policies: tuple[str, ...] = ("expert", "random")
    picture_px: int = 256
    pages: int = 1

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "hours", "picture_px", "pages")
        if self.record and self.hours < Soak.hours:
            raise ValueError("record takes two hours or more: leave out --hours")


@dataclasses.dataclass(frozen=True)
class Plan(Check):
    """Carry out a plan of configs/recording.py and say how long it took and how large it is.

    With the same --out it goes on where it stopped; the wall time is then of the last part alone.
    """

    plan: str = "seed"
    workers: int = 2
    pages: int = 1

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "workers", "pages")
