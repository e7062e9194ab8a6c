"""Windows that the model draws by itself: from two recorded pictures on, told what the aircraft are to do.

Every picture is decoded and read, and the tracks that are read say where the aircraft are when the next is
drawn. Recorded are only the panel's rows (assigned values, modes, legs), who has left and who comes in where.

Letters: W windows, n drawn pictures, K slots.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from wm.cosmos.sampling.sample import SampleConfig
from wm.cosmos.scope import commands, model
from wm.cosmos.scope.coder import shown
from wm.cosmos.scope.commands import Slots
from wm.cosmos.scope.crops import letters
from wm.cosmos.scope.hours import BLIP_PX, CALLSIGN, Hour, drawn
from wm.cosmos.scope.reader import Blips, Tracks
from wm.cosmos.scope.stored import Coder, Eyes, Pixels, compute_dtype
from wm.sector import traffic as tr

Change = Callable[[Slots, "Window"], Slots]
"""What becomes of an interval's commands before the model is told."""


@dataclass(eq=False)
class Window:
    """A window while it is drawn.

    Attributes:
      hour, start: it begins after picture `start`, the second that is given.
      tracks: what is read of the drawn pictures.
      course: the aircraft as every drawn picture shows them, by who they are.
      stray: for every drawn picture how many blips were nobody's.
      kept: what a `Change` remembers.
    """

    hour: Hour
    start: int
    tracks: Tracks
    course: list[dict] = field(default_factory=list)
    stray: list[int] = field(default_factory=list)
    kept: dict = field(default_factory=dict)

    @classmethod
    def of(cls, hour: Hour, start: int) -> "Window":
        """A window that nothing has been drawn of."""
        return cls(hour, start, Tracks(hour.px_per_nm, hour.side))

    @property
    def reach_nm(self) -> float:
        """From the middle of a picture to its side."""
        return self.hour.side / 2 / self.hour.px_per_nm

    def slots(self, count: int) -> Slots:
        """Who there is for the next picture, with those that come in taken into the tracks."""
        slots = commands.slots_of(self.hour, self.start + len(self.course), count)
        there = np.flatnonzero(slots.columns >= 0)
        self.tracks.forget({int(slots.ids[i]) for i in there})
        for i in there:
            if int(slots.ids[i]) not in self.tracks.aircraft:
                track = jax.tree.map(lambda x, i=i: x[i], slots.track)
                self.tracks.enter(int(slots.ids[i]), track, slots.callsign[i], bool(slots.enters[i]))
        return slots

    def see(self, blips: Blips) -> None:
        """Take in the picture that was drawn."""
        self.stray.append(self.tracks.see(blips))
        self.course.append(dict(self.tracks.aircraft))


@dataclass(frozen=True, eq=False)
class Scope:
    """A pixel model with the autoencoder and the reader that it is used with."""

    pixels: Pixels
    coder: Coder
    eyes: Eyes

    @cached_property
    def _draw(self):
        network = model.ScopeModel(self.pixels.config, compute_dtype())

        def draw(params, known, told, key, config):
            return model.draw(network, {"params": params}, known, told, key, config)

        return jax.jit(draw, static_argnames="config")

    @cached_property
    def _params(self):
        compute = compute_dtype()
        keep = model.keeps_float32

        def cast(path, leaf):
            name = "/".join(part.key for part in path)
            return jnp.asarray(leaf, jnp.float32 if keep(name) else compute)

        return jax.tree_util.tree_map_with_path(cast, self.pixels.params)

    def run(
        self,
        windows: list[Window],
        pictures: int,
        config: SampleConfig,
        seed: int = 0,
        change: Change | None = None,
        film: Callable[[int, np.ndarray], None] | None = None,
    ) -> None:
        """Draws `pictures` of every window, all windows at once, and leaves in them what is read.

        Args:
          change: of the commands; None: as recorded.
          film: called with the number of each picture and all windows' pictures (W, H, W, 3) uint8.
        """
        for window in windows:
            self.coder.check(window.hour)
        airports = np.asarray([self.coder.number(window.hour.airport) for window in windows])
        given = [w.hour.pictures[w.start - 1 : w.start + 1] for w in windows]
        known = np.stack([self.coder.encode(g, int(a)) for g, a in zip(given, airports, strict=True)])
        known = jnp.asarray(known, jnp.float32)
        last = np.stack([w.hour.palette[w.hour.pictures[w.start]] for w in windows])
        for number in range(pictures):
            told, seen = self._told(windows, change), known
            if self.pixels.commands == "overlay":
                each = [jax.tree.map(lambda x, i=i: x[i], told) for i in range(len(windows))]
                over = [commands.overlay(*pair) for pair in zip(last, each, strict=True)]
                over = self.coder.colours_encoded(np.stack(over), airports)
                seen = jnp.stack([known[:, 0], over], 1)
                told = told.replace(present=np.zeros_like(told.present))
            key = jax.random.fold_in(jax.random.key(seed), number)
            normal = self.pixels.statistics(told)
            latents = self._draw(self._params, seen, normal, key, config=config)
            decoded = self.coder.decoded(latents, airports)
            last = np.asarray(jnp.round((decoded + 1.0) * 127.5).astype(jnp.uint8))
            blips = jax.device_get(self.eyes.seen(decoded))
            for index, window in enumerate(windows):
                window.see(jax.tree.map(lambda x, i=index: x[i], blips))
            if film is not None:
                film(number, last)
            known = jnp.stack([known[:, 1], latents], 1)

    def _told(self, windows: list[Window], change: Change | None):
        rows = []
        for window in windows:
            slots = window.slots(self.pixels.slots)
            track = window.tracks.track([int(i) for i in slots.ids], slots.track)
            slots = slots if change is None else change(slots, window)
            rows.append(commands.told(slots, track, window.reach_nm))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def exchange(slots: Slots, window: Window) -> Slots:
    """A `Change`: everybody gets another one's commands."""
    del window
    return commands.exchanged(slots)


LEAST_TURN = np.deg2rad(40.0)


def turning(slots: Slots) -> np.ndarray:
    """[K] radians that aircraft were just told to turn by, zero for others and for turns under LEAST_TURN."""
    held = (slots.panel["heading_mode"] == 1) & (slots.panel["commanded"] > 0) & ~slots.enters
    turn = commands.wrapped(slots.panel["assigned_heading_rad"] - slots.track.heading_rad)
    return np.where(held & (np.abs(turn) >= LEAST_TURN), turn, 0.0)


def reverse(slots: Slots, window: Window) -> Slots:
    """A `Change`: who is told to turn in a window's first interval turns the other way, and goes on to."""
    if not window.course:
        turn = turning(slots)
        window.kept = {
            int(slots.ids[i]): float(slots.track.heading_rad[i] - turn[i]) for i in np.flatnonzero(turn)
        }
    heading = slots.panel["assigned_heading_rad"].copy()
    for i, key in enumerate(slots.ids):
        heading[i] = window.kept.get(int(key), heading[i])
    return slots.replace(panel=slots.panel | {"assigned_heading_rad": heading})


def true_place(hour: Hour, t: int) -> dict[int, tuple[np.ndarray, float]]:
    """{aircraft: (place in pixels, altitude)} of those in view in a recorded picture."""
    here = np.flatnonzero(hour.in_view[t])
    ids, altitude = hour.column("id")[t].astype(int), hour.column("altitude_ft")[t]
    return {int(ids[c]): (hour.pixels[t, c], float(altitude[c])) for c in here}


def straight_on(hour: Hour, t: int, intervals: int) -> dict[int, np.ndarray]:
    """{aircraft: place in pixels} where those in both given pictures come to on their straight way."""
    before, now = true_place(hour, t - 1), true_place(hour, t)
    return {key: now[key][0] + intervals * (now[key][0] - before[key][0]) for key in now if key in before}


def commanded(hour: Hour, first: int, end: int) -> set[int]:
    """Aircraft that were given a command on pictures first to end - 1."""
    given = hour.column("commanded")[first:end] > 0
    return set(hour.column("id")[first:end][given].astype(int).tolist())


# Landings

LANDED_NM = 2.5  # from the middle of a picture, where the airport is
LANDED_FT = 500.0  # above the lowest altitude that was read so far
GONE = 2  # pictures in a row without a blip after which it is believed to be gone


def landings(hour: Hour, seen: Blips) -> dict[int, int]:
    """{arrival: first picture without it} of those that land as the pictures of an hour show them.

    Recorded are only who comes into view where, and who arrives, as a flight strip says.

    Args:
      seen: what is read of all pictures, leaves [T, K, ...].
    """
    tracks, found, before, lowest = Tracks(hour.px_per_nm, hour.side), {}, set(), np.inf
    arrivals = set(hour.column("id")[hour.column("category") == tr.ARRIVAL].astype(int).tolist())
    for t in range(len(hour.pictures)):
        tracks.see(jax.tree.map(lambda x, t=t: x[t], seen))
        for key, one in tracks.aircraft.items():
            lowest = min(lowest, one.altitude_ft) if one.readable else lowest
            apart_nm = np.linalg.norm(one.place - hour.side / 2) / hour.px_per_nm
            low = apart_nm < LANDED_NM and one.altitude_ft < lowest + LANDED_FT
            if one.missed == GONE and low and key in arrivals:
                found[key] = t - GONE + 1
        tracks.forget({key for key, one in tracks.aircraft.items() if one.missed < GONE})
        slots = commands.slots_of(hour, t, hour.table.shape[1])
        for i in np.flatnonzero((slots.columns >= 0) & ~slots.enters):
            if int(slots.ids[i]) not in before:
                track = jax.tree.map(lambda x, i=i: x[i], slots.track)
                tracks.enter(int(slots.ids[i]), track, slots.callsign[i])
        before = set(true_place(hour, t))
    return found


def landed(hour: Hour) -> dict[int, int]:
    """{arrival: first picture without it} of those that land in an hour, as it was recorded.

    Who lands in the last GONE pictures is left out: no picture can show it.
    """
    found = {}
    ids, landing = hour.column("id").astype(int), hour.column("phase") == tr.LANDING
    for t in range(1, len(hour.pictures) - GONE + 1):
        there = set(ids[t][hour.column("drawn")[t] > 0].tolist())
        found |= {int(key): t for key in ids[t - 1][hour.in_view[t - 1] & landing[t - 1]] if key not in there}
    return found


# The real game through pictures


@dataclass(eq=False)
class Sight:
    """The traffic of one episode of the real game as its pictures show it.

    Places, altitudes, headings and speeds of the aircraft in view come from pictures alone; who was not found
    in any is left out. The rest of the scene, which no screen shows, is left as it is given.
    """

    eyes: Eyes
    px_per_nm: float
    palette: np.ndarray
    tracks: Tracks | None = None

    def __call__(self, scene: tr.Scene, callsigns: Mapping[int, str], picture: np.ndarray) -> tr.Scene:
        """The scene [N] seen in a picture [H, W] of palette indices."""
        seen = self.eyes.seen(shown(picture[None], self.palette))  # `read` would fill up a batch
        blips = jax.tree.map(lambda x: x[0], jax.device_get(seen))
        if self.tracks is None:
            self.tracks = Tracks(self.px_per_nm, picture.shape[0])
        traffic = scene.traffic
        there = {int(traffic.id[i]): i for i in np.flatnonzero(drawn(traffic))}
        self.tracks.forget(set(there))
        self.tracks.see(blips)
        unknown = sorted(set(there) - set(self.tracks.aircraft))
        self.tracks.recognise({key: spelled(callsigns[key]) for key in unknown}, blips)
        columns = {name: np.array(getattr(traffic, name)) for name in (*SHOWN_COLUMNS, "valid")}
        reach_nm = (self.tracks.side / 2 - BLIP_PX) / self.px_per_nm
        for key in set(there) - set(self.tracks.aircraft):
            row = there[key]
            inside = max(abs(traffic.x_nm[row]), abs(traffic.y_nm[row])) <= reach_nm
            columns["valid"][row] = not inside
        for key, one in self.tracks.aircraft.items():
            x, y = (one.place - self.tracks.side / 2) / self.px_per_nm
            indicated = one.speed_kt / (1.0 + commands.TRUE_AIRSPEED_PER_FT * one.altitude_ft)
            values = (x, -y, one.altitude_ft, one.heading_rad, one.heading_rad, one.speed_kt, indicated)
            for name, value in zip(SHOWN_COLUMNS, values, strict=True):
                columns[name][there[key]] = value
        return scene.replace(traffic=traffic.replace(**columns))


SHOWN_COLUMNS = (
    *("x_nm", "y_nm", "altitude_ft", "heading_rad", "ground_track_rad", "ground_speed_kt", "speed_kt"),
)


def spelled(callsign: str) -> np.ndarray:
    """A callsign as classes [8]."""
    return letters(np.frombuffer(callsign.encode("ascii")[:CALLSIGN].ljust(CALLSIGN, b"\0"), np.uint8))
