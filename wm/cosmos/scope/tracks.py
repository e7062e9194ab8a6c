"""Following aircraft through pictures: which blip is whose, and what is carried over where one is hidden.

A blip is an aircraft's where it is near the place that its last two pictures lead to, and where its callsign
can be read as the aircraft's. Costs are summed over all pairs and the cheapest assignment is taken.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from wm.cosmos.scope.commands import Track
from wm.cosmos.scope.hours import INTERVAL_S
from wm.cosmos.scope.reader import Blips

GATE_PX = 24.0  # half of what the fastest aircraft fly in an interval, and more than any turn takes away
LETTER_PX = 8.0  # what a callsign that is improbable by a factor e in every letter costs
UNREADABLE = 4.0  # the most that a letter costs, in powers of e
READABLE = 0.5  # probability from which on digits are believed
SMOOTH = 0.5  # of the newest displacement in the velocity


@dataclass(frozen=True)
class Aircraft:
    """One aircraft as pictures show it; `missed` pictures ago it was last found."""

    callsign: np.ndarray  # [8] classes
    place: np.ndarray  # [2] pixels
    velocity: np.ndarray  # [2] pixels an interval
    altitude_ft: float
    speed_kt: float  # over ground
    heading_rad: float
    missed: int = 0
    readable: bool = False  # its numbers, in the last picture


@dataclass
class Tracks:
    """The aircraft of one scope, by whatever identifies them."""

    px_per_nm: float
    side: int
    aircraft: dict[int, Aircraft] = field(default_factory=dict)

    def enter(self, key: int, track: Track, callsign: np.ndarray, arrives: bool = False) -> None:
        """Take in an aircraft that is where `track` (scalars) says, or `arrives` there by the next picture."""
        place = np.asarray([track.x_nm, -track.y_nm]) * self.px_per_nm + self.side / 2
        step = 0.0 if arrives else track.speed_kt * INTERVAL_S / 3600.0 * self.px_per_nm
        velocity = step * np.asarray([np.sin(track.heading_rad), -np.cos(track.heading_rad)])
        numbers = (float(x) for x in (track.altitude_ft, track.speed_kt, track.heading_rad))
        self.aircraft[key] = Aircraft(callsign, place, velocity, *numbers)

    def forget(self, keys: set[int]) -> None:
        """Drop all aircraft but `keys`."""
        self.aircraft = {key: one for key, one in self.aircraft.items() if key in keys}

    def see(self, blips: Blips) -> int:
        """Take in the next picture, leaves of `blips` [K, ...]; returns how many blips were nobody's."""
        keys, found = list(self.aircraft), np.flatnonzero(blips.found)
        expected = {key: self.aircraft[key].place + self.aircraft[key].velocity for key in keys}
        pairs = {}
        if keys and len(found):
            cost = np.stack([self._cost(key, expected[key], blips, found) for key in keys])
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if cost[row, column] < GATE_PX + LETTER_PX * UNREADABLE:
                    pairs[keys[row]] = found[column]
        for key in keys:
            if key in pairs:
                self.aircraft[key] = _seen(self.aircraft[key], blips, pairs[key])
            else:
                old = self.aircraft[key]
                self.aircraft[key] = replace(old, place=expected[key], missed=old.missed + 1, readable=False)
        return len(found) - len(pairs)

    def _cost(self, key: int, place: np.ndarray, blips: Blips, found: np.ndarray) -> np.ndarray:
        """Of each found blip (n,): pixels from where it is expected, and by how much the callsign differs."""
        distance = np.linalg.norm(blips.place[found] - place, axis=-1)
        callsign = self.aircraft[key].callsign
        letters = blips.callsign[found][:, np.arange(len(callsign)), callsign]
        differs = np.minimum(-np.log(np.maximum(letters, 1e-9)), UNREADABLE).mean(-1)
        far = distance > GATE_PX
        return distance + LETTER_PX * differs * blips.clear[found, 0] + np.where(far, 1e3, 0.0)

    def track(self, keys: list[int], fallback: Track) -> Track:
        """What pictures show of aircraft [K]; where nobody is followed, `fallback`."""
        rows = []
        for slot, key in enumerate(keys):
            one = self.aircraft.get(key)
            if one is None:
                rows.append([getattr(fallback, name)[slot] for name in Track.__dataclass_fields__])
                continue
            x, y = (one.place - self.side / 2) / self.px_per_nm
            rows.append([x, -y, one.altitude_ft, one.heading_rad, one.speed_kt])
        return Track(*np.asarray(rows, np.float32).T)


def _seen(old: Aircraft, blips: Blips, index: int) -> Aircraft:
    """An aircraft after a picture in which that blip is its own."""
    place = np.asarray(blips.place[index], np.float64)
    displacement = (place - old.place) / (1 + old.missed)
    readable = blips.altitude_p[index] > READABLE
    return replace(
        old,
        place=place,
        velocity=SMOOTH * displacement + (1 - SMOOTH) * old.velocity if old.missed else displacement,
        altitude_ft=float(blips.altitude_ft[index]) if readable else old.altitude_ft,
        speed_kt=float(blips.speed_kt[index]) if readable else old.speed_kt,
        heading_rad=float(blips.heading_rad[index]),
        missed=0,
        readable=bool(readable),
    )
