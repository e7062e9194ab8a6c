"""Recorded hours as the pixel models learn from them: pictures, what the aircraft in them did, commands.

An hour is one `.npz` file of about half a megabyte. Its pictures are kept without loss: indices into the
recorder's palette, each xor the hour's most frequent one, so that only aircraft are left, packed by LZMA.

    hour = load("hours/kabq-1000.npz", "train")
    hour.pictures                     # uint8 [T, H, W], indices into `hour.palette`
    hour.column("altitude_ft")        # [T, C]

Letters: T pictures of an hour, 15 s apart; C columns of aircraft, which keep theirs; H W pixels.
"""

import json
import lzma
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from wm.sector import commands
from wm.sector import traffic as tr
from wm.sector.airport import from_static
from wm.sector.recording import Recording
from wm.sector.route import current_leg

INTERVAL_S = 15.0
SEEDS = {"train": (0, 500_000), "select": (500_000, 600_000), "test": (600_000, 700_000)}
CALLSIGN = 8  # characters; shorter ones end in zeros
# What an aircraft does when the picture is taken.
SEEN = ("x_nm", "y_nm", "altitude_ft", "heading_rad", "speed_kt", "ground_speed_kt")
# What no screen shows: the autopilot's panel after the command that was given on the picture.
PANEL = (
    *("heading_mode", "altitude_mode", "speed_mode", "assigned_heading_rad", "assigned_altitude_ft"),
    *("assigned_speed_kt", "target_heading_rad", "target_altitude_ft", "target_speed_kt"),
    *("approach_clearance", "category", "phase", "runway", "leg", "fix_x_nm", "fix_y_nm", "has_fix"),
)
COLUMNS = ("id", "drawn", "controllable", *SEEN, *PANEL, "commanded")
# What NumPy and LZMA raise for a file that is damaged or something else.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, lzma.LZMAError)


class ScopeError(ValueError):
    """Data for the pixel models is not what it should be; one line with cause and remedy."""


@dataclass(frozen=True, eq=False)
class Hour:
    """One recorded hour.

    Attributes:
      airport, seed, policy: as recorded.
      px_per_nm: scale of the pictures; the airport is in their middle, north is up.
      palette: [256, 3] uint8 RGB.
      pictures: [T, H, W] uint8.
      table: [T, C, len(COLUMNS)] float32.
      callsigns: [T, C, CALLSIGN] uint8, ASCII.
      reward: [T] points from a picture to the next.
      spoken: the commands as typed, "" for none.
    """

    airport: str
    seed: int
    policy: str
    px_per_nm: float
    palette: np.ndarray
    pictures: np.ndarray
    table: np.ndarray
    callsigns: np.ndarray
    reward: np.ndarray
    spoken: tuple[str, ...]

    def column(self, name: str) -> np.ndarray:
        """One column [T, C] of the table."""
        return self.table[..., COLUMNS.index(name)]

    @property
    def side(self) -> int:
        """Pixels of a picture's side."""
        return self.pictures.shape[1]

    @cached_property
    def pixels(self) -> np.ndarray:
        """Where the aircraft are in the pictures, [T, C, 2] columns and rows in pixels."""
        x, y = self.column("x_nm"), self.column("y_nm")
        return np.stack([x, -y], -1) * self.px_per_nm + self.side / 2

    @cached_property
    def in_view(self) -> np.ndarray:
        """Whether an aircraft's blip is drawn wholly inside the picture, [T, C] bool."""
        inside = ((self.pixels >= BLIP_PX) & (self.pixels <= self.side - BLIP_PX)).all(-1)
        return (self.column("drawn") > 0) & inside


BLIP_PX = 2.0  # radius of a blip


def drawn(traffic: tr.Traffic) -> np.ndarray:
    """Whether the game draws an aircraft (AircraftModel.isVisible), of any shape: not while it taxies."""
    first = (traffic.phase == tr.WAITING) & (traffic.queue_position == 0)
    return np.asarray(traffic.valid & ~traffic.hit & ((traffic.phase > tr.WAITING) | first))


@jax.jit
def _after_commands(traffic: tr.Traffic, action: jax.Array, airport):
    """The panel [T, C] after each picture's command, and the leg that is flown then."""
    after = jax.vmap(commands.apply, (0, 0, None))(traffic, action, airport)
    return after, current_leg(after, airport)


def from_recording(
    recording: Recording, pictures: np.ndarray, decisions: np.ndarray, palette: np.ndarray
) -> Hour:
    """An hour of `pictures` [T, H, W] that were taken at the starts of `decisions` [T].

    Raises:
      ScopeError: the pictures are not 15 s apart, or their scale is not known.
    """
    every = round(INTERVAL_S / tr.STEP_S)
    if len(decisions) < 2 or (np.diff(decisions) != every).any():
        raise ScopeError(
            f"{recording.icao} with seed {recording.seed} has no pictures {INTERVAL_S:g} s apart on the page "
            f"of altitudes: record it with --every {every}"
        )
    if "picture_px_per_nm" not in recording.static:
        raise ScopeError(f"seed {recording.seed} has pictures without a scale: record it with --picture-px")
    decisions = decisions[decisions < len(recording.action)]
    traffic = jax.tree.map(lambda x: x[decisions], recording.scene.traffic)
    action = recording.action[decisions]
    spoken = tuple(recording.command[i] for i in decisions)
    airport = from_static(recording.static, recording.routes)
    after, leg = _after_commands(traffic, jnp.asarray(action), airport)
    has_fix = np.asarray(leg.exists & (leg.vector_rad < 0))
    extra = {
        "drawn": drawn(traffic),
        "commanded": (action[:, :1] == np.arange(traffic.id.shape[1])) & (np.asarray(spoken) != "")[:, None],
        "fix_x_nm": np.where(has_fix, leg.dx_nm + traffic.x_nm, 0.0),
        "fix_y_nm": np.where(has_fix, leg.dy_nm + traffic.y_nm, 0.0),
        "has_fix": has_fix,
    }
    of = {name: extra.get(name, getattr(after, name, None)) for name in COLUMNS}
    ends = [*decisions[1:], len(recording.action)]
    total = np.concatenate([[0.0], np.cumsum(sum(recording.terms.values()))])
    return Hour(
        airport=recording.icao,
        seed=recording.seed,
        policy=recording.policy,
        px_per_nm=float(recording.static["picture_px_per_nm"]),
        palette=palette,
        pictures=pictures[: len(decisions)],
        table=np.stack([np.asarray(of[name], np.float32) for name in COLUMNS], -1),
        callsigns=_callsigns(recording, traffic.id),
        reward=(total[ends] - total[decisions]).astype(np.float32),
        spoken=spoken,
    )


def _callsigns(recording: Recording, ids: np.ndarray) -> np.ndarray:
    # The last row is nobody's, whose id is -1.
    table = np.zeros((max(recording.callsigns, default=0) + 2, CALLSIGN), np.uint8)
    for number, name in recording.callsigns.items():
        letters = name.encode("ascii")[:CALLSIGN]
        table[number, : len(letters)] = list(letters)
    return table[ids]


def save(path: Path, hour: Hour) -> None:
    """Writes one file; the pictures come back exactly."""
    background = _most_frequent(hour.pictures)
    packed = lzma.compress((hour.pictures ^ background).tobytes(), preset=2)
    about = {name: getattr(hour, name) for name in ("airport", "seed", "policy", "px_per_nm", "spoken")}
    about |= {"shape": hour.pictures.shape, "columns": COLUMNS}
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            background=background,
            palette=hour.palette,
            packed=np.frombuffer(packed, np.uint8),
            table=hour.table,
            callsigns=hour.callsigns,
            reward=hour.reward,
        )


def _most_frequent(pictures: np.ndarray) -> np.ndarray:
    """The median of up to 61 pictures, which is the map without aircraft almost everywhere."""
    chosen = np.linspace(0, len(pictures) - 1, min(61, len(pictures))).round().astype(int)
    return np.sort(pictures[chosen], 0)[len(chosen) // 2]


def load(path: Path, use: str) -> Hour:
    """Reads an hour for "train", "select" or "test".

    Raises:
      ScopeError: the file is damaged or something else, or its seed is kept for another use.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            known = {name: file[name] for name in ("palette", "table", "callsigns", "reward", "background")}
            packed = file["packed"].tobytes()
        columns = about.pop("columns")
        shape = tuple(about.pop("shape"))
        pictures = np.frombuffer(lzma.decompress(packed), np.uint8).reshape(shape) ^ known.pop("background")
        hour = Hour(pictures=pictures, **known, **about | {"spoken": tuple(about["spoken"])})
    except UNREADABLE as error:
        raise ScopeError(f"{path} is no hour of pictures ({error}): pack it again") from None
    if tuple(columns) != COLUMNS:
        raise ScopeError(f"{path} has other columns than this version's: pack it again")
    low, high = SEEDS[use]
    if not low <= hour.seed < high:
        raise ScopeError(
            f"{path} has seed {hour.seed}; {use} takes {low} to {high - 1}: keep the hours of each apart"
        )
    return hour


def find(folder: Path) -> list[Path]:
    """All hours in a folder, by name.

    Raises:
      ScopeError: there are none.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise ScopeError(f"{folder} holds no hours: make some with `python -m launch.cosmos scope_pack`")
    return paths


def check_alike(hours: list[Hour]) -> None:
    """Raises ScopeError where pictures of one model have different sides or palettes."""
    for hour in hours[1:]:
        if hour.side != hours[0].side or (hour.palette != hours[0].palette).any():
            raise ScopeError(
                f"pictures of {hour.airport} {hour.seed} are {hour.side} px or of another palette than those "
                f"of {hours[0].airport} {hours[0].seed} ({hours[0].side} px): record all in one way"
            )
