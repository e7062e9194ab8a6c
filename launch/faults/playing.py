"""Evaluations in the real game that are broken: by the server, the browser, or a signal."""

import dataclasses
import signal
import time

from configs.fault_checks import Drill
from launch.faults import subjects
from launch.faults.drills import Bench, Row, check_words
from launch.faults.subjects import EVALUATION, Subject, _episodes
from launch.game.faults import FAULTS, Forwarder

# What a recording survives by itself an evaluation does, too; the clock and the disk are the recorder's own.
NAMES = ("browser_killed", "page_crashed", "page_hung", "server_gone", "sigterm", "recorder_killed")
STATUS = {"sigterm": (130, 143, -15), "recorder_killed": (-signal.SIGKILL,), "server_gone": (1,)}


def subject_of(config: Drill, url: str) -> Subject:
    """A short evaluation of one policy in the real game at an address."""
    options = " ".join(dataclasses.replace(config, url=url).options())
    words = f"{EVALUATION.replace(' random', '')} --minutes 3 --episodes 4 --pages 1 {options}"
    return Subject("evaluation, real game", lambda inputs, out: words.format(o=out), _episodes, 300)


def break_off(bench: Bench, config: Drill, name: str) -> Row:
    """Break an evaluation just after its first episode was stored."""
    forwarder, subject = Forwarder(config.url), subject_of(config, config.url)
    bench.whole(subject)
    out = bench.fresh(f"playing-{name}")
    process = subjects.start(bench.words(subject_of(config, forwarder.url), out), bench.programs)
    deadline = time.monotonic() + subjects.PATIENCE_S
    while not (before := subject.product(out)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    FAULTS[name].inject(process, forwarder)
    _, said = process.communicate(timeout=subjects.PATIENCE_S)
    forwarder.cut()
    row = Row(subject.name, name, process.returncode)
    check_words(row, said, STATUS.get(name, (0,)))
    return bench.finish(subject, out, row, before)
