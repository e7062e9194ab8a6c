"""Check that nothing is taken that does not belong, and that nothing is lost when a command is broken off.

    python -m launch.check_faults fuzz --record people
    python -m launch.check_faults drill --record people --url http://localhost:3003

Writes results.json and, of a drill, table.md; ends with status 1 where something is wrong. What was wrongly
taken stays in the run folder. See configs/fault_checks.py.
"""

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from configs import cli
from configs.fault_checks import Drill, Fuzz
from launch.faults import damaged, drills, fuzz, playing
from launch.faults.readers import READERS
from launch.records_page import markdown
from launch.shared import records, runs
from launch.shared.records import Figure, RecordError
from wm.store.provenance import write_json

SHOWN = 40  # crashes in one list
FEWEST = 30  # faults of a record


def count(value: int, unit: str, n: int) -> Figure:
    """A figure that was counted."""
    return Figure(value, value, value, unit, n)


def run_fuzz(config: Fuzz, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Spoil and read; returns (results, figures, faults)."""
    outcomes = []
    with (
        os.fdopen(os.dup(2), "w") as terminal,
        contextlib.redirect_stderr(terminal),
        runs.progress(len(config.readers) * config.inputs, "input") as line,
        fuzz.quiet(folder / "said.log"),
    ):
        for name in config.readers:
            for outcome in fuzz.fuzz(READERS[name], config.inputs, config.draw, folder):
                outcomes.append(outcome)
                line.update()
    crashes = [outcome for outcome in outcomes if outcome.crashed]
    figures = {
        "fuzz_inputs": count(len(outcomes), "inputs", len(outcomes)),
        "fuzz_crashes": count(len(crashes), "inputs", len(outcomes)),
    }
    faults = [f"{o.reader} {o.number} ({o.done[:80]}): {o.ended} {o.said[:200]}" for o in crashes[:SHOWN]]
    results = {"outcomes": fuzz.summary(outcomes), "crashes": [dataclasses.asdict(o) for o in crashes]}
    return results, figures, faults


def rows_of(config: Drill, folder: Path) -> Iterator[drills.Row]:
    """Every fault, one after the other; what was done before, in the same folder, is not done again."""
    bench = drills.Bench(folder, config.draw)
    todo = [(d.command, d.fault, partial(damaged.refuse, bench, d)) for d in damaged.DAMAGES]
    plan = [pair for pair in drills.plan() if config.slow or pair[0] not in drills.SLOW]
    todo += [(name, fault, partial(drills.drill, bench, name, fault)) for name, fault in plan]
    if config.url and config.game:
        todo += [("game", name, partial(playing.break_off, bench, config, name)) for name in playing.NAMES]
    chosen = [one for one in todo if not config.commands or one[0] in config.commands]
    if config.record and len(chosen) < FEWEST:
        raise ValueError(
            f"record takes {FEWEST} faults or more, these are {len(chosen)}: name more --commands"
        )
    for command, fault, do in runs.track(chosen, "fault"):
        done = folder / "rows" / f"{command}-{fault}.json".replace(" ", "-")
        if not done.exists():
            done.parent.mkdir(exist_ok=True)
            write_json(done, do().as_dict())
        yield drills.Row(**json.loads(done.read_text()))


def run_drill(config: Drill, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Break and mend; returns (results, figures, faults)."""
    config = dataclasses.replace(config, url=config.url or os.environ.get("OPENSCOPE_URL"))
    rows = list(rows_of(config, folder))
    shown = [("command", "fault", "status", "kept", "lost", "what the user reads")]
    for row in rows:
        said = row.said.replace(str(folder), "...").replace("|", "/")[:160]
        shown.append((row.command, row.fault, str(row.status), str(row.kept), str(len(row.lost)), said))
    (folder / "table.md").write_text("\n".join(markdown(shown)) + "\n", encoding="utf-8")
    figures = {
        "interruptions_tried": count(len(rows), "faults", len(rows)),
        "interruptions_lost": count(sum(bool(row.lost) for row in rows), "faults", len(rows)),
    }
    faults = [f"{row.command}, {row.fault}: {text}" for row in rows for text in (*row.lost, *row.problems)]
    return {"faults_tried": [row.as_dict() for row in rows]}, figures, faults


def _terminate(signum, frame):
    """SIGTERM (a batch system's time limit) ends like Ctrl-C."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> None:
    """Check, or say in one line why not."""
    config = cli.parse(Fuzz | Drill, argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        faults = check(config)
    except KeyboardInterrupt:
        runs.fail("interrupted before the check was done", 130)
    if faults:
        runs.fail("; ".join(faults))


def check(config: Fuzz | Drill) -> list[str]:
    """Run one check and write what it found; returns what it found wrong, one line each."""
    with runs.one_line_errors(RecordError, ValueError, OSError):
        runs.commit()
        verb = type(config).__name__.lower()
        folder = (config.out or runs.create(f"check-{verb}")).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results, figures, faults = (run_fuzz if isinstance(config, Fuzz) else run_drill)(config, folder)
        shown = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
        runs.write_results(
            folder, {"config": cli.to_json(config), "figures": shown, "faults": faults, **results}
        )
        if config.record:
            records.write(config.record, figures)
    for name, figure in figures.items():
        print(f"{name}: {figure.value:g} {figure.unit}, n = {figure.n}")
    print(f"{folder}/results.json")
    return faults


if __name__ == "__main__":
    main(sys.argv[1:])
