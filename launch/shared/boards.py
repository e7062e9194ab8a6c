"""What metrics.jsonl holds, as TensorBoard and Weights & Biases show it.

    tensorboard --logdir runs        # every run's curves; TensorBoard itself is no dependency

A run's event file has the numbers of every line of its metrics.jsonl, and no other. It is written again from
these lines when a run goes on, so that what a kill made undone is in neither. Weights & Biases takes part if
it is installed and a project is named; nothing is sent anywhere otherwise.
"""

import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

FOLDER = "tensorboard"
AXES = ("total_steps", "step", "chunk")  # what a line counts by; the first that it has
PLACES = (*AXES, "epoch", "phase")  # where in the run a line is, rather than what was measured there
FLUSH_S = 5.0


def point(line: dict[str, Any]) -> tuple[int, dict[str, float]]:
    """(where in the run, numbers by name) of a line of metrics.jsonl.

    Cloning counts chunks of its own before PPO begins: its names stand under clone/.
    """
    front = "clone/" if line.get("phase") == "clone" else ""
    numbers = {f"{front}{name}": float(value) for name, value in line.items() if name not in PLACES}
    return next(line[name] for name in AXES if name in line), numbers


class Board:
    """The event file of a run, and its page at Weights & Biases where there is one."""

    def __init__(self, run: Path, earlier: Iterable[dict[str, Any]], page: Any = None):
        """
        Args:
          run: the run folder.
          earlier: lines that a run which goes on has written before.
          page: a run of wandb, or nothing.

        Raises OSError where the folder can't be written.
        """
        folder = run.resolve() / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._events = EventsWriter(str(folder / "events"))
        self._page, self._flushed = None, 0.0
        for line in earlier:
            self.write(line)
        self._page = page  # which had the earlier lines from the start that wrote them

    def write(self, line: dict[str, Any]) -> None:
        """A line of metrics.jsonl; on disk some seconds later. Raises OSError where the disk is full."""
        step, numbers = point(line)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed > FLUSH_S:
            self._events.flush()
            self._flushed = time.monotonic()
        if self._page is not None:
            self._page.log(numbers, step=step)

    def close(self) -> None:
        """Everything is on disk, and at Weights & Biases."""
        self._events.close()
        if self._page is not None:
            self._page.finish()


def page(project: str | None, run: Path, config: dict[str, Any]) -> Any:
    """A run of wandb in `project`, the same one for every start of a run folder; None without a project.

    Raises ValueError, in one line, where Weights & Biases is not installed.
    """
    if project is None:
        return None
    try:
        import wandb
    except ImportError as error:
        raise ValueError("--wandb needs Weights & Biases: pip install wandb, or leave it out") from error
    known = run / "wandb-id"
    if not known.exists():
        known.write_text(secrets.token_hex(4), encoding="utf-8")
    own = {"id": known.read_text(encoding="utf-8"), "name": run.name, "resume": "allow"}
    return wandb.init(project=project, dir=str(run), config=config, **own)
