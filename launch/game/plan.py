"""Carries out a plan of configs/recording.py as a user would; measures its time and size and validates it."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from collect import dataset
from collect.coverage import cover
from collect.validate import validate
from configs.game_checks import Plan
from configs.recording import PLANS
from launch import coverage as report
from launch.shared import runs
from launch.shared.records import Figure
from wm.sector.traffic import STEP_S
from wm.store.provenance import ROOT


def run(config: Plan, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Record, validate, report; returns (results, figures, faults)."""
    if config.plan not in PLANS:
        raise ValueError(f"plan {config.plan!r} must be one of {', '.join(PLANS)}")
    out = folder / "recordings"
    arguments = [
        *("-m", "launch.record", config.plan, "--out", str(out.resolve()), "--minutes", str(config.minutes)),
        *("--workers", str(config.workers), "--pages", str(config.pages)),
        *config.options(),
    ]
    begin = time.monotonic()
    status = subprocess.run([sys.executable, *arguments], cwd=ROOT).returncode
    seconds = time.monotonic() - begin
    *_, checked = validate(out)
    covered = cover(runs.track(dataset.load(out), "episode", checked.episodes))
    (folder / "coverage.md").write_text(report.text(covered), encoding="utf-8")
    report.draw(covered, folder / "coverage.png")
    found = {
        "recording": shlex.join(["python", *arguments]),
        "status": status,
        "seconds": seconds,
        "episodes": checked.episodes,
        "decisions": checked.decisions,
        "bytes": checked.bytes,
        "validate": [f"{finding.path.name}: {finding.text}" for finding in checked.faults],
        "gaps": covered.gaps(),
        "cores": len(os.sched_getaffinity(0)),
    }
    return found, figures(found, config), faults(found, config)


def figures(found: dict, config: Plan) -> dict[str, Figure]:
    """Hours of the game, wall time, size and faults of a plan; n is the number of episodes."""

    def count(value: float, unit: str) -> Figure:
        return Figure(value, value, value, unit, found["episodes"])

    name = config.plan.replace("-", "_")
    return {
        f"plan_{name}_episodes": count(found["episodes"], "episodes"),
        f"plan_{name}_game_hours": count(found["decisions"] * STEP_S / 3600, "h"),
        f"plan_{name}_minutes": count(found["seconds"] / 60, "min"),
        f"plan_{name}_mb": count(found["bytes"] / 1e6, "MB"),
        f"plan_{name}_faults": count(len(found["validate"]), "faults"),
    }


def faults(found: dict, config: Plan) -> list[str]:
    """What went wrong, one line each."""
    problems = [f"validation: {text}" for text in found["validate"]]
    if found["status"] or found["episodes"] != PLANS[config.plan].episodes:
        wanted = PLANS[config.plan].episodes
        problems.append(f"{found['episodes']} of {wanted} episodes, status {found['status']}: run it again")
    return problems
