"""What a recording does when something breaks under it, and whether it keeps what it had stored.

Each fault hits a recording of its own just after its first episode was stored. A recorder must mend some
faults by itself and finish. The others must end it with one line, and the same command must then finish it.
No episode that was acknowledged may be lost or changed.
"""

import contextlib
import dataclasses
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from collect.server import Server
from configs.game_checks import Faults
from launch.game.kill import Ledger, acknowledge, look, recording_command
from launch.shared import runs
from launch.shared.processes import family, kind
from launch.shared.records import Figure
from wm.store.provenance import ROOT

START_TIMEOUT_S = END_TIMEOUT_S = 900.0  # a busy machine takes minutes for what a quiet one does in seconds
FULL_BYTES = 4096  # what a process may still write to a file when its disk is "full"
JUMPING_CLOCK = """
import time
real, begin = time.time, time.monotonic()
time.time = lambda: real() + (86_400 if int((time.monotonic() - begin) / 3) % 2 else -86_400)
"""


@dataclass(frozen=True)
class Fault:
    """A way to break a recording; `mended` where it goes on by itself."""

    inject: Callable[[subprocess.Popen, "Forwarder"], None]
    mended: bool


def _signal(number: int, *kinds: str) -> Callable:
    """Send a signal to the recording's processes of these kinds; to the recorder itself for none."""

    def inject(process: subprocess.Popen, forwarder: "Forwarder") -> None:
        if not kinds:
            process.send_signal(number)
        for folder in family(process.pid):
            with contextlib.suppress(OSError):
                if kind(folder) in kinds:
                    os.kill(int(folder.name), number)

    return inject


def _fill_disk(process: subprocess.Popen, forwarder: "Forwarder") -> None:
    """Refuse what is written beyond a few kilobytes of a file, as a full disk does; needs no mount."""
    for folder in family(process.pid):
        with contextlib.suppress(OSError):
            if kind(folder) == "python" and int(folder.name) != process.pid:
                _, hard = resource.prlimit(int(folder.name), resource.RLIMIT_FSIZE)
                resource.prlimit(int(folder.name), resource.RLIMIT_FSIZE, (FULL_BYTES, hard))


FAULTS = {
    "browser_killed": Fault(_signal(signal.SIGKILL, "browser"), mended=True),
    "page_crashed": Fault(_signal(signal.SIGKILL, "page"), mended=True),
    "page_hung": Fault(_signal(signal.SIGSTOP, "page"), mended=True),
    "clock_jumps": Fault(lambda process, forwarder: None, mended=True),  # all along, see `environment`
    "server_gone": Fault(lambda process, forwarder: forwarder.cut(), mended=False),
    "disk_full": Fault(_fill_disk, mended=False),
    "sigterm": Fault(_signal(signal.SIGTERM), mended=False),
    "recorder_killed": Fault(_signal(signal.SIGKILL), mended=False),
}


class Forwarder:
    """Passes connections on to the game's server until it is cut; then it refuses them."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"url {url!r} must be http://host:port of a game of your own to be cut off from")
        self._target = (parts.hostname, parts.port or 80)
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True, name="forwarder").start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # cut
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close every connection and take no more."""
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def run(config: Faults, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Try every fault `config.times` times; returns (results, figures, faults)."""
    if unknown := set(config.faults) - set(FAULTS):
        raise ValueError(f"fault {min(unknown)!r} must be one of {', '.join(FAULTS)}")
    rows = []
    with runs.progress(len(config.faults) * config.times, "fault") as line:
        for time_number in range(config.times):
            for name in config.faults:
                line.set_postfix_str(name)
                rows.append(try_fault(name, config, folder / f"{name}-{time_number}"))
                line.update()
    return {"faults_tried": rows}, figures(rows), problems(rows)


def try_fault(name: str, config: Faults, folder: Path) -> dict:
    """Record, break, see how it ends; let the same command finish where that is needed."""
    fault, out, ledger = FAULTS[name], folder / "recordings", {}
    if folder.exists():
        raise ValueError(f"{folder} exists already: choose another --out")
    folder.mkdir(parents=True)
    begin, log_path = time.monotonic(), folder / "recorder.log"
    address = Server.of(config).address
    forwarder = Forwarder(address)
    with open(log_path, "w") as log:
        cut = recording_command(dataclasses.replace(config, url=forwarder.url), out)
        process = subprocess.Popen(cut, cwd=ROOT, stdout=log, stderr=log, env=environment(name, folder))
        try:
            wait_for_first(process, out, ledger)
            fault.inject(process, forwarder)
            status = process.wait(END_TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        forwarder.cut()
        first_words = last_line(log_path)
        before = len(ledger)
        found = look(out, ledger)
        status_again = None
        if status:
            command = recording_command(dataclasses.replace(config, url=address), out)
            status_again = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log).returncode
        last = look(out, ledger)
    return {
        **{"fault": name, "mended": fault.mended, "status": status, "said": first_words},
        **{"status_again": status_again, "seconds": round(time.monotonic() - begin, 1)},
        **{"acknowledged_before": before, "lost": sorted({*found["lost"], *last["lost"]})},
        **{"faults": found["faults"] + last["faults"], "episodes": last["readable"]},
        "wanted": config.episodes,
    }


def environment(name: str, folder: Path) -> dict[str, str]:
    """The recording's environment; for clock_jumps one in which Python's clock jumps a day every 3 s."""
    if name != "clock_jumps":
        return dict(os.environ)
    (folder / "sitecustomize.py").write_text(JUMPING_CLOCK)
    paths = [str(folder.resolve()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def wait_for_first(process: subprocess.Popen, out: Path, ledger: Ledger) -> None:
    """Wait until an episode is acknowledged. Raises ValueError where none is, or the recording ends."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ledger:
        if process.poll() is not None or time.monotonic() > deadline:
            raise ValueError("the recording stored nothing before it was to be broken: see its recorder.log")
        if out.exists():
            acknowledge(out, ledger)
        time.sleep(0.05)


def last_line(log: Path) -> str:
    """The last line a recording printed, which says why it ended."""
    lines = [line.strip() for line in log.read_text().replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def figures(rows: list[dict]) -> dict[str, Figure]:
    """Faults tried, those that did not end as they should, and episodes lost; n is how many were tried."""

    def count(value: int, unit: str) -> Figure:
        return Figure(value, value, value, unit, len(rows))

    failed = {row["fault"] for row in rows if problems([row])}
    return {
        "faults_tried": count(len(rows), "faults"),
        "faults_lost": count(sum(len(row["lost"]) for row in rows), "episodes"),
        "faults_failed": count(len(failed), "faults"),
    }


def problems(rows: list[dict]) -> list[str]:
    """What went wrong, one line each."""
    found = []
    for row in rows:
        name = row["fault"]
        found += [f"{name}: {path} was acknowledged and is lost" for path in row["lost"]]
        found += [f"{name}: {text}" for text in row["faults"]]
        if (row["status"] == 0) != row["mended"]:
            found.append(f"{name}: the recording ended with status {row['status']}: {row['said']}")
        if row["episodes"] != row["wanted"] or row["status_again"]:
            found.append(f"{name}: {row['episodes']} of {row['wanted']} episodes in the end")
    return found
