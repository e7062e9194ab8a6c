"""Give readers inputs that do not belong: each must give the data it was made of, or one line of error.

Nothing else may come of an input: no other class of error, no hang, no memory beyond a bound, no file written
outside the input's folder, no module loaded because the data names it. See launch/faults/readers.py for what
is read and launch/faults/spoil.py for how it is spoilt.
"""

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from launch.shared import runs

LIMIT_S = 20.0  # a reader that has not answered by then hangs
DEAD_S = 120.0  # one that does not even take an alarm is ended with the whole process
GROWTH_MB = 1024.0  # of resident memory at its peak, by one input
ADDRESSES_MB = 6144  # that one input may reserve
LONGEST = runs.LONGEST + 4  # characters of a message


class Hang(BaseException):
    """A reader took longer than LIMIT_S."""


@dataclass(frozen=True)
class Reader:
    """Something that reads what others wrote.

    Attributes:
      name: of it.
      prepare: prepare(folder) writes a whole input into a new folder.
      spoil: spoil(folder, draw) spoils one; returns (what was done, whether a checksum covers that).
      read: read(folder) returns digests of all that is read, one of each part that is there.
      errors: the project's own classes that it may raise.
      earlier: earlier(folder) takes the newest away, where a reader may fall back on what was before it.
    """

    name: str
    prepare: Callable[[Path], None]
    spoil: Callable[[Path, Random], tuple[str, bool]]
    read: Callable[[Path], set[str]]
    errors: tuple[type[Exception], ...]
    earlier: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one input: "equal", "other" (well-formed, says something else), "refused", or a crash."""

    reader: str
    number: int
    done: str
    ended: str
    said: str = ""

    @property
    def crashed(self) -> bool:
        """Whether that must not be."""
        return self.ended not in ("equal", "other", "refused")


def fuzz(reader: Reader, inputs: int, draw: int, scratch: Path) -> Iterator[Outcome]:
    """Spoil and read `inputs` inputs below `scratch`; a crash leaves its input there.

    Number n of a seed `draw` is always the same input.
    """
    whole = scratch / f"{reader.name}-whole"
    shutil.rmtree(whole, ignore_errors=True)
    reader.prepare(whole)
    wanted = reader.read(whole)
    if reader.read(whole) != wanted:
        raise ValueError(f"{reader.name} reads its own input differently the second time")
    if reader.earlier is not None:
        before = scratch / f"{reader.name}-before"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(whole, before)
        reader.earlier(before)
        wanted |= reader.read(before)
    for number in range(inputs):
        yield try_one(reader, number, draw, scratch, wanted)


def try_one(reader: Reader, number: int, draw: int, scratch: Path, wanted: set[str]) -> Outcome:
    """Spoil a copy of the whole input, and read it."""
    moments, folder = Random(f"{reader.name} {draw} {number}"), scratch / f"{reader.name}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scratch / f"{reader.name}-whole", folder)
    done, sealed = reader.spoil(folder, moments)
    ended, said = _read(reader, folder, wanted, sealed)
    outcome = Outcome(reader.name, number, done, ended, said)
    if not outcome.crashed:
        shutil.rmtree(folder)
    return outcome


def _read(reader: Reader, folder: Path, wanted: set[str], sealed: bool) -> tuple[str, str]:
    """How reading ends, and what was said."""
    before, modules, caught = _resident_mb(), set(sys.modules), None
    with _watched(folder) as strays, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = reader.read(folder)
        except reader.errors as error:
            caught = error
        except Hang:
            return "hang", f"longer than {LIMIT_S:g} s"
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [f"{Path(f.filename).name}:{f.lineno}" for f in where if "site-packages" not in f.filename]
            return "crash", f"{type(error).__name__}: {str(error)[:200]} at {' '.join(ours[-3:])}"
    if strays:
        return "wrote outside", strays[0]
    if named := (set(sys.modules) - modules) & {"this", "antigravity"}:
        return "ran what the data names", str(named)
    if (growth := _peak_mb() - before) > GROWTH_MB:
        return "grew", f"{growth:.0f} MB"
    if caught is not None:
        line = runs.in_one_line(caught)
        bad = not line or len(line) > LONGEST or "Traceback" in line
        return ("no message" if bad else "refused"), line[:LONGEST]
    if found and found <= wanted:
        return "equal", ""
    return ("taken for the whole" if sealed else "other"), ""


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """Alarm, bound on memory, and a list of files that are opened for writing outside the folder."""
    strays: list[str] = []

    def ring(number, frame):
        raise Hang

    _reset_peak()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, ring)
    faulthandler.dump_traceback_later(DEAD_S, exit=True, file=sys.__stderr__)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESSES_MB * 2**20, hard))
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    _AUDIT[:] = [(str(folder), strays)]
    try:
        yield strays
    finally:
        _AUDIT.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, handler)


_AUDIT: list[tuple[str, list[str]]] = []  # the folder that is read now; a hook cannot be taken away again
WRITES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "subprocess.Popen",
    "os.system",
)


def _hook(event: str, arguments: tuple) -> None:
    if not _AUDIT or (event != "open" and event not in WRITES):
        return
    folder, strays = _AUDIT[0]
    path = str(arguments[0])
    if event == "open":
        _, mode, flags = arguments
        writes = any(letter in (mode or "") for letter in "wax+") or (isinstance(flags, int) and flags & 0o3)
        if not writes or path == "/dev/null":
            return
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR", folder)
    if "__pycache__" in path or path.startswith((folder, kept)):
        return
    strays.append(f"{event} {path[:200]}")


def _listen() -> None:
    """Install the hook, once in a process."""
    if not getattr(sys, "_openscope_audit", False):
        sys.addaudithook(_hook)
        sys._openscope_audit = True


_listen()


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # the kernel may not allow it; the peak is then an upper bound
        Path("/proc/self/clear_refs").write_text("5")


def _status_mb(field: str) -> float:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) / 1024


def _resident_mb() -> float:
    return _status_mb("VmRSS:")


def _peak_mb() -> float:
    return _status_mb("VmHWM:")


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Sends what libraries print on stderr to a file; what was opened before goes on to the terminal."""
    kept = os.dup(2)
    with open(log, "a", encoding="utf-8") as file, contextlib.redirect_stderr(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def summary(outcomes: list[Outcome]) -> dict[str, dict[str, int]]:
    """How inputs ended, by reader."""
    readers = dict.fromkeys(outcome.reader for outcome in outcomes)
    return {name: dict(Counter(o.ended for o in outcomes if o.reader == name)) for name in readers}
