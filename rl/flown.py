"""What aircraft flew and were told in an episode, in the figures that air traffic control uses.

Everything is computed from one state per decision, so the real game and the model are measured alike.
Letters: T decisions, N aircraft (slots or columns).
"""

from typing import Any

import numpy as np

from wm.sector import traffic as tr
from wm.sector.commands import HEADING, HEADING_CHANGES_DEG
from wm.sector.reward import UNIMPEDED_KT

# A level segment as in EUROCONTROL's Analysis of vertical flight efficiency during climb and descent, 2017.
LEVEL_FT_MIN = 300.0  # slower than this is level flight
LEVEL_S = 20.0  # shorter ones don't count
BELOW_CRUISE = 0.9  # nor do those above this share of the altitude at the top of the descent
REVERSAL_S = 60.0

Flight = dict[str, np.ndarray]


def flights(tracks: dict[str, np.ndarray]) -> list[Flight]:
    """Each aircraft's own columns over the times it was there, with "step", in the order of their ids."""
    step, slot = np.nonzero(tracks["valid"])
    ids = tracks["id"][step, slot]
    order = np.argsort(ids, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(order) else []
    return [
        {"step": step[rows]} | {name: column[step[rows], slot[rows]] for name, column in tracks.items()}
        for rows in parts
    ]


def landed_flights(tracks: dict[str, np.ndarray]) -> list[Flight]:
    """The arrivals that landed, each from its first contact to the end of its landing."""
    last = len(tracks["valid"]) - 1
    found = []
    for flight in flights(tracks):
        contact = np.flatnonzero(flight["controllable"])
        arrival = flight["category"][-1] == tr.ARRIVAL
        landed = arrival and flight["phase"][-1] == tr.LANDING and flight["step"][-1] < last
        if landed and len(contact):
            found.append({name: column[contact[0] :] for name, column in flight.items()})
    return found


def delay_s(flight: Flight) -> float:
    """Of a landed flight: time from first contact to the end of its landing, less the unimpeded time."""
    taken = (flight["step"][-1] + 1 - flight["step"][0]) * tr.STEP_S
    return float(taken - flight["unimpeded_s"][0])


def over_threshold(flight: Flight) -> float | None:
    """The time (decisions, with fraction) at which an arrival in its landing passed the threshold."""
    along = flight["along_nm"].astype(np.float64)
    passed = (along[:-1] > 0) & (along[1:] <= 0) & (flight["phase"][1:] == tr.LANDING)
    if flight["category"][-1] != tr.ARRIVAL or not passed.any():
        return None
    i = np.flatnonzero(passed)[-1]
    return float(flight["step"][i] + along[i] / (along[i] - along[i + 1]))


def _before_threshold(flight: Flight) -> Flight:
    """A flight's columns up to the last decision before the threshold."""
    passed = over_threshold(flight)
    rows = flight["step"] <= (np.inf if passed is None else passed)
    return {name: column[rows] for name, column in flight.items()}


def extra_nm(flight: Flight) -> float:
    """Of a landed flight: track miles from first contact to the threshold, less the unimpeded ones.

    Unimpeded is what the unimpeded time covers at its speed, see wm.sector.reward.unimpeded_s: the route from
    first contact on and 15 nm.
    """
    flown = _before_threshold(flight)
    legs = np.hypot(np.diff(flown["x_nm"].astype(np.float64)), np.diff(flown["y_nm"].astype(np.float64)))
    to_threshold = max(float(flown["along_nm"][-1]), 0.0)
    return float(legs.sum() + to_threshold - flight["unimpeded_s"][0] / 3600.0 * UNIMPEDED_KT)


def level_segments(flight: Flight) -> int:
    """Of a landed flight: how often it flew level, below cruise, on its way down to the threshold.

    A level segment lasts 20 s or more at less than 300 ft/min (EUROCONTROL 2017, see above). What lies above
    90 % of the highest altitude since first contact is cruise. On the glideslope nobody is level.
    """
    altitude = _before_threshold(flight)["altitude_ft"].astype(np.float64)
    slow = np.abs(np.diff(altitude)) * 60.0 / tr.STEP_S < LEVEL_FT_MIN
    level = slow & (np.maximum(altitude[:-1], altitude[1:]) <= BELOW_CRUISE * altitude.max())
    edges = np.diff(np.concatenate([[0], level.astype(int), [0]]))
    lengths = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    return int(np.sum(lengths * tr.STEP_S >= LEVEL_S))


def go_arounds(tracks: dict[str, np.ndarray]) -> int:
    """Approaches that ended in the air (ICAO: missed approaches): established on final, then not any more.

    An arrival in the phase APPROACH loses its clearance or falls back to an earlier phase: because the game
    finds it off the glideslope 5 nm out, or because the controller calls it off. The game's own GO_AROUND
    event is never awarded. What is in the phase LANDING lands, whatever it is told.
    """
    clearance, phase = tracks["approach_clearance"], tracks["phase"]
    arrival = tracks["valid"] & (tracks["category"] == tr.ARRIVAL)
    before = (arrival & clearance & (phase == tr.APPROACH))[:-1]
    after = (clearance & (phase == tr.APPROACH)) | (phase == tr.LANDING)
    same = (tracks["id"][1:] == tracks["id"][:-1]) & tracks["valid"][1:]
    return int(np.sum(before & same & ~after[1:]))


def threshold_spacings_s(tracks: dict[str, np.ndarray]) -> list[float]:
    """Times (s) between successive landings of a runway, threshold to threshold, of all runways."""
    passed: dict[int, list[float]] = {}
    for flight in flights(tracks):
        at = over_threshold(flight)
        if at is not None:
            passed.setdefault(int(flight["runway"][-1]), []).append(at)
    gaps = [np.diff(np.sort(times)) * tr.STEP_S for _, times in sorted(passed.items())]
    return [round(float(gap), 2) for gap in np.concatenate(gaps or [np.zeros(0)])]


def reversals(action: np.ndarray, obeyed: np.ndarray, ids: np.ndarray) -> int:
    """Turns told to an aircraft within a minute of one to the other side.

    action: `[T, 5]`, names aircraft by column of `ids [T + 1, N]`. obeyed: `[T]`, a command that was legal.
    A command to keep the present heading is no turn.
    """
    turns = np.sign(np.asarray(HEADING_CHANGES_DEG)[action[:, 3]]) * (action[:, 1] == HEADING) * obeyed
    last: dict[int, tuple[int, int]] = {}
    found = 0
    for step in np.flatnonzero(turns):
        aircraft, side = int(ids[step, action[step, 0]]), int(turns[step])
        before, other = last.get(aircraft, (0, side))
        found += other != side and (step - before) * tr.STEP_S <= REVERSAL_S
        last[aircraft] = (int(step), side)
    return int(found)


def figures_of(tracks: dict[str, np.ndarray], action: np.ndarray, obeyed: np.ndarray) -> dict[str, Any]:
    """An episode's figures as plain JSON.

    landed_flights: arrivals that landed after contact. delay_s, extra_nm: means over these, None without any.
    level_segments: sum over these. threshold_spacing_s: every one. go_arounds, reversals: counts.
    """
    landed = landed_flights(tracks)
    delays, extra = [delay_s(flight) for flight in landed], [extra_nm(flight) for flight in landed]
    return {
        "delay_s": float(np.mean(delays)) if landed else None,
        "extra_nm": float(np.mean(extra)) if landed else None,
        "landed_flights": len(landed),
        "level_segments": sum(level_segments(flight) for flight in landed),
        "threshold_spacing_s": threshold_spacings_s(tracks),
        "go_arounds": go_arounds(tracks),
        "reversals": reversals(action, obeyed, tracks["id"]),
    }
