"""Commands that are stopped, killed, run out of disk or meet another process: nothing that was kept is lost.

Each fault hits a small run of its own. The same command must then come to the same end as a run that nobody
disturbed, to the bit, and what was written before the fault must still be there unchanged.
"""

import json
import shutil
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from launch.faults import subjects
from launch.faults.subjects import SUBJECTS, Subject
from launch.shared.training import RESUME
from wm.store import checkpoints, lock
from wm.store.provenance import write_json

KILLED = ("unpack", "pack", "video", "convert", "export", "evaluation")  # training: launch.check_training
COMPILED = ("evaluation",)
SHARED = ("train_wm", "train_ppo", "finetune")
SLOW = (*COMPILED, *SHARED)
TRIES = 6  # to hit a run before it ends


@dataclass
class Row:
    """One fault: what was done to which command, how it ended, what the user read, what went wrong."""

    command: str
    fault: str
    status: int | None = None
    said: str = ""
    kept: int = 0  # parts of the product that were there before the fault
    lost: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict:
        return asdict(self)


class Bench:
    """A folder in which subjects run, with their undisturbed products."""

    def __init__(self, folder: Path, draw: int):
        self.folder, self.moments = folder, Random(draw)
        self.inputs, self.programs = folder / "inputs", folder / "inputs" / "programs"

    def words(self, subject: Subject, out: Path) -> list[str]:
        """What follows `python -m`; inputs are made when the first subject needs them."""
        subjects.make_inputs(self.inputs)
        return subject.words(self.inputs, out).split()

    def whole(self, subject: Subject) -> tuple[float, dict[str, str]]:
        """Processor time of an undisturbed run, its programs compiled, and what it leaves."""
        kept = self.folder / f"{subject.name}-whole.json"
        if not kept.exists():
            for _ in range(2 if subject.name in COMPILED else 1):  # the first compiles
                out = self.fresh(f"{subject.name}-whole")
                seconds, done = subjects.timed(self.words(subject, out), self.programs)
                if done.returncode:
                    raise ValueError(f"{subject.name} fails by itself: {done.stderr[-300:]}")
            write_json(kept, {"seconds": seconds, "product": subject.product(out)})
        whole = json.loads(kept.read_text())
        return whole["seconds"], whole["product"]

    def fresh(self, name: str) -> Path:
        """A name for a folder that is not there."""
        out = self.folder / name
        shutil.rmtree(out, ignore_errors=True)
        return out

    def finish(self, subject: Subject, out: Path, row: Row, before: dict[str, str]) -> Row:
        """Compare with what was there before the fault; let the same command finish, and compare again."""
        _, wanted = self.whole(subject)
        row.kept = len(before)
        row.lost = [name for name, digest in before.items() if wanted.get(name) != digest]
        done = subjects.run(self.words(subject, out), self.programs)
        found = subject.product(out)
        if (
            done.returncode and "name another" in done.stderr
        ):  # a part was finished, and is never written over
            row.lost += [name for name, digest in before.items() if found.get(name) != digest]
            out = self.fresh(f"{out.name}-another")
            done = subjects.run(self.words(subject, out), self.programs)
            found = subject.product(out)
        if done.returncode:
            row.problems.append(f"the same command ends with status {done.returncode}: {done.stderr[-300:]}")
        row.problems += [f"{name} differs" for name in sorted(wanted) if found.get(name) != wanted[name]]
        row.problems += [f"{name} should not be there" for name in sorted(found.keys() - wanted.keys())]
        return row


def check_words(row: Row, stderr: str, allowed: tuple[int, ...], text: str = "") -> None:
    """Status and last words: one line, no traceback."""
    lines = subjects.last_lines(stderr)
    row.said = lines[-1] if lines else ""
    if row.status not in allowed:
        row.problems.append(f"ended with status {row.status}: {row.said}")
    if "Traceback" in stderr:
        row.problems.append(f"shows a traceback: {row.said}")
    if text not in row.said:
        row.problems.append(f"says {row.said!r}, which has no {text!r}")


def interrupt(bench: Bench, subject: Subject, number: signal.Signals) -> Row:
    """Send a signal at a random moment of a run."""
    seconds, _ = bench.whole(subject)
    for attempt in range(TRIES):
        out = bench.fresh(f"{subject.name}-{number.name}")
        process = subjects.start(bench.words(subject, out), bench.programs)
        if subjects.reach(process, bench.moments.uniform(0.5, 1.0) * seconds * 0.95**attempt):
            process.send_signal(number)
        _, said = process.communicate(timeout=subjects.PATIENCE_S)
        if process.returncode:
            break
    else:
        raise ValueError(f"{subject.name} ended before it was hit, {TRIES} times")
    row = Row(subject.name, number.name, process.returncode)
    before = subject.product(out) if out.exists() else {}
    check_words(row, said, (-number, 128 + number, 130) if number == signal.SIGTERM else (-number,))
    return bench.finish(subject, out, row, before)


def fill_disk(bench: Bench, subject: Subject) -> Row:
    """Refuse what is written beyond a few bytes of a file, as a full disk does; needs no mount."""

    out = bench.fresh(f"{subject.name}-full")
    bench.whole(subject)
    done = subjects.run(bench.words(subject, out), bench.programs, subject.room)
    row = Row(subject.name, "full disk", done.returncode)
    before = subject.product(out) if out.exists() else {}
    check_words(row, done.stderr, (1,), "error: ")
    return bench.finish(subject, out, row, before)


def meet(bench: Bench, subject: Subject) -> Row:
    """Start a run in a folder that another process holds: it is refused, the other's run stays."""
    out = bench.fresh(f"{subject.name}-shared")
    _, wanted = bench.whole(subject)
    shutil.copytree(bench.folder / f"{subject.name}-whole", out)
    with lock.hold(out):
        done = subjects.run(bench.words(subject, out), bench.programs)
    row = Row(subject.name, "a second process", done.returncode, kept=len(wanted))
    check_words(row, done.stderr, (1,), "another process")
    row.lost = [name for name, digest in subject.product(out).items() if wanted.get(name) != digest]
    return row


def damage_checkpoint(bench: Bench, subject: Subject, way: str) -> Row:
    """Go on from a checkpoint that was damaged: refused in one line or passed over, never taken for whole."""
    out = bench.fresh(f"{subject.name}-{way.replace(' ', '-')}")
    _, wanted = bench.whole(subject)
    shutil.copytree(bench.folder / f"{subject.name}-whole", out)
    step = checkpoints.latest_step(out / RESUME)
    folder = out / RESUME / f"{step:08d}"
    file = max(folder.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    data = bytearray(file.read_bytes())
    if way == "flipped checkpoint":
        data[len(data) // 2] ^= 1
    else:
        del data[len(data) // 2 :]
    file.write_bytes(data)
    done = subjects.run(bench.words(subject, out), bench.programs)
    row = Row(subject.name, way, done.returncode, kept=len(wanted))
    check_words(row, done.stderr, (0, 1))
    row.lost = [name for name, digest in subject.product(out).items() if wanted.get(name) != digest]
    return row


def plan() -> list[tuple[str, str]]:
    """Every (command, fault) of this file, those of one command together."""
    faults = {name: ["SIGTERM", "SIGKILL", "full disk"] for name in KILLED}
    trained = ["full disk", "a second process", "flipped checkpoint", "torn checkpoint"]
    faults |= dict.fromkeys(SHARED, trained)
    return [(name, fault) for name, some in faults.items() for fault in some]


def drill(bench: Bench, name: str, fault: str) -> Row:
    """Do one fault to one command."""
    subject = SUBJECTS[name]
    if fault in ("SIGTERM", "SIGKILL"):
        return interrupt(bench, subject, signal.Signals[fault])
    if fault == "full disk":
        return fill_disk(bench, subject)
    if fault == "a second process":
        return meet(bench, subject)
    return damage_checkpoint(bench, subject, fault)
