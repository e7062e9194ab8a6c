"""Commands as the pixel model takes them: what every aircraft is still to do, relative to what it does.

Of an aircraft two things are known: what the last picture shows of it (`Track`), and the autopilot's panel,
which no screen shows (`hours.PANEL`). `features` puts them together; `exchanged` gives each aircraft another
one's panel, so that a model which ignores commands is found out.

Letters: K slots of aircraft, B windows.
"""

from dataclasses import dataclass

import numpy as np
from flax import struct

from wm.cosmos.scope.crops import letters
from wm.cosmos.scope.hours import COLUMNS, PANEL, Hour, ScopeError
from wm.sector import traffic as tr

SLOTS = 32
NEAR_FIX_NM = 30.0
TRUE_AIRSPEED_PER_FT = 1.6e-5  # by which speed through the air exceeds the indicated one
FEATURES = (
    *("east", "north", "heading_sin", "heading_cos", "altitude", "speed"),
    *("turn_sin", "turn_cos", "turn", "climb", "acceleration", "approach", "on_route", "held"),
    *("fix_ahead", "fix_right", "has_fix", "arrival", "commanded", "enters"),
)


@struct.dataclass
class Track:
    """What pictures show of aircraft, [..., K] each."""

    x_nm: np.ndarray
    y_nm: np.ndarray
    altitude_ft: np.ndarray
    heading_rad: np.ndarray
    speed_kt: np.ndarray  # over ground


@struct.dataclass
class Told:
    """Commands of windows as a model reads them."""

    features: np.ndarray  # [B, K, len(FEATURES)] float32, see `features`
    place: np.ndarray  # [B, K, 2] float32, from the left and the top of the picture, 0 to 1
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
    }
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
    track = Track(of["x_nm"], of["y_nm"], of["altitude_ft"], of["heading_rad"], of["ground_speed_kt"])
    enters = np.arange(count) >= seen.sum()
    panel = {name: of[name] for name in (*PANEL, "commanded")}
    ids = np.where(columns >= 0, of["id"], -1).astype(int)
    return Slots(columns, ids, enters & (columns >= 0), track, panel, letters(callsigns))


def told(slots: Slots, track: Track, reach_nm: float) -> Told:
    """The commands of intervals, or of one without the axis of windows, for aircraft where `track` says."""
    present = slots.columns >= 0
    rows = features(track, slots.panel, slots.enters, reach_nm)
    place = np.stack([track.x_nm, -track.y_nm], -1) / (2.0 * np.asarray(reach_nm)[..., None]) + 0.5
    return Told(np.where(present[..., None], rows, 0.0), place.astype(np.float32), slots.callsign, present)


def exchanged(slots: Slots) -> Slots:
    """The same aircraft, each with the panel of the next one that was there before."""
    there = np.flatnonzero((slots.columns >= 0) & ~slots.enters)
    panel = {name: values.copy() for name, values in slots.panel.items()}
    for values in panel.values():
        values[there] = values[np.roll(there, 1)]
    return slots.replace(panel=panel)


def misread(track: Track, generator: np.random.Generator) -> Track:
    """A track as a reader would give it: .02 nm and 2 degrees off, altitude and speed as on the screen."""
    shape = track.x_nm.shape
    return Track(
        track.x_nm + 0.02 * generator.standard_normal(shape),
        track.y_nm + 0.02 * generator.standard_normal(shape),
        np.round(track.altitude_ft, -2),
        track.heading_rad + np.deg2rad(2.0) * generator.standard_normal(shape),
        np.round(track.speed_kt, -1),
    )
