"""Reading recordings: whether they are whole, what they hold, moving and filming them, exporting them.

    python -m launch.validate --data runs/recordings
    python -m launch.coverage --data runs/recordings
    python -m launch.export pack --data runs/recordings/seed --out runs/packed
    python -m launch.export tracks --data runs/recordings --out runs/tracks --imagine expert

Any machine will do: an hour of the game without pictures takes about a second of one core to validate, and
as long to export; an imagined hour takes one or two minutes, most of them to compile the model.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs import values


@dataclasses.dataclass(frozen=True)
class Validation:
    """Check recordings."""

    data: Path = Path("runs/recordings")
    """A directory of recordings, or one above some."""
    use: Literal["train", "select", "test"] | None = None
    """Also check that all seeds are kept for that."""


@dataclasses.dataclass(frozen=True)
class CoverageReport:
    """Report on recordings."""

    data: Path = Path("runs/recordings")
    """A directory of recordings, or one above some."""
    use: Literal["train", "select", "test"] = "train"
    """What the seeds must be kept for."""
    out: Path | None = None
    """Folder for results.json, text and picture; a new one below runs/ if left out."""


@dataclasses.dataclass(frozen=True)
class Pack:
    """Write each recorded episode into a file of its own."""

    data: Path
    """A directory of recordings, or one above some."""
    out: Path


@dataclasses.dataclass(frozen=True)
class Unpack:
    """Make a recording of packed episodes."""

    data: Path
    """A directory of packed episodes."""
    out: Path


@dataclasses.dataclass(frozen=True)
class Video:
    """Write an mp4 of each recorded episode that has pictures."""

    data: Path
    """A directory of recordings, or one above some."""
    out: Path
    frames_per_s: int = 12
    """Of the video; a picture per decision at 12 shows an hour in a minute."""

    def __post_init__(self):
        values.within(self, 1, 120, "frames_per_s")


@dataclasses.dataclass(frozen=True)
class Flown:
    """Which episodes to export, and to where."""

    data: Path
    """A directory of recordings or of packed episodes, or one above some recordings."""
    out: Path
    imagine: str | None = None
    """A policy as in launch.eval_policy. Instead of each episode, the one is exported that it plays in the
    world model at the same airport, with the same seed, length, traffic and wind."""
    checkpoint: Path | None = None
    """World model of --imagine; the packaged one if left out."""

    def __post_init__(self):
        if self.checkpoint is not None and self.imagine is None:
            raise ValueError("checkpoint is used by imagined hours alone: name their policy with --imagine")


@dataclasses.dataclass(frozen=True)
class Tracks(Flown):
    """Write where the aircraft of each episode flew, for the Python library traffic."""

    format: Literal["parquet", "csv"] = "parquet"


@dataclasses.dataclass(frozen=True)
class Scenario(Flown):
    """Write each episode as a scenario of the simulator BlueSky."""


@dataclasses.dataclass(frozen=True)
class Map:
    """Write the map of each recorded airport as GeoJSON, with the routes that its episodes flew."""

    data: Path
    """A directory of recordings or of packed episodes, or one above some recordings."""
    out: Path
