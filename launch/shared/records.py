"""Measured figures, each with an interval and the command that measured it.

A record is `launch/records/<name>.json`:

    {"command", "commit", "date", "device", "versions",
     "figures": {name: {"value", "low", "high", "unit", "n"}}}

Several commands may own figures of one record. The top level then tells of the last that wrote, and a figure
measured by an earlier one keeps its own "command", "commit", "date", "device" and "versions". A figure has
one record: written into another, it leaves the one it was in.

`python -m launch.records_page` writes the README's table and launch/records/README.md from them.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from launch.shared.runs import provenance
from wm.store.provenance import write_json

DIRECTORY = Path(__file__).parents[1] / "records"
PROVENANCE = ("command", "commit", "date", "device", "versions")


class RecordError(ValueError):
    """A record is wrong; one line naming the figure."""


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval.

    Attributes:
      value, low, high: in `unit`, low <= value <= high.
      unit: such as "steps/s", "nm" or "points/h"; "" for a ratio.
      n: how many independent measurements (episodes, windows, repeats) it rests on.
    """

    value: float
    low: float
    high: float
    unit: str
    n: int

    def __post_init__(self):
        if not (np.isfinite([self.value, self.low, self.high]).all() and self.low <= self.value <= self.high):
            raise RecordError(f"{self.value} isn't a finite value within [{self.low}, {self.high}]")
        if self.n < 1:
            raise RecordError(f"n is {self.n}, must be 1 or more")


# Intervals


def poisson(count: int, exposure: float, unit: str, n: int, confidence: float = 0.95) -> Figure:
    """Rate of rare events with the exact (Garwood 1936) interval.

    Args:
      count: events seen.
      exposure: over how much, such as hours; the value is count / exposure. With no events the upper limit
        is one-sided: 3.0 / exposure at 95 %.
      unit: of the rate, such as "losses/h".
      n: episodes observed.
    """
    if count < 0 or exposure <= 0:
        raise RecordError(
            f"{count} events in {exposure}: counts can't be negative, exposure must be positive"
        )
    tail = (1 - confidence) / 2 if count else 1 - confidence
    low = stats.gamma.ppf(tail, count) if count else 0.0
    high = stats.gamma.ppf(1 - tail, count + 1)
    return Figure(count / exposure, float(low) / exposure, float(high) / exposure, unit, n)


def poisson_ratio(
    counts: tuple[int, int], exposures: tuple[float, float], n: int, confidence: float = 0.95
) -> Figure:
    """Ratio of two rates of rare events, the first over the second, with its exact interval.

    Of all events seen the first kind's are binomial, with a probability that the ratio decides; its interval
    is Clopper and Pearson's (1934), one-sided where the first kind was never seen.

    Args:
      counts, exposures: events seen of each kind, and over how much.
      n: episodes observed.

    Raises:
      RecordError: no events of the second kind, so that the ratio has no upper limit.
    """
    first, second = counts
    if first < 0 or second < 1 or min(exposures) <= 0:
        raise RecordError(
            f"{first} events in {exposures[0]} over {second} in {exposures[1]} is no ratio: "
            "the second kind must have been seen"
        )
    tail = (1 - confidence) / 2 if first else 1 - confidence
    low = stats.beta.ppf(tail, first, second + 1) if first else 0.0
    high = stats.beta.ppf(1 - tail, first + 1, second)
    odds = exposures[1] / exposures[0]
    value, low, high = (odds * p / (1 - p) for p in (first / (first + second), float(low), float(high)))
    return Figure(value, low, high, "", n)


def bootstrap(
    samples: Sequence[float] | np.ndarray,
    unit: str,
    seed: int,
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    resamples: int = 10_000,
    vectorized: bool = False,
) -> Figure:
    """Statistic of `samples [n, ...]` with its percentile bootstrap interval; whole rows are drawn.

    With rows of several numbers, `statistic(samples)` may combine columns, as a ratio of sums does. One
    sample, or equal ones, give an interval of no width: `n` says what it is worth. A `vectorized` statistic
    takes numpy's `axis`, so that all draws are computed at once.
    """
    samples = np.asarray(samples, np.float64)
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise RecordError(f"bootstrap needs finite samples, one at least; there are {len(samples)}")
    value = float(statistic(samples))
    if len(samples) == 1:
        return Figure(value, value, value, unit, 1)

    def of_draws(rows, axis):
        return statistic(samples[rows], axis=rows.ndim - 1)

    with warnings.catch_warnings():  # a statistic that some draws do not have is refused below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        drawn = stats.bootstrap(
            (np.arange(len(samples)),),
            of_draws if vectorized else lambda rows: statistic(samples[rows]),
            n_resamples=resamples,
            vectorized=vectorized,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    low, high = drawn.confidence_interval
    # A skewed statistic of few samples may lie outside its own percentile interval.
    return Figure(value, min(float(low), value), max(float(high), value), unit, len(samples))


# Files


def read(name: str, directory: Path = DIRECTORY) -> dict[str, Any]:
    """The record called `name`.

    Raises:
      RecordError: there is none, or it isn't in the format above.
    """
    path = directory / f"{name}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(path.stem for path in directory.glob("*.json"))) or "none"
        raise RecordError(f"no record {name!r}; there are: {known}") from error
    except ValueError as error:
        raise RecordError(f"{path.name} isn't JSON: {error}") from error
    if missing := [key for key in (*PROVENANCE, "figures") if key not in record]:
        raise RecordError(f"{path.name} has no {missing[0]!r}")
    for figure in record["figures"]:
        figure_of(record, figure, name)
    return record


def figure_of(record: dict[str, Any], figure: str, name: str) -> Figure:
    """One figure of a record.

    Raises:
      RecordError: it has none of that name, or not with value, low, high, unit and n.
    """
    if figure not in record["figures"]:
        raise RecordError(f"record {name!r} has no figure {figure!r}; it has {', '.join(record['figures'])}")
    entry = {key: value for key, value in record["figures"][figure].items() if key not in PROVENANCE}
    try:
        return Figure(**entry)
    except (TypeError, RecordError) as error:
        raise RecordError(f"figure {name}.{figure}: {error}") from error


def line(name: str, figure: str) -> str:
    """A figure as text: its name, value, 95 % interval, unit and n. Raises as `figure_of` does."""
    f = figure_of(read(name), figure, name)
    value, low, high = (f"{x:,.6g}" for x in (f.value, f.low, f.high))
    return f"  {figure:42s} {value:>12s}  ({low} to {high}) {f.unit}, n = {f.n}"


def write(name: str, figures: dict[str, Figure], directory: Path = DIRECTORY) -> Path:
    """Merges figures into a record; those of other commands stay, with where they came from.

    Figures of these names leave all other records.
    """
    now = provenance()
    merged = {}
    if (directory / f"{name}.json").exists():
        before = read(name, directory)
        source = {key: before[key] for key in PROVENANCE}
        merged = {figure: {**source, **entry} for figure, entry in before["figures"].items()}
    merged |= {figure: asdict(value) for figure, value in figures.items()}
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    write_json(path, {**now, "figures": merged})
    for other in sorted(directory.glob("*.json")):
        if other != path:
            _disown(other, set(figures))
    return path


def _disown(path: Path, names: set[str]) -> None:
    """Takes figures out of a record, which goes with the last of them."""
    record = read(path.stem, path.parent)
    left = {name: entry for name, entry in record["figures"].items() if name not in names}
    if not left:
        path.unlink()
    elif len(left) < len(record["figures"]):
        write_json(path, {**record, "figures": left})
