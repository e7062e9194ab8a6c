"""Reading recordings: whether they are whole, what they hold, moving and filming them.

    python -m launch.validate --data runs/recordings
    python -m launch.coverage --data runs/recordings
    python -m launch.export pack --data runs/recordings/seed --out runs/packed

Any machine will do: an hour of the game without pictures takes about a second of one core to validate.
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
