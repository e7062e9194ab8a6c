"""`scope_judge`: what a run of `scope_train` can do on test hours, in figures with intervals.

    python -m launch.cosmos scope_judge --run runs/scope/run --data runs/scope/test --out runs/scope/judged

Below --out come results.json, and drawn.png and drawn.mp4: recorded pictures beside drawn ones.
"""

import time
from dataclasses import asdict

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from configs import cli
from configs.scope import ScopeJudge
from launch.shared import records, runs
from launch.shared.film import Film
from launch.shared.records import Figure
from wm.cosmos.sampling.sample import SampleConfig
from wm.cosmos.scope import commands, crops, hours, rollout
from wm.cosmos.scope.coder import shown
from wm.cosmos.scope.hours import INTERVAL_S, Hour
from wm.cosmos.scope.reader import Blips, Tracks
from wm.cosmos.scope.rollout import Scope, Window
from wm.cosmos.scope.stored import Coder, Eyes, Pixels
from wm.store.checkpoints import CheckpointError

LOST_NM = 10.0  # the error of an aircraft that was not found in two pictures, or in none so far
FOUND_PX = 4.0  # a blip within so much of an aircraft is its own
TRUSTED_NM = 1.0


class Judge:
    """The parts of a run, its test hours, and the figures so far."""

    def __init__(self, config: ScopeJudge):
        self.config = config
        self.hours = [hours.load(path, "test") for path in hours.find(config.data)]
        hours.check_alike(self.hours)
        self.coder = Coder.load(config.run / "coder")
        self.eyes = Eyes.load(config.run / "reader")
        self.airport = self.coder.number(self.hours[0].airport)
        self.figures: dict[str, Figure] = {}
        self._read: dict[int, Blips] = {}

    def put(self, name: str, samples, unit: str, statistic=np.mean) -> None:
        """Keep and print a figure of independent samples, if there are any."""
        samples = np.asarray(samples, np.float64)
        if not len(samples):
            print(f"{name}{self.config.suffix}: no samples", flush=True)
            return
        figure = records.bootstrap(samples, unit, 0, statistic, resamples=1000)
        self.figures[name + self.config.suffix] = figure
        interval = f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
        print(f"{name}{self.config.suffix}: {interval} {unit}, n = {figure.n}", flush=True)

    # Round trip and reading

    def reading(self) -> None:
        """The reader on recorded pictures, and on the same after the autoencoder."""
        rows: dict[str, list] = {}
        for hour in self.hours:
            self.coder.check(hour)
            seen = self._seen(hour)
            self._read_hour(hour, seen, rows)
            some = np.arange(0, len(hour.pictures), 6)
            latents = self.coder.encode(hour.pictures[some], self.airport)
            again = self.eyes.read(self.coder.decode(latents, self.airport))
            _round_trip(hour, some, jax.tree.map(lambda x, some=some: x[some], seen), again, rows)
        for name, unit, statistic in (
            ("reader_recall", "", np.mean),
            ("reader_false", "/picture", np.mean),
            ("reader_px", "px", np.median),
            ("reader_digits", "", np.mean),
            ("reader_altitude", "", np.mean),
            ("reader_heading", "deg", np.median),
            ("reader_callsigns", "", np.mean),
            ("vae_digits", "", np.mean),
            ("vae_px", "px", np.median),
        ):
            self.put(name, rows.get(name, []), unit, statistic)
        self.save()

    def save(self) -> None:
        """Write the figures that there are: a judge that is cut off has lost none of them."""
        kept = {name: asdict(figure) for name, figure in self.figures.items()}
        runs.write_results(self.config.out, {"config": cli.to_json(self.config), "figures": kept})

    def landings(self) -> None:
        """Who lands, told by tracks that are read off pictures."""
        each = [hits(rollout.landings(hour, self._seen(hour)), rollout.landed(hour)) for hour in self.hours]
        self.put("landing_f1", [row for rows in each for row in rows], "", ratio)

    def _seen(self, hour: Hour) -> Blips:
        if id(hour) not in self._read:
            self._read[id(hour)] = self.eyes.read(np.asarray(shown(hour.pictures, hour.palette)))
        return self._read[id(hour)]

    def _read_hour(self, hour: Hour, seen: Blips, rows: dict[str, list]) -> None:
        tracks = Tracks(hour.px_per_nm, hour.side)
        for t in range(len(hour.pictures)):
            blips = jax.tree.map(lambda x, t=t: x[t], seen)
            pairs, stray = matched(hour, t, blips)
            here = np.flatnonzero(hour.in_view[t])
            rows.setdefault("reader_recall", []).extend(column in pairs for column in here)
            rows.setdefault("reader_false", []).append(stray)
            compare(hour, t, blips, pairs, rows)
            altitudes(hour, t, blips, tracks, rows)

    # Windows

    def drawing(self) -> None:
        """Windows drawn under their own and under exchanged commands, and with turns reversed."""
        config = self.config
        scope = Scope(Pixels.load(config.run / "model", self.coder), self.coder, self.eyes)
        how = SampleConfig(config.sampler_steps, "euler", "few") if scope.pixels.shortcut else SampleConfig(
            config.sampler_steps, shift=scope.pixels.shift
        )  # fmt: skip
        starts = self._starts()
        own = self._drawn(scope, how, starts, config.pictures, None, film=True)
        self.course_of(own)
        self.save()
        other = self._drawn(scope, how, starts, config.pictures, rollout.exchange)
        last = config.pictures
        pairs = [[sum(errors([window], last)[0]) for window in both] for both in zip(other, own, strict=True)]
        median = [np.median(errors(windows, last)[0] or [np.nan]) for windows in (own, other)]
        print(f"medians under own and exchanged commands: {median[0]:.3g}, {median[1]:.3g} nm", flush=True)
        self.put(f"exchanged_ratio_{scope.pixels.commands}", pairs, "", ratio)
        turns = self._turn_starts()
        if turns:
            self.put("reversed_obeyed", obeyed(self._drawn(scope, how, turns, 2, rollout.reverse)), "")

    def _starts(self) -> list[tuple[Hour, int]]:
        """Beginnings at equal distances in all hours, the first five minutes left out."""
        each = -(-self.config.windows // len(self.hours))
        found = []
        for hour in self.hours:
            last = len(hour.pictures) - 1 - self.config.pictures
            found += [(hour, int(t)) for t in np.linspace(min(20, last), last, each)]
        return found[: self.config.windows]

    def _turn_starts(self) -> list[tuple[Hour, int]]:
        found = [
            (hour, t)
            for hour in self.hours
            for t in range(1, len(hour.pictures) - 3)
            if rollout.turning(commands.slots_of(hour, t)).any()
        ]
        chosen = np.linspace(0, len(found) - 1, min(len(found), 2 * self.config.windows)).astype(int)
        return [found[i] for i in chosen]

    def _drawn(self, scope: Scope, how, starts, pictures: int, change, film: bool = False) -> list[Window]:
        windows = [Window.of(hour, t) for hour, t in starts]
        size = self.config.batch
        for start in range(0, len(windows), size):
            part = windows[start : start + size]
            filler = [Window.of(part[-1].hour, part[-1].start) for _ in range(size - len(part))]
            keeper = Film(part) if film and start == 0 else None
            before = time.perf_counter()
            scope.run(part + filler, pictures, how, self.config.seed + start, change, keeper)
            seconds = time.perf_counter() - before
            print(f"{len(part)} windows of {pictures} pictures in {seconds:.0f} s", flush=True)
            if keeper is not None:
                keeper.save(self.config.out)
                for count in sorted({min(4, pictures), pictures}):
                    for name, values in keeper.likeness(count).items():
                        unit = "dB" if name.startswith("psnr") else ""
                        self.put(f"{name}_{INTERVAL_S * count:.0f}s", values, unit)
        return windows

    def course_of(self, windows: list[Window]) -> None:
        """Position, altitude, legibility and survival of aircraft in drawn windows."""
        most = self.config.pictures
        for count in sorted({min(4, most), most}):
            place, altitude, still, straight = errors(windows, count)
            name = f"{INTERVAL_S * count:.0f}s"
            self.put(f"position_{name}", place, "nm", np.median)
            self.put(f"last_picture_{name}", still, "nm", np.median)
            self.put(f"constant_velocity_{name}", straight, "nm", np.median)
            self.put(f"altitude_{name}", altitude, "ft", np.median)
            self.put(f"digits_{name}", [sure for sure, _ in legible(windows, count)], "")
            self.put(f"numbers_right_{name}", [right for _, right in legible(windows, count)], "")
            self.put(f"lost_{name}", astray(windows, count), "", ratio)
        medians = [np.median(errors(windows, count)[0] or [np.nan]) for count in range(1, most + 1)]
        print("median error (nm) of pictures 1, 2, ...: " + " ".join(f"{value:.2f}" for value in medians))
        trusted = np.flatnonzero(np.asarray(medians) >= TRUSTED_NM)
        last = int(trusted[0]) if len(trusted) else most
        self.put("horizon_s", [INTERVAL_S * last], "s")


def matched(hour: Hour, t: int, blips: Blips) -> tuple[dict[int, int], int]:
    """{column: blip} of aircraft in view whose blip was found, and how many blips are nobody's.

    Blips at aircraft that are drawn but not wholly inside the picture are neither.
    """
    found = np.flatnonzero(blips.found)
    drawn = np.flatnonzero(hour.column("drawn")[t] > 0)
    if not len(found) or not len(drawn):
        return {}, len(found)
    apart = np.linalg.norm(hour.pixels[t, drawn][:, None] - blips.place[found], axis=-1)
    cheapest = zip(*linear_sum_assignment(apart), strict=True)
    pairs = [(drawn[row], found[column]) for row, column in cheapest if apart[row, column] < FOUND_PX]
    return {int(c): int(b) for c, b in pairs if hour.in_view[t, c]}, len(found) - len(pairs)


def compare(hour: Hour, t: int, blips: Blips, pairs: dict[int, int], rows: dict[str, list]) -> None:
    """Put into `rows` how places, digits, callsigns and headings differ from what was recorded."""
    whole = crops.clear(hour, t)
    for column, blip in pairs.items():
        callsign, altitude, speed, _ = crops.read_off(hour, t, column)
        off = np.linalg.norm(hour.pixels[t, column] - blips.place[blip])
        rows.setdefault("reader_px", []).append(off)
        turn = commands.wrapped(blips.heading_rad[blip] - hour.column("heading_rad")[t, column])
        rows.setdefault("reader_heading", []).append(np.rad2deg(abs(turn)))
        if whole[column, 0]:
            read = blips.callsign[blip].argmax(-1)
            rows.setdefault("reader_callsigns", []).append((read == callsign).all())
        if whole[column, 1]:
            read = digits_of(blips.altitude_ft[blip], blips.speed_kt[blip])
            rows.setdefault("reader_digits", []).extend(read == np.concatenate([altitude, speed]))


def digits_of(altitude_ft: float, speed_kt: float) -> np.ndarray:
    """The five digits of a data block: hundreds of feet, tens of knots."""
    altitude = crops.digits(np.round(altitude_ft / 100), 3)
    return np.concatenate([altitude, crops.digits(np.round(speed_kt / 10), 2)])


def altitudes(hour: Hour, t: int, blips: Blips, tracks: Tracks, rows: dict[str, list]) -> None:
    """Follow the aircraft of a recorded hour; put into `rows` whose altitude is within 100 ft."""
    truth = rollout.true_place(hour, t)
    tracks.forget(set(truth))
    tracks.see(blips)
    slots = commands.slots_of(hour, t)
    for key, (_, altitude) in truth.items():
        if key in tracks.aircraft:
            right = abs(tracks.aircraft[key].altitude_ft - altitude) <= 100.0
            rows.setdefault("reader_altitude", []).append(right)
        else:
            slot = int(np.flatnonzero(slots.ids == key)[0])
            tracks.enter(key, jax.tree.map(lambda x, i=slot: x[i], slots.track), slots.callsign[slot])


def _round_trip(hour: Hour, some: np.ndarray, before: Blips, after: Blips, rows: dict[str, list]) -> None:
    for row, t in enumerate(some):
        one, two = (jax.tree.map(lambda x, r=row: x[r], blips) for blips in (before, after))
        first, second = matched(hour, t, one)[0], matched(hour, t, two)[0]
        whole = crops.clear(hour, t)
        for column, blip in second.items():
            if column in first:
                moved = np.linalg.norm(two.place[blip] - one.place[first[column]])
                rows.setdefault("vae_px", []).append(moved)
            if whole[column, 1]:
                truth = np.concatenate(crops.read_off(hour, t, column)[1:3])
                read = digits_of(two.altitude_ft[blip], two.speed_kt[blip])
                rows.setdefault("vae_digits", []).extend(read == truth)


def hits(found: dict[int, int], true: dict[int, int]) -> list[tuple[int, int]]:
    """Of everybody who lands as found or in truth: twice whether that is the same within a picture, and in
    how many of the two. The ratio of the sums is F1.
    """
    near = {key for key in found.keys() & true.keys() if abs(found[key] - true[key]) <= 1}
    return [(2 * (key in near), (key in found) + (key in true)) for key in sorted(found.keys() | true.keys())]


def ratio(rows: np.ndarray) -> float:
    """The sum of the first column over that of the second."""
    return rows[:, 0].sum() / max(rows[:, 1].sum(), 1e-9)


def lost(missed: int, count: int) -> bool:
    """Whether an aircraft that was not found in the last `missed` of `count` drawn pictures is lost."""
    return missed > 1 or missed >= count


def errors(windows: list[Window], count: int) -> tuple[list[float], ...]:
    """Of commanded aircraft `count` pictures after the given ones: position (nm) and altitude (ft) of the
    drawn, then position (nm) of the last picture and of straight flight.
    """
    place, altitude, still, straight = [], [], [], []
    for window in windows:
        hour, t = window.hour, window.start
        begin, end = rollout.true_place(hour, t), rollout.true_place(hour, t + count)
        ahead, course = rollout.straight_on(hour, t, count), window.course[count - 1]
        for key in set(begin) & set(end) & set(ahead) & rollout.commanded(hour, t, t + count):
            true, true_ft = end[key]
            seen = course[key]
            off = np.linalg.norm(seen.place - true) / hour.px_per_nm
            off = LOST_NM if lost(seen.missed, count) else off
            place.append(min(LOST_NM, off))
            altitude.append(abs(seen.altitude_ft - true_ft))
            still.append(np.linalg.norm(begin[key][0] - true) / hour.px_per_nm)
            straight.append(np.linalg.norm(ahead[key] - true) / hour.px_per_nm)
    return place, altitude, still, straight


def legible(windows: list[Window], count: int) -> list[tuple[bool, bool]]:
    """Of numbers that are clear in the recorded picture: whether the reader is sure of those in the drawn
    one, and whether it reads altitude and speed as they are recorded.
    """
    found = []
    for window in windows:
        hour, t = window.hour, window.start + count
        whole, ids = crops.clear(hour, t)[:, 1], hour.column("id")[t].astype(int)
        for column in np.flatnonzero(hour.in_view[t] & whole):
            one = window.course[count - 1].get(int(ids[column]))
            if one is not None:
                truth = np.concatenate(crops.read_off(hour, t, column)[1:3])
                right = (digits_of(one.altitude_ft, one.speed_kt) == truth).all()
                found.append((one.readable, bool(one.readable and right)))
    return found


def astray(windows: list[Window], count: int) -> list[tuple[int, int]]:
    """Of every window: aircraft that were lost, and blips that are nobody's; aircraft in view."""
    found = []
    for window in windows:
        true, course = rollout.true_place(window.hour, window.start + count), window.course[count - 1]
        gone = sum(key not in course or lost(course[key].missed, count) for key in true)
        found.append((gone + window.stray[count - 1], len(true)))
    return found


def obeyed(windows: list[Window]) -> list[bool]:
    """Of aircraft whose turn was reversed, whether they turned that way within two pictures."""
    found = []
    for window in windows:
        begin = rollout.true_place(window.hour, window.start)
        slots = commands.slots_of(window.hour, window.start)
        for slot in np.flatnonzero(rollout.turning(slots)):
            key = int(slots.ids[slot])
            if key in begin and key in window.course[1] and window.course[1][key].missed == 0:
                east, south = window.course[1][key].place - window.course[0][key].place
                turned = commands.wrapped(np.arctan2(east, -south) - slots.track.heading_rad[slot])
                found.append(bool(np.sign(turned) == -np.sign(rollout.turning(slots)[slot])))
            else:
                found.append(False)
    return found


def main(argv: list[str]) -> None:
    """Measure, and write results.json."""
    config = cli.parse(ScopeJudge, argv)
    with runs.one_line_errors(ValueError, OSError, CheckpointError):
        config.out.mkdir(parents=True, exist_ok=True)
        judge = Judge(config)
        if "reading" in config.parts:
            judge.reading()
        if "landings" in config.parts:
            judge.landings()
        if "drawing" in config.parts and (config.run / "model").exists():
            judge.drawing()
        judge.save()
        if config.record:
            records.write(config.record, judge.figures)
