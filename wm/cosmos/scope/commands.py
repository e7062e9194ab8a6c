"""Commands as the pixel model takes them: what every aircraft is still to do, relative to what it does.

Of an aircraft two things are known: what the last picture shows of it (`Track`), and the autopilot's panel,
which no screen shows (`hours.PANEL`). `features` puts them together; `exchanged` gives each aircraft another
one's panel, so that a model which ignores commands is found out.

Letters: K slots of aircraft, B windows.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from flax import struct

from wm.cosmos.scope.crops import letters
from wm.cosmos.scope.hours import COLUMNS, INTERVAL_S, PANEL, Hour, ScopeError
from wm.sector import traffic as tr

SLOTS = 32
NEAR_FIX_NM = 30.0
TRUE_AIRSPEED_PER_FT = 1.6e-5  # by which speed through the air exceeds the indicated one
WAVES = ("sin", "cos")
FEATURES = (
    *("east", "north", "heading_sin", "heading_cos", "altitude", "speed"),
    *("turn_sin", "turn_cos", "turn", "climb", "acceleration", "approach", "on_route", "held"),
    *("fix_ahead", "fix_right", "has_fix", "arrival", "commanded", "enters"),
    *("moved_ahead", "moved_right", "climbed", "speed_wave_sin", "speed_wave_cos"),
    *(f"{name}_{wave}" for name in ("next_100s", "next_1000s", "goal_100s", "goal_1000s") for wave in WAVES),
)


@struct.dataclass
class Track:
    """What pictures show of aircraft, [..., K] each."""

    x_nm: np.ndarray
    y_nm: np.ndarray
    altitude_ft: np.ndarray
    heading_rad: np.ndarray
    speed_kt: np.ndarray  # over ground
    east_nm: np.ndarray  # from the picture before to this one
    north_nm: np.ndarray
    climbed_ft: np.ndarray  # the same


@struct.dataclass
class Told:
    """Commands of windows as a model reads them."""

    features: np.ndarray  # [B, K, len(FEATURES)] float32, see `features`
    place: np.ndarray  # [B, K, 2] float32, from the left and the top of the picture, 0 to 1
    ahead: np.ndarray  # [B, K, 2] float32, the place where the last displacement again leads to
    callsign: np.ndarray  # [B, K, 8] int32 classes, see `crops.letters`
    present: np.ndarray  # [B, K] bool


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of every feature over training windows; kept with the model."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, told: Told) -> "Statistics":
        """Of the aircraft present in `told`. A feature that never changes gets deviation 1."""
        rows = np.asarray(told.features, np.float64)[np.asarray(told.present)]
        std = rows.std(0)
        return cls(tuple(rows.mean(0).tolist()), tuple(np.where(std < 1e-6, 1.0, std).tolist()))

    def __call__(self, told: Told) -> Told:
        """With normalised features, zero where nobody is.

        Raises:
          ScopeError: they are of another kind than these.
        """
        if told.features.shape[-1] != len(self.mean):
            raise ScopeError(
                f"commands have {told.features.shape[-1]} numbers, the model was trained on "
                f"{len(self.mean)}: use the version of the code that trained it"
            )
        normal = (told.features - np.asarray(self.mean)) / np.asarray(self.std)
        return told.replace(features=np.where(told.present[..., None], normal, 0.0).astype(np.float32))


def features(track: Track, panel: dict[str, np.ndarray], enters: np.ndarray, reach_nm: float) -> np.ndarray:
    """FEATURES [..., K, F] float32 of aircraft; angles relative to their heading, lengths to the picture.

    Args:
      track: what the last picture shows; of aircraft that enter: where they come in.
      panel: columns PANEL and "commanded", [..., K] each.
      enters: [..., K] bool, not in the last picture.
      reach_nm: from the middle of a picture to its side.
    """
    held = panel["heading_mode"] == tr.MODE_HOLD
    on_route = panel["heading_mode"] == tr.HEADING_LNAV
    east, north = panel["fix_x_nm"] - track.x_nm, panel["fix_y_nm"] - track.y_nm
    to_fix = np.arctan2(east, north)
    course = np.where(on_route & (panel["has_fix"] > 0), to_fix, panel["target_heading_rad"])
    turn = wrapped(np.where(held, panel["assigned_heading_rad"], course) - track.heading_rad)
    assigned = panel["altitude_mode"] == tr.MODE_HOLD
    altitude = np.where(assigned, panel["assigned_altitude_ft"], panel["target_altitude_ft"])
    assigned = panel["speed_mode"] == tr.MODE_HOLD
    speed = np.where(assigned, panel["assigned_speed_kt"], panel["target_speed_kt"])
    indicated = track.speed_kt / (1.0 + TRUE_AIRSPEED_PER_FT * track.altitude_ft)
    distance = np.minimum(np.hypot(east, north), NEAR_FIX_NM) / NEAR_FIX_NM * (panel["has_fix"] > 0)
    of = {
        "east": track.x_nm / reach_nm,
        "north": track.y_nm / reach_nm,
        "heading_sin": np.sin(track.heading_rad),
        "heading_cos": np.cos(track.heading_rad),
        "altitude": track.altitude_ft / 1e4,
        "speed": track.speed_kt / 250.0,
        "turn_sin": np.sin(turn),
        "turn_cos": np.cos(turn),
        "turn": turn / np.pi,
        "climb": np.clip((altitude - track.altitude_ft) / 5e3, -3.0, 3.0),
        "acceleration": np.clip((speed - indicated) / 100.0, -3.0, 3.0),
        "approach": panel["approach_clearance"],
        "on_route": on_route,
        "held": held,
        "fix_ahead": distance * np.cos(to_fix - track.heading_rad),
        "fix_right": distance * np.sin(to_fix - track.heading_rad),
        "has_fix": panel["has_fix"],
        "arrival": panel["category"] == tr.ARRIVAL,
        "commanded": panel["commanded"],
        "enters": enters,
        "moved_ahead": track.east_nm * np.sin(track.heading_rad) + track.north_nm * np.cos(track.heading_rad),
        "moved_right": track.east_nm * np.cos(track.heading_rad) - track.north_nm * np.sin(track.heading_rad),
        "climbed": track.climbed_ft / 500.0,
    }
    waves = {
        "speed_wave": track.speed_kt / 100.0,
        "next_100s": (track.altitude_ft + track.climbed_ft) / 1e3,
        "next_1000s": (track.altitude_ft + track.climbed_ft) / 1e4,
        "goal_100s": altitude / 1e3,
        "goal_1000s": altitude / 1e4,
    }  # of which digits are parts of a turn
    for name, turns in waves.items():
        of[f"{name}_sin"], of[f"{name}_cos"] = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    return np.stack([np.asarray(of[name], np.float32) for name in FEATURES], -1)


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Radians in [-pi, pi)."""
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


@struct.dataclass
class Slots:
    """The aircraft of an interval of an hour, one to a slot: who they are and what the panel says.

    Attributes:
      columns: [K] their columns, -1 for none; slots beyond those in view hold who enters.
      ids: [K] who they are.
      enters: [K] bool.
      track: what the picture at the interval's start shows of them; of those that enter the first picture
        that does.
      panel: PANEL and "commanded", [K] each.
      callsign: [K, 8] int32.
    """

    columns: np.ndarray
    ids: np.ndarray
    enters: np.ndarray
    track: Track
    panel: dict[str, np.ndarray]
    callsign: np.ndarray


def slots_of(hour: Hour, t: int, count: int = SLOTS) -> Slots:
    """Who is in view in picture t of an hour or enters before the next, and what they are told.

    Raises:
      ScopeError: there are more of them than slots.
    """
    following = min(t + 1, len(hour.pictures) - 1)
    seen, later = hour.in_view[t], hour.in_view[following]
    same = hour.column("id")[t] == hour.column("id")[following]
    fresh = later & ~(seen & same)
    here = np.concatenate([np.flatnonzero(seen), np.flatnonzero(fresh)])
    when = np.concatenate([np.full(seen.sum(), t), np.full(fresh.sum(), following)])
    if len(here) > count:
        raise ScopeError(
            f"{hour.airport} {hour.seed} shows {len(here)} aircraft at once, the model has {count} slots: "
            "train it with more"
        )
    rows = np.zeros((count, len(COLUMNS)), np.float32)
    rows[: len(here)] = hour.table[when, here]
    of = {name: rows[:, COLUMNS.index(name)] for name in COLUMNS}
    columns = np.full(count, -1)
    columns[: len(here)] = here
    callsigns = np.zeros((count, hour.callsigns.shape[-1]), np.uint8)
    callsigns[: len(here)] = hour.callsigns[when, here]
    shown = tuple(of[name] for name in ("x_nm", "y_nm", "altitude_ft", "heading_rad", "ground_speed_kt"))
    enters = np.arange(count) >= seen.sum()
    track = Track(*shown, *_since_before(hour, t, rows, columns, enters))
    panel = {name: of[name] for name in (*PANEL, "commanded")}
    ids = np.where(columns >= 0, of["id"], -1).astype(int)
    return Slots(columns, ids, enters & (columns >= 0), track, panel, letters(callsigns))


def _since_before(hour: Hour, t: int, rows: np.ndarray, columns: np.ndarray, enters: np.ndarray):
    """East and north (nm) and up (ft) from picture t - 1 to t, [K] each; zero for those that enter.

    Who was not in view at t - 1 has come straight along their heading at their speed.
    """
    of = {name: rows[:, COLUMNS.index(name)] for name in COLUMNS}
    before = max(t - 1, 0)
    old = hour.table[before, columns] * (columns >= 0)[:, None]
    both = (old[:, COLUMNS.index("id")] == of["id"]) & hour.in_view[before, columns] & (before < t)
    step = of["ground_speed_kt"] * INTERVAL_S / 3600.0
    straight = (step * np.sin(of["heading_rad"]), step * np.cos(of["heading_rad"]), np.zeros(len(rows)))
    moved = [of[name] - old[:, COLUMNS.index(name)] for name in ("x_nm", "y_nm", "altitude_ft")]
    found = [np.where(both, a, b) for a, b in zip(moved, straight, strict=True)]
    return [np.where(enters | (columns < 0), 0.0, x).astype(np.float32) for x in found]


def told(slots: Slots, track: Track, reach_nm: float) -> Told:
    """The commands of intervals, or of one without the axis of windows, for aircraft where `track` says."""
    present = slots.columns >= 0
    rows = features(track, slots.panel, slots.enters, reach_nm)

    def drawn_at(x_nm, y_nm):
        apart = np.stack([x_nm, -y_nm], -1) / (2.0 * np.asarray(reach_nm)[..., None])
        return (apart + 0.5).astype(np.float32)

    place = drawn_at(track.x_nm, track.y_nm)
    ahead = drawn_at(track.x_nm + track.east_nm, track.y_nm + track.north_nm)
    return Told(np.where(present[..., None], rows, 0.0), place, ahead, slots.callsign, present)


def exchanged(slots: Slots) -> Slots:
    """The same aircraft, each with the panel of the next one that was there before."""
    there = np.flatnonzero((slots.columns >= 0) & ~slots.enters)
    panel = {name: values.copy() for name, values in slots.panel.items()}
    for values in panel.values():
        values[there] = values[np.roll(there, 1)]
    return slots.replace(panel=panel)


def misread(slots: Slots, generator: np.random.Generator) -> Track:
    """The track as a reader would give it: .02 nm and 2 degrees off, altitude and speed as on the screen."""
    track, shape = slots.track, slots.track.x_nm.shape
    off = lambda of: of * generator.standard_normal(shape)  # noqa: E731
    came = np.where(slots.enters, 0.0, 1.0)
    east, north = off(0.02), off(0.02)
    altitude, before = (np.round(x, -2) for x in (track.altitude_ft, track.altitude_ft - track.climbed_ft))
    return Track(
        track.x_nm + east,
        track.y_nm + north,
        altitude,
        track.heading_rad + np.deg2rad(off(2.0)),
        np.round(track.speed_kt, -1),
        track.east_nm + came * (east - off(0.02)),
        track.north_nm + came * (north - off(0.02)),
        altitude - before,
    )


# Drawn on the picture

INKS = {
    "turn": (255, 60, 60),
    "climb": (60, 200, 255),
    "speed": (255, 220, 60),
    "fix": (90, 90, 255),
    "approach": (80, 255, 80),
    "new": (255, 255, 255),
    "enters": (255, 80, 255),
}
SUBPIXELS = 4  # binary digits of a coordinate that OpenCV draws with


def overlay(picture: np.ndarray, told: Told) -> np.ndarray:
    """A picture [H, W, 3] uint8 with the commands of one window, not normalised, drawn around the blips.

    A line from the blip shows where to turn to, one at its right what is left to climb, one below it what is
    left to accelerate; a point where the next fix lies, near ones in their place; a ring is an approach
    clearance, a dot a new command. Of who enters, callsign and altitude stand where its block will be.
    """
    drawn, side = picture.copy(), picture.shape[0]
    for slot in np.flatnonzero(told.present):
        of = dict(zip(FEATURES, told.features[slot].tolist(), strict=True))
        place = told.place[slot] * side
        heading = np.arctan2(of["heading_sin"], of["heading_cos"])
        turn = heading + of["turn"] * np.pi
        _line(drawn, _beyond(place, turn, 5.0), _beyond(place, turn, 20.0), INKS["turn"])
        right, below = _off(place, 7.0, 0.0), _off(place, 0.0, 7.0)
        _line(drawn, right, _off(right, 0.0, -4.0 * of["climb"]), INKS["climb"])
        _line(drawn, below, _off(below, 4.0 * of["acceleration"], 0.0), INKS["speed"])
        if of["has_fix"] > 0:
            away = 10.0 + 40.0 * np.hypot(of["fix_ahead"], of["fix_right"])
            course = heading + np.arctan2(of["fix_right"], of["fix_ahead"])
            _dot(drawn, _beyond(place, course, away), INKS["fix"])
        if of["approach"] > 0:
            cv2.circle(drawn, _fixed(place), 6 << SUBPIXELS, INKS["approach"], 1, cv2.LINE_AA, SUBPIXELS)
        if of["commanded"] > 0:
            _dot(drawn, _off(place, 7.0, 7.0), INKS["new"])
        if of["enters"] > 0:
            _dot(drawn, place, INKS["enters"])
            numbers = f"{round(of['altitude'] * 100):03d} {round(of['speed'] * 25):02d}"
            for row, text in enumerate((spelled(told.callsign[slot]), numbers)):
                corner = tuple(np.round(_off(place, -25.0, -36.0 + 12.0 * row)).astype(int).tolist())
                cv2.putText(drawn, text, corner, cv2.FONT_HERSHEY_PLAIN, 0.7, INKS["enters"], 1, cv2.LINE_AA)
    return drawn


def spelled(classes: np.ndarray) -> str:
    """A callsign of classes [8] as text, see `crops.letters`."""
    return "".join(chr(c + 64) if c < 27 else chr(c - 27 + 48) for c in classes.tolist() if c > 0)


def _off(place: np.ndarray, right: float, down: float) -> np.ndarray:
    return place + np.asarray([right, down])


def _beyond(place: np.ndarray, course_rad: float, way: float) -> np.ndarray:
    return _off(place, way * np.sin(course_rad), -way * np.cos(course_rad))


def _fixed(place: np.ndarray) -> tuple[int, int]:
    x, y = np.round(np.asarray(place) * (1 << SUBPIXELS)).astype(int).tolist()
    return x, y


def _line(drawn: np.ndarray, start: np.ndarray, end: np.ndarray, ink: tuple) -> None:
    cv2.line(drawn, _fixed(start), _fixed(end), ink, 1, cv2.LINE_AA, SUBPIXELS)


def _dot(drawn: np.ndarray, place: np.ndarray, ink: tuple) -> None:
    cv2.circle(drawn, _fixed(place), 3 << (SUBPIXELS - 1), ink, -1, cv2.LINE_AA, SUBPIXELS)
