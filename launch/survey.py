"""Survey the airports of the game: which load, how busy they are, what the bridge can't read of them.

    python -m launch.survey
    python -m launch.survey --airports kabq klas --minutes 10

Writes results.json, survey.md and survey.png. An airport that doesn't load is a line of the table, not
an error; see configs/survey.py.
"""

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from collect import GameError, airports
from collect.browser import Browser, BrowserLost
from collect.game import Game
from collect.server import Server
from collect.slots import COLUMNS
from configs import cli
from configs.survey import SurveyConfig
from launch.shared import records, runs
from launch.shared.processes import cpu_seconds
from launch.shared.records import Figure
from wm.sector import traffic as tr

COLOURS = {"beginner": "tab:green", "easy": "tab:blue", "medium": "tab:orange", "hard": "tab:red"}
TITLES = (
    ("airport", "icao"), ("level", "level"), ("aircraft, mean", "aircraft_mean"),
    ("most", "aircraft_most"), ("controllable, most", "controllable_most"), ("streams", "streams"),
    ("arrivals/h", "arrivals_per_h"), ("departures/h", "departures_per_h"), ("runways", "runways"),
    ("restricted", "restricted"), ("decisions/s of a core", "decisions_per_core_s"), ("not read", "not_read"),
)  # fmt: skip


def look(entry: airports.Entry, config: SurveyConfig, browser: Browser, on_step) -> dict:
    """Play one airport; a row of the table, with `error` where it can't be played."""
    row = {"icao": entry.icao, "name": entry.name, "level": entry.level}
    try:
        with Game(Server.of(config), entry.icao, config.seed, browser=browser) as game:
            counts, controllable, unread = [], [], Counter()
            before = cpu_seconds(os.getpid()).total()
            for _ in range(round(60 * config.minutes / tr.STEP_S)):
                traffic = tr.from_table(tr.Traffic, game.step().aircraft)
                counts.append(len(traffic.id))
                controllable.append(int(traffic.controllable.sum()))
                unread.update(not_read(traffic, game))
                on_step(1)
            # Of processor time, so that it doesn't matter what else the machine does.
            rate = len(counts) / (cpu_seconds(os.getpid()).total() - before)
            static, routes = game.static, game.snapshot.routes
    except BrowserLost:
        raise
    except GameError as error:
        return row | {"error": str(error).partition("; choose one of")[0]}
    hourly = Counter()
    for stream in static["streams"]:
        hourly[stream["category"]] += stream["rate_per_h"]
    return row | {
        "aircraft_mean": float(np.mean(counts)),
        "aircraft_most": max(counts),
        "controllable_most": max(controllable),
        "streams": len(static["streams"]),
        "arrivals_per_h": hourly["arrival"],
        "departures_per_h": hourly["departure"],
        "overflights_per_h": hourly["overflight"],
        "runways": len(static["runways"]),
        "volumes": len(static["airspace"]),
        "restricted": len(static["restricted"]),
        "routes_met": len(routes),
        "decisions_per_core_s": rate,
        "not_read": ", ".join(sorted(unread)),
    }


def not_read(traffic: tr.Traffic, game: Game) -> set[str]:
    """What the bridge cannot read of the aircraft present."""
    found = set()
    if (traffic.stream < 0).any():
        found.add("stream of an aircraft")
    if ((traffic.category == tr.ARRIVAL) & (traffic.runway < 0)).any():
        found.add("runway of an arrival")
    if ((traffic.category == tr.DEPARTURE) & (traffic.runway < 0)).any():
        found.add("runway of a departure")
    if (traffic.phase < 0).any() or (traffic.category < 0).any():
        found.add("phase or category")
    if len(traffic.id) > COLUMNS:
        found.add("more aircraft than a recording holds")
    return found


def survey(config: SurveyConfig) -> list[dict]:
    """A row for every airport. Raises GameError where the game's list can't be read."""
    entries = airports.enabled(Server.of(config))
    if config.airports:
        known = {entry.icao: entry for entry in entries}
        wanted = [icao.lower() for icao in config.airports]
        entries = [known.get(icao, airports.Entry(icao, "", "not enabled")) for icao in wanted]
    rows, decisions = [], round(60 * config.minutes / tr.STEP_S)
    with runs.progress(len(entries) * decisions, "decision") as line:
        for entry in entries:
            line.set_postfix_str(entry.icao)
            with Browser() as browser:  # of its own: no airport's speed depends on those before
                rows.append(look(entry, config, browser, line.update))
    return rows


def table(rows: list[dict], minutes: int) -> str:
    """The rows in Markdown, of so many minutes of game time each."""

    def cell(row: dict, name: str) -> str:
        value = row.get(name, "")
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    lines = [f"{minutes} minutes of the game at each airport, without commands, from a cold start.", ""]
    lines += [f"| {' | '.join(title for title, _ in TITLES)} |", f"|{' --- |' * len(TITLES)}"]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['icao']} | {row['level']} | {row['error']} |" + " |" * (len(TITLES) - 3))
        else:
            lines.append(f"| {' | '.join(cell(row, name) for _, name in TITLES)} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict], path: Path, minutes: int) -> None:
    """Aircraft and speed at every airport that loads."""
    rows = [row for row in rows if "error" not in row]
    rows.sort(key=lambda row: row["aircraft_mean"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 1.5 + 0.16 * len(rows)), layout="constrained", sharey=True
    )
    places = np.arange(len(rows))
    colours = [COLOURS.get(row["level"], "grey") for row in rows]
    left.barh(places, [row["aircraft_most"] for row in rows], color="lightgrey", label="most")
    left.barh(places, [row["aircraft_mean"] for row in rows], color=colours, height=0.5)
    left.set(xlabel=f"aircraft, mean and most of {minutes} min without commands", yticks=places)
    left.set_yticklabels([row["icao"] for row in rows], fontsize=7)
    left.margins(y=0.01)
    right.scatter([row["decisions_per_core_s"] for row in rows], places, color=colours, s=12)
    right.set(xlabel="decisions per second of one core", xlim=(0, None))
    for level, colour in COLOURS.items():
        right.scatter([], [], color=colour, label=level)
    right.legend(loc="lower right")
    figure.savefig(path, dpi=90)
    plt.close(figure)


def figures(rows: list[dict]) -> dict[str, Figure]:
    """Counts over all airports, and three figures of each that loads; n is decisions, or airports."""
    loaded = [row for row in rows if "error" not in row]
    clean = [row for row in loaded if not row["not_read"]]

    def count(value: float, unit: str, n: int) -> Figure:
        return Figure(value, value, value, unit, n)

    found = {
        "survey_enabled": count(len(rows), "airports", len(rows)),
        "survey_loaded": count(len(loaded), "airports", len(rows)),
        "survey_all_read": count(len(clean), "airports", len(rows)),
    }
    for row in loaded:
        units = {
            "aircraft_mean": "aircraft",
            "aircraft_most": "aircraft",
            "decisions_per_core_s": "decisions/s",
        }
        for name, unit in units.items():
            found[f"survey_{name}_{row['icao']}"] = count(row[name], unit, 1)
    return found


def main(argv: list[str] | None = None) -> None:
    """Survey, or say in one line why not."""
    config = cli.parse(SurveyConfig, argv)
    with runs.one_line_errors(GameError, ValueError, OSError):
        runs.commit()  # of the code that runs, whatever is edited meanwhile
        rows = survey(config)
        folder = config.out or runs.create("survey")
        folder.mkdir(parents=True, exist_ok=True)
        found = figures(rows)
        folders = [folder]
        if config.record:
            records.write(config.record, found)
            folders.append(records.DIRECTORY)
        for where in folders:
            (where / "survey.md").write_text(table(rows, config.minutes), encoding="utf-8")
            draw(rows, where / "survey.png", config.minutes)
        shown = {name: dataclasses.asdict(figure) for name, figure in found.items()}
        runs.write_results(folder, {"config": cli.to_json(config), "airports": rows, "figures": shown})
    print(table(rows, config.minutes), end="")
    print(f"{len([row for row in rows if 'error' not in row])} of {len(rows)} load; {folder}/survey.md")


if __name__ == "__main__":
    main(sys.argv[1:])
