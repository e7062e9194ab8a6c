"""Say what recordings hold and what they lack: phases, commands, speeds, altitudes, encounters, streams.

    python -m launch.coverage --data runs/recordings

Writes results.json, coverage.md and coverage.png into a run folder, and prints the text.
"""

import itertools
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm

from collect import dataset
from collect.coverage import ALTITUDE_FT, APPROACH_NM, SPEED_KT, VERBS, Coverage, cover
from collect.store import DataError
from configs import cli
from configs.data import CoverageReport
from launch.shared import runs
from wm.sector import traffic as tr


def text(coverage: Coverage) -> str:
    """The report in Markdown."""
    hours = coverage.decisions * tr.STEP_S / 3600
    lines = [f"{coverage.episodes} episodes, {hours:.1f} h, {coverage.decisions} decisions.", ""]
    for setting in ("airport", "policy", "traffic", "wind"):
        parts = [f"{v} {h:.1f} h" for (name, v), h in sorted(coverage.settings.items()) if name == setting]
        lines.append(f"* {setting}: {', '.join(parts)}")
    most = int(np.flatnonzero(coverage.aircraft).max(initial=0))
    mean = (coverage.aircraft * np.arange(65)).sum() / max(1, coverage.aircraft.sum())
    lines += [
        f"* aircraft: {mean:.1f} in the mean, {most} at the most",
        f"* events: {', '.join(f'{n} {c}' for n, c in coverage.events.most_common()) or 'none'}",
        f"* approaches that ended in the air: {coverage.go_arounds}",
        "",
        f"| aircraft-decisions and commands | {' | '.join(tr.PHASES)} |",
        f"|{' --- |' * (len(tr.PHASES) + 1)}",
        f"| aircraft | {' | '.join(map(str, coverage.phases))} |",
    ]
    for verb, name in VERBS.items():
        lines.append(f"| {name} | {' | '.join(map(str, coverage.verbs[verb]))} |")
    lines += ["", "| pairs at one level, nm apart | pairs x decisions |", "| --- | --- |"]
    bins = itertools.pairwise(APPROACH_NM)
    for (low, high), count in zip(bins, coverage.approaches, strict=True):
        lines.append(f"| {low:g} to {high:g} | {count} |")
    lines += ["", "| airport | streams seen | of |", "| --- | --- | --- |"]
    for icao, counts in sorted(coverage.streams.items()):
        lines.append(f"| {icao} | {(counts > 0).sum()} | {len(counts)} |")
    gaps = coverage.gaps()
    lines += ["", "Not seen, or hardly:", ""] + ([f"* {gap}" for gap in gaps] or ["* nothing is missing"])
    return "\n".join(lines) + "\n"


def draw(coverage: Coverage, path: Path) -> None:
    """Commands by phase, speeds by altitude, encounters, and how full the sectors were."""
    figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    shown = np.vstack([coverage.phases, coverage.verbs])
    a.imshow(np.where(shown, shown, np.nan), aspect="auto", norm=LogNorm(1, max(10, shown.max())))
    for (i, j), count in np.ndenumerate(shown):
        a.text(j, i, count, ha="center", va="center", fontsize=7, color="black" if count else "red")
    a.set_xticks(range(len(tr.PHASES)), tr.PHASES, rotation=45, fontsize=7)
    a.set_yticks(range(len(shown)), ["aircraft", *VERBS.values()])
    a.set_title("aircraft and commands by phase; red: never seen")
    mesh = np.where(coverage.speed_altitude, coverage.speed_altitude, np.nan).T
    b.pcolormesh(SPEED_KT, ALTITUDE_FT / 1e3, mesh, norm=LogNorm(1, max(10, coverage.speed_altitude.max())))
    b.set(xlabel="indicated airspeed (kt)", ylabel="altitude (1000 ft)", title="where they flew")
    names = [f"{low:g}-{high:g}" for low, high in itertools.pairwise(APPROACH_NM)]
    c.bar(names, np.maximum(coverage.approaches, 0.5))
    c.set(yscale="log", xlabel="nm apart, less than 1000 ft", ylabel="pairs x decisions", title="encounters")
    d.bar(range(65), coverage.aircraft)
    d.set(xlabel="aircraft at once", ylabel="decisions", title="how full the sectors were")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Report, or say in one line why not."""
    arguments = cli.parse(CoverageReport, argv)
    with runs.one_line_errors(DataError, OSError):
        coverage = cover(runs.track(dataset.load(arguments.data, arguments.use), "episode"))
        folder = arguments.out or runs.create("coverage")
        folder.mkdir(parents=True, exist_ok=True)
        report = text(coverage)
        (folder / "coverage.md").write_text(report, encoding="utf-8")
        draw(coverage, folder / "coverage.png")
        counts = {
            "phases": dict(zip(tr.PHASES, coverage.phases.tolist(), strict=True)),
            "verbs": {name: coverage.verbs[verb].tolist() for verb, name in VERBS.items()},
            "approaches": coverage.approaches.tolist(),
            "streams": {icao: counts.tolist() for icao, counts in coverage.streams.items()},
            "events": dict(coverage.events),
            "go_arounds": coverage.go_arounds,
            "hours": {f"{name} {value}": hours for (name, value), hours in coverage.settings.items()},
        }
        runs.write_results(
            folder, {"config": cli.to_json(arguments), "gaps": coverage.gaps(), "counts": counts}
        )
    print(report, end="")
    print(f"{folder}/coverage.png")


if __name__ == "__main__":
    main(sys.argv[1:])
