"""The viewer: recorded and evaluated episodes on a radar scope, as one HTML file that needs nothing else.

    python -m launch.view --data runs/recordings/test --episode 3
    python -m launch.view --data runs/recordings/expert --beside runs/recordings/noop
    python -m launch.view --data runs/recordings/test --imagine 20     # beside it the model from minute 20 on

Takes a few seconds; with --imagine half a minute, most of it compiling. An hour of 30 aircraft makes a file
of about 0.2 MB. A picture needs Chromium. Those of the README:

    python -m launch.view --data collect/data/shipped/test --episode 1 --imagine 20 --at 485 --pick AAL355 \
        --picture launch/records/viewer.png
    python -m launch.view --data collect/data/shipped/test --episode 1 --at 1770 --pick AAL314 \
        --zoom 1.1 --picture launch/records/viewer_profile.png
    python -m launch.view --data collect/data/shipped/test --episode 1 --imagine 20 --at 60 --seconds 500 \
        --pick AAL355 --picture launch/records/viewer.gif

The size on record, of an hour at KSEA with 30 aircraft or more in the mean:

    python -m launch.record --out runs/recordings/ksea --airports ksea --episodes 1 --slots 64 \
        --policies expert --first-seed 600000
    python -m launch.view --data runs/recordings/ksea --record people
"""

import dataclasses
from pathlib import Path

from configs import values


@dataclasses.dataclass(frozen=True)
class ViewerConfig:
    """Options of launch.view."""

    data: Path
    """A directory of recordings, or one above some; or a file of launch.eval_policy's cache."""
    episode: int = 0
    """Which of the recordings, from 0 on."""
    beside: Path | None = None
    """Show an episode of this beside it, in step; as --data."""
    beside_episode: int = 0
    imagine: float | None = None
    """Show beside it what the world model makes of the recorded commands from this minute on, without new
    aircraft."""
    minutes: float = 10.0
    """How long --imagine goes on (game time)."""
    checkpoint: Path | None = None
    """World model of --imagine; the packaged one if left out."""
    out: Path = Path("runs/view.html")
    picture: Path | None = None
    """Also write a picture of the page."""
    at: float = 0.0
    """Seconds from the beginning that the picture shows."""
    seconds: float | None = None
    """Game time that a moving picture (GIF) shows from --at on; a still one (PNG) if left out."""
    pick: str | None = None
    """Callsign of the aircraft that is picked in the picture."""
    zoom: float = 1.0
    """Of the picture; 1 shows the whole airspace."""
    record: str | None = None
    """Merge the page's size into launch/records/<record>.json; of one hour with 30 aircraft or more."""

    def __post_init__(self):
        values.at_least(self, 0, "episode", "beside_episode", "imagine", "at")
        values.above(self, 0, "minutes", "zoom", "seconds")
        if self.imagine is not None and self.beside is not None:
            raise ValueError("give beside or imagine, not both: a page shows two episodes")
        if self.record is not None and (self.imagine is not None or self.beside is not None):
            raise ValueError("record takes one episode alone: leave out beside and imagine")
