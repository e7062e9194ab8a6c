"""What recordings hold, as counts over episodes, and what they lack.

Letters: T decisions, C columns of aircraft.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np

from wm.sector import traffic as tr
from wm.sector.commands import ALTITUDE, DIRECT, HEADING, ILS, SPEED
from wm.sector.recording import Recording

VERBS = {ALTITUDE: "altitude", HEADING: "heading", SPEED: "speed", ILS: "ils", DIRECT: "direct"}
SPEED_KT = np.arange(0, 601, 20)
ALTITUDE_FT = np.arange(0, 45_001, 1000)
APPROACH_NM = np.asarray([0, 0.5, 1, 1.5, 2, 3, 4, 5, 8, 12])
LEVEL_FT = 1000.0  # pairs further apart vertically are separated
COMMANDED = (tr.TAKEOFF, tr.CLIMB, tr.CRUISE, tr.HOLDING, tr.DESCENT, tr.APPROACH, tr.LANDING)
SEEN_OFTEN = 10  # commands or pair-decisions; fewer are a gap


@dataclasses.dataclass
class Coverage:
    """Counts. Those of aircraft have one entry per aircraft and decision, unless a comment says otherwise."""

    episodes: int = 0
    decisions: int = 0
    phases: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(len(tr.PHASES), np.int64))
    verbs: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((len(VERBS), len(tr.PHASES)), np.int64)
    )  # commands typed, by verb and the aircraft's phase
    speed_altitude: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros((len(SPEED_KT) - 1, len(ALTITUDE_FT) - 1), np.int64)
    )
    approaches: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(len(APPROACH_NM) - 1, np.int64)
    )  # pairs per decision less than LEVEL_FT apart, by distance
    aircraft: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(65, np.int64))
    streams: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # airport -> spawns by stream
    stream_names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    events: Counter = dataclasses.field(default_factory=Counter)
    go_arounds: int = 0  # approaches that ended in the air
    settings: Counter = dataclasses.field(default_factory=Counter)  # hours by airport, policy, traffic, wind

    def add(self, episode: Recording) -> None:
        """Count one episode."""
        traffic = episode.scene.traffic
        valid = np.asarray(traffic.valid)
        airborne = valid & (traffic.phase > tr.TAKEOFF)
        steps = len(episode.action)
        self.episodes += 1
        self.decisions += steps
        self.phases += np.bincount(traffic.phase[valid], minlength=len(tr.PHASES))
        self.aircraft += np.bincount(np.minimum(valid.sum(1), 64), minlength=65)
        self.speed_altitude += np.histogram2d(
            traffic.speed_kt[airborne], traffic.altitude_ft[airborne], [SPEED_KT, ALTITUDE_FT]
        )[0].astype(np.int64)
        for t, action in enumerate(episode.action):
            if episode.command[t]:
                self.verbs[action[1], traffic.phase[t, action[0]]] += 1
        self.approaches += np.histogram(level_distances(traffic, airborne), APPROACH_NM)[0]
        self._add_streams(episode)
        codes = episode.raw_events[episode.raw_events[..., 0] > -2][:, 1]
        self.events.update(tr.EVENT_NAMES[code] for code in codes)
        self.go_arounds += count_go_arounds(traffic)
        hours = steps * tr.STEP_S / 3600
        about, key = episode.metadata, episode.metadata["key"]
        wind = "own" if key["wind"] is None else "{:03d}/{:02d} kt".format(*key["wind"])
        chosen = {"airport": episode.icao, "policy": about["policy"], "traffic": key["traffic"], "wind": wind}
        for name, value in chosen.items():
            self.settings[name, str(value)] += hours

    def _add_streams(self, episode: Recording) -> None:
        streams = episode.static["streams"]
        names = [f"{stream['category']} {stream['route']}" for stream in streams]
        known = self.stream_names.setdefault(episode.icao, names)
        counts = self.streams.setdefault(episode.icao, np.zeros(len(known), np.int64))
        traffic = episode.scene.traffic
        ids, first = np.unique(traffic.id[traffic.valid], return_index=True)
        spawned = traffic.stream[traffic.valid][first[ids >= 0]]
        counts += np.bincount(spawned[spawned >= 0], minlength=len(counts))[: len(counts)]

    def gaps(self) -> list[str]:
        """What was not seen, or hardly, one line each."""
        found = [f"no aircraft in phase {tr.PHASES[i]}" for i in np.flatnonzero(self.phases == 0)]
        for verb, name in VERBS.items():
            rare = [tr.PHASES[phase] for phase in COMMANDED if self.verbs[verb, phase] < SEEN_OFTEN]
            if rare:
                found.append(f"fewer than {SEEN_OFTEN} commands of {name} in {', '.join(rare)}")
        for (low, high), count in zip(itertools.pairwise(APPROACH_NM), self.approaches, strict=True):
            if count < SEEN_OFTEN:
                found.append(f"{count} pairs {low:g} to {high:g} nm apart at the same level")
        for icao, counts in self.streams.items():
            unseen = [self.stream_names[icao][i] for i in np.flatnonzero(counts == 0)]
            if unseen:
                names = "; ".join(unseen)
                found.append(f"{icao}: no aircraft of {len(unseen)} of {len(counts)} streams: {names}")
        unseen = [name for name in tr.EVENT_NAMES if not self.events[name] and name not in NEVER]
        if unseen:
            found.append(f"no event {', '.join(unseen)}")
        if not self.go_arounds:
            found.append("no approach that ended in the air")
        return found


# In the game's table of points, but its code never awards them.
NEVER = ("SEPARATION_LOSS", "GO_AROUND", "ILLEGAL_APPROACH_CLEARANCE")


def level_distances(traffic: tr.Traffic, airborne: np.ndarray) -> np.ndarray:
    """Distances (nm) of the pairs of airborne `[T, C]` aircraft less than LEVEL_FT apart, all decisions."""
    found = []
    for t in range(len(airborne)):
        here = airborne[t]
        x, y, altitude = (v[t, here] for v in (traffic.x_nm, traffic.y_nm, traffic.altitude_ft))
        one, other = np.triu_indices(here.sum(), 1)
        level = np.abs(altitude[one] - altitude[other]) < LEVEL_FT
        found.append(np.hypot(x[one] - x[other], y[one] - y[other])[level])
    return np.concatenate(found) if found else np.zeros(0)


def count_go_arounds(traffic: tr.Traffic) -> int:
    """How often an aircraft left the phases APPROACH and LANDING in the air."""
    final = np.isin(traffic.phase, (tr.APPROACH, tr.LANDING)) & traffic.valid
    same = (traffic.id[1:] == traffic.id[:-1]) & traffic.valid[1:] & traffic.valid[:-1]
    return int((final[:-1] & ~final[1:] & same).sum())


def cover(episodes: Iterable[Recording]) -> Coverage:
    """Count all episodes."""
    coverage = Coverage()
    for episode in episodes:
        coverage.add(episode)
    return coverage
