"""A survey of every airport of the game.

    python -m launch.survey --record recorder

On one core of the machine that serves the game, an hour of all 64 airports takes about half an hour and
twenty minutes of each take about ten. 63 of the 64 load, and everything is read at these
(launch/records/survey.md).
"""

import dataclasses
from pathlib import Path

from configs.server import ServerConfig
from configs.values import above


@dataclasses.dataclass(frozen=True)
class SurveyConfig(ServerConfig):
    """Play each airport without commands and say what is there and what could not be read."""

    airports: tuple[str, ...] = ()
    """All that the game enables, if none is named."""
    minutes: int = 60
    """Game time at each; from a cold start, so that less shows fewer aircraft than an hour."""
    seed: int = 0
    record: str | None = None
    """Merge the figures into launch/records/<record>.json, and put table and picture beside it."""
    out: Path | None = None
    """Folder for results.json, table and picture; a new one below runs/ if left out."""

    def __post_init__(self):
        super().__post_init__()
        above(self, 0, "minutes")
        if self.record and self.airports:
            raise ValueError("record takes only surveys of all airports: leave out --airports")
