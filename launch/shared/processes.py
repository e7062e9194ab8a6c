"""A process and those below it, as /proc tells of them: their cores, processor time and memory."""

import contextlib
import os
from collections import Counter
from pathlib import Path

# What tells a part of a game from its command line, the first that fits; "python" is all the rest.
KINDS = {
    "page": b"--type=renderer",
    "gpu": b"--type=gpu-process",
    "network": b"--type=utility",
    "zygote": b"--type=zygote",
    "browser": b"chrom",
    "driver": b"/node",
}


def family(pid: int) -> list[Path]:
    """Folders in /proc of a process and all processes below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(folder.name)] = int(_stat(folder)[1])
    members, found = {pid}, True
    while found:
        found = {child for child, parent in parents.items() if parent in members} - members
        members |= found
    return [Path("/proc") / str(member) for member in sorted(members)]


def _stat(folder: Path) -> list[str]:
    """Fields of /proc/<pid>/stat from the third, the state, on; the name before them may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def threads(pid: int) -> list[int]:
    """Threads of a process and of those below it."""
    return [int(thread.name) for folder in family(pid) for thread in folder.glob("task/[0-9]*")]


def bind(pid: int, core: int) -> None:
    """Bind a process and those below it to one core; left alone, threads that draw choose theirs."""
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread, {core})


def allowed_cores(pid: int) -> set[int]:
    """Cores that any thread of a process or of those below it may use."""
    cores = set()
    for thread in threads(pid):
        with contextlib.suppress(ProcessLookupError):
            cores |= os.sched_getaffinity(thread)
    return cores


def kind(folder: Path) -> str:
    """Which part of a game a process is, one of KINDS or python."""
    name = (folder / "cmdline").read_bytes()
    return next((kind for kind, mark in KINDS.items() if mark in name), "python")


def cpu_seconds(pid: int) -> Counter[str]:
    """Processor time that a process and those below it have used so far, by kind."""
    seconds = Counter()
    for folder in family(pid):
        with contextlib.suppress(OSError):
            ticks = sum(int(field) for field in _stat(folder)[11:13])
            seconds[kind(folder)] += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def memory_mb(pid: int) -> Counter[str]:
    """Anonymous and shared memory (proportional share, MB) of a process and of those below it, by kind.

    Mapped files, such as a browser's libraries, are left out: their share falls where another browser begins.
    """
    megabytes = Counter()
    for folder in family(pid):
        with contextlib.suppress(OSError):
            lines = (folder / "smaps_rollup").read_text().splitlines()
            share = {line.split()[0]: line.split()[1] for line in lines[1:]}
            kilobytes = float(share["Pss_Anon:"]) + float(share["Pss_Shmem:"])  # of 1024 bytes each
            megabytes[kind(folder)] += kilobytes * 1024 / 1e6
    return megabytes
