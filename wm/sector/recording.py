"""A recorded hour: what the real game showed, decision by decision, as arrays.

Letters: T decisions, C columns of aircraft (an aircraft keeps its column), E kinds of events.
"""

import dataclasses
from typing import Any

import numpy as np

from wm.sector.traffic import Scene


@dataclasses.dataclass(frozen=True)
class Recording:
    """One recorded episode. Of an episode that the real game did not play, the last fields are None."""

    icao: str
    seed: int
    policy: str
    scene: Scene  # numpy leaves [T + 1, ...], traffic [T + 1, C]
    action: np.ndarray  # [T, 5] int32, names aircraft by column, C for a no-op
    events: np.ndarray  # [T, C, E] bool, by the column at the step's start (of new aircraft: after)
    static: dict[str, Any]  # the airport's tables, see wm.sector.airport.from_static
    routes: list[dict[str, Any]]
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    # Of the real game alone.
    slots: np.ndarray | None = None  # [T + 1, C] int32, the slot that a column had, -1 for none
    slot_action: np.ndarray | None = None  # [T, 5] int32, the policy's own, names aircraft by slot
    command: list[str] | None = None  # [T] as typed, empty for none
    raw_events: np.ndarray | None = None  # [T, 32, 3] int32: aircraft id or -1, event, frame; unused rows -2
    score: np.ndarray | None = None  # [T + 1] as the page shows it
    terms: dict[str, np.ndarray] | None = None  # [T] reward in points
    overflow: np.ndarray | None = None  # [T + 1] aircraft without a slot
    callsigns: dict[int, str] | None = None

    @property
    def traffic_rate(self) -> float:
        """How much traffic there was, as a multiple of the airport's own."""
        return self.metadata.get("traffic", 1.0)
