"""What is timed at the same time begins together, and nobody waits for one that has failed."""

import multiprocessing
import os
import threading
import time

import pytest

from collect import GameError
from configs.game_checks import Speed
from launch.game import speed
from launch.game.hours import Hour
from launch.game.speed import PartnerFailed, apart, together

BOTH = sorted(os.sched_getaffinity(0))


def meet(ready, fails: bool) -> float:
    """What a timed process does: get ready or fail, then begin."""
    if fails:
        raise GameError("the game is gone")
    ready.wait(60.0)
    return time.monotonic()


def die(ready) -> None:
    os._exit(7)


def test_all_begin_when_the_last_is_ready():
    ready, begun = threading.Barrier(2), []

    def call(pause_s: float) -> float:
        time.sleep(pause_s)
        arrived = time.monotonic()
        ready.wait(60.0)
        begun.append(time.monotonic())
        return arrived

    arrived = together([lambda: call(0.0), lambda: call(0.3)], ready)
    assert min(begun) >= max(arrived)


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_the_error_of_the_one_that_failed_is_raised(order):
    ready = multiprocessing.get_context("spawn").Barrier(2)
    calls = [lambda fails=fails: apart(meet, {BOTH[0]}, ready, fails) for fails in order]
    with pytest.raises(GameError, match="the game is gone") as caught:
        together(calls, ready)
    assert not isinstance(caught.value, PartnerFailed)


def test_a_process_that_dies_is_not_waited_for():
    ready = multiprocessing.get_context("spawn").Barrier(2)
    calls = [lambda: apart(die, {BOTH[0]}, ready), lambda: apart(meet, {BOTH[0]}, ready, False)]
    with pytest.raises(GameError, match=r"ended early \(status 7\)"):
        together(calls, ready)


@pytest.mark.openscope
def test_two_that_cannot_be_played_end_at_once():
    config = Speed(url="http://127.0.0.1:9", minutes=1, window=12)
    hour = Hour((), (None,) * 12, ({},) * 13, (0,) * 13)
    with pytest.raises(GameError, match="not reachable"):
        speed.two_pages(config, 1, hour)
    with pytest.raises(GameError, match="not reachable"):
        speed.two_workers(config, set(BOTH[:2]), 1, hour)
