"""Whether a recorder that is killed keeps what it had stored.

A recording is started, killed with its whole process group, looked at, and started again by the
same command. Every second kill is aimed at the few milliseconds in which an episode is being stored. The
others come at any moment. An episode counts as acknowledged as soon as the recording's index names it, which
is before `EpisodeWriter.write` returns and before the recorder counts it.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from collect import store
from collect.validate import validate
from configs.game_checks import Kill
from launch.shared import runs
from launch.shared.records import Figure
from wm.store.provenance import ROOT

START_TIMEOUT_S = 300.0  # from a start to its first stored episode
POLL_S = 0.02
STORE_S = 0.008  # about as long as storing takes from the new file to the new index
Ledger = dict[Path, str]  # file of each acknowledged episode and its SHA-256


def run(config: Kill, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Kill, look, go on, and let it finish; returns (results, figures, faults)."""
    out = folder / "recordings"
    if store.written_directories(out):
        raise ValueError(f"{out} holds recordings already: choose another --out")
    moments = random.Random(config.draw)
    command = recording_command(config, out)
    ledger, lost, rows = {}, set(), []
    with open(folder / "recorder.log", "w") as log, runs.progress(config.kills + 1, "start") as line:
        for number in range(1, config.kills + 1):
            delay = moments.uniform(0.0, config.window_s)
            aim = moments.uniform(0.0, STORE_S) if number % 2 == 0 else None
            before = len(ledger)
            start_and_kill(command, log, out, ledger, delay, aim)
            acknowledged = len(ledger)
            found = look(out, ledger)
            lost |= set(found["lost"])
            moment = {"kill": number, "after_s": delay, "aim_s": aim}
            rows.append({**moment, "new": acknowledged - before, **found})
            line.update()
            line.set_postfix_str(f"{acknowledged} episodes acknowledged, {len(lost)} lost")
        ended = finish(command, log, out, config)
        line.update()
    last = look(out, ledger)
    lost |= set(last["lost"])
    results = {"recording": command[1:-1], "kills": rows, "end": {**ended, **last}, "lost": sorted(lost)}
    return results, figures(rows, len(lost)), faults(rows, {**ended, **last}, config)


def recording_command(config: Kill, out: Path) -> list[str]:
    """The command line of the recording, the folder last."""
    return [
        *(sys.executable, "-m", "launch.record"),
        *("--airports", config.airport, "--policies", config.policy),
        *("--minutes", str(config.minutes), "--episodes", str(config.episodes)),
        *("--workers", str(config.workers), *config.options()),
        *("--out", str(out.resolve())),
    ]


def start_and_kill(command, log, out: Path, ledger: Ledger, delay: float, aim: float | None) -> None:
    """Kill a recording `delay` seconds after it stored its first episode; the ledger is kept up to then.

    With `aim` the kill waits for the next file that the recorder makes, and so many seconds more.
    Raises ValueError where the recording ends by itself before that.
    """
    before = len(ledger)
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        _watch(process, out, ledger, lambda: len(ledger) > before or time.monotonic() > deadline)
        if len(ledger) == before:
            raise ValueError(f"the recording stored nothing within {START_TIMEOUT_S:g} s: see {log.name}")
        deadline = time.monotonic() + delay
        _watch(process, out, ledger, lambda: time.monotonic() >= deadline)
        if aim is not None:
            _until_next_file(process, out)
            time.sleep(aim)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _watch(process, out: Path, ledger: Ledger, done: Callable[[], bool]) -> None:
    seen = None
    while not done():
        if process.poll() is not None:
            raise ValueError(
                f"the recording ended (status {process.returncode}) before it was killed: "
                "see recorder.log in the run folder; if it was finished, give more --episodes"
            )
        # Reading an index takes time that the recorder needs, so it is read only when it was replaced.
        if (now := [path.stat().st_mtime_ns for path in out.glob("*/dataset_info.json")]) != seen:
            seen = now
            acknowledge(out, ledger)
        time.sleep(POLL_S)


def _until_next_file(process, out: Path) -> None:
    folders = [path for path in out.iterdir() if path.is_dir()]
    count = before = sum(len(os.listdir(folder)) for folder in folders)
    while count <= before and process.poll() is None:
        time.sleep(0.0002)
        before, count = count, sum(len(os.listdir(folder)) for folder in folders)


def acknowledge(out: Path, ledger: Ledger) -> None:
    """Add the episodes that the indexes name now."""
    for path in named(out):
        if path not in ledger:
            ledger[path] = _sha256(path)


def named(out: Path) -> list[Path]:
    """Files of the episodes that the indexes of a recording name."""
    return [path for directory in store.written_directories(out) for path in store.shards(directory)]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def look(out: Path, ledger: Ledger) -> dict:
    """What of the ledger is lost, what validation says, and what the kill interrupted.

    Episodes that came into the index between the last look and the kill join the ledger.
    """
    now = set(named(out))
    lost = [path for path, digest in ledger.items() if path not in now or _sha256(path) != digest]
    acknowledge(out, ledger)
    *_, report = validate(out)
    half_done = [f.path.name for f in report.findings if not f.fault]
    half_done += [folder.name for folder in out.rglob(f"{store.METADATA_PREFIX}*")]
    return {
        "acknowledged": len(ledger),
        "readable": report.episodes,
        "lost": [str(path.relative_to(out)) for path in lost],
        "faults": [f"{f.path.relative_to(out)}: {f.text}" for f in report.faults],
        "half_done": half_done,
    }


def finish(command: list[str], log, out: Path, config: Kill) -> dict:
    """Run the same command undisturbed, then launch.validate."""
    final = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    check = [sys.executable, "-m", "launch.validate", "--data", str(out.resolve()), "--use", "train"]
    validated = subprocess.run(check, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    keys = store.stored_keys(store.written_directories(out))
    return {
        "status": final.returncode,
        "validate_status": validated.returncode,
        "validate": validated.stdout.strip(),
        "episodes": len(keys),
        "wanted": config.episodes,
    }


def figures(rows: list[dict], lost: int) -> dict[str, Figure]:
    """Counts over all kills; n is the number of kills."""
    after = sum(row["acknowledged"] > 0 for row in rows)
    inside = sum(bool(row["half_done"]) for row in rows)

    def count(value: int, unit: str) -> Figure:
        return Figure(value, value, value, unit, len(rows))

    return {
        "episodes_lost": count(lost, "episodes"),
        "kills_after_an_acknowledged_episode": count(after, "kills"),
        "kills_inside_a_store": count(inside, "kills"),
    }


def faults(rows: list[dict], end: dict, config: Kill) -> list[str]:
    """What went wrong, one line each."""
    found = []
    for row in [*rows, {"kill": "the end", **end}]:
        where = f"kill {row['kill']}" if row["kill"] != "the end" else "the end"
        found += [f"{where}: {name} was acknowledged and is lost" for name in row["lost"]]
        found += [f"{where}: {fault}" for fault in row["faults"]]
        if row["readable"] != row["acknowledged"]:
            found.append(f"{where}: {row['readable']} of {row['acknowledged']} episodes can be read")
    if end["status"] or end["episodes"] != config.episodes:
        found.append(f"the same command ended with status {end['status']}, {end['episodes']} episodes stored")
    if end["validate_status"]:
        found.append(f"launch.validate ended with status {end['validate_status']}")
    return found
