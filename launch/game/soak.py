"""Whether a long recording stays as large as it was: the memory of the recorder, its driver and its browser.

A recording is started as a user would, ended after `hours` by SIGTERM and validated. Memory is that of
every process of the family (see launch.shared.processes). It is read when an episode has just been stored,
because a recorder holds the episode that it plays in memory.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from collect import store
from collect.validate import validate
from configs.game_checks import Soak
from launch.game.kill import named
from launch.shared import runs
from launch.shared.processes import memory_mb
from launch.shared.records import Figure, bootstrap
from wm.store.provenance import ROOT

POLL_S = 1.0
END_TIMEOUT_S = 120.0


def run(config: Soak, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Record, watch, end; returns (results, figures, faults)."""
    out = folder / "recordings"
    if store.written_directories(out):
        raise ValueError(f"{out} holds recordings already: choose another --out")
    with open(folder / "recorder.log", "w") as log:
        process = subprocess.Popen(command(config, out), cwd=ROOT, stdout=log, stderr=log)
        try:
            rows = watch(process, config, out)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = _end(process)
    *_, report = validate(out)
    draw(rows, folder / "memory.png")
    found = {
        "samples": rows,
        "status": status,
        "episodes": report.episodes,
        "validate": [finding.text for finding in report.faults],
    }
    return found, figures(rows, config), faults(found, rows, config)


def command(config: Soak, out: Path) -> list[str]:
    """The recording's command line; it asks for more episodes than there is time for."""
    return [
        *(sys.executable, "-m", "launch.record", "--out", str(out.resolve())),
        *("--airports", config.airport, "--policies", *config.policies),
        *("--picture-px", str(config.picture_px), "--pages", str(config.pages)),
        *("--minutes", str(config.minutes), "--episodes", "100000"),
        *config.options(),
    ]


def watch(process: subprocess.Popen, config: Soak, out: Path) -> list[dict]:
    """A row per stored episode: {"s", "episodes", "mb", "by_kind"}.

    Raises ValueError where the recording ends by itself.
    """
    rows, stored, begin = [], 0, time.monotonic()
    end = 3600 * config.hours
    with runs.progress(end, "s") as line:
        while (elapsed := time.monotonic() - begin) < end:
            if process.poll() is not None:
                raise ValueError("the recording ended by itself: see recorder.log in the run folder")
            now = len(named(out)) if out.exists() else 0
            if now > stored:
                stored = now
                memory = memory_mb(process.pid)
                rows.append({"s": elapsed, "episodes": stored, "mb": memory.total(), "by_kind": dict(memory)})
                with open(out.parent / "memory.jsonl", "a") as samples:  # stays if the soak is ended early
                    samples.write(f"{json.dumps(rows[-1])}\n")
                line.set_postfix_str(f"{stored} episodes, {rows[-1]['mb']:.0f} MB")
            line.update(min(elapsed, end) - line.n)
            time.sleep(POLL_S)
    return rows


def _end(process: subprocess.Popen) -> int | None:
    """The status of a recording that was told to end; None where it had to be killed."""
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def growth(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """The samples of the second and of the last fifth of the time; the first warms up."""
    last = rows[-1]["s"]
    return (
        [row for row in rows if last / 5 <= row["s"] < 2 * last / 5],
        [row for row in rows if row["s"] >= 4 * last / 5],
    )


def figures(rows: list[dict], config: Soak) -> dict[str, Figure]:
    """Growth from the second to the last fifth; n is the number of episodes in both."""
    early, late = growth(rows) if len(rows) >= 5 else ([], [])
    if not early or not late:
        return {}
    samples = [(row["mb"], float(row in late)) for row in early + late]

    def difference(drawn):
        new = drawn[:, 1] == 1.0
        if new.all() or not new.any():
            return 0.0
        return drawn[new, 0].mean() - drawn[~new, 0].mean()

    hours = rows[-1]["s"] / 3600
    return {
        "soak_growth_mb": bootstrap(samples, "MB", seed=0, statistic=difference),
        "soak_hours": Figure(hours, hours, hours, "h", 1),
        "soak_mb": bootstrap([row["mb"] for row in late], "MB", seed=0),
    }


def faults(found: dict, rows: list[dict], config: Soak) -> list[str]:
    """What went wrong, one line each."""
    problems = [f"validation: {text}" for text in found["validate"]]
    if found["status"] != 1:
        problems.append(f"told to end, the recording ended with status {found['status']} instead of 1")
    if found["episodes"] < (rows[-1]["episodes"] if rows else 1):
        problems.append(f"{found['episodes']} episodes can be read, {len(rows)} were stored")
    if len(rows) < 5:
        problems.append(f"{len(rows)} episodes are too few to tell a growth: give more --hours")
    return problems


def draw(rows: list[dict], path: Path) -> None:
    """Memory over time."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    hours = [row["s"] / 3600 for row in rows]
    axes.plot(hours, [row["mb"] for row in rows], label="all")
    for kind in ("page", "python", "browser"):
        axes.plot(hours, [row["by_kind"].get(kind, 0.0) for row in rows], label=kind)
    axes.set(xlabel="time (h)", ylabel="memory (MB)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)
