"""The hand-written rules against recorded hours: they fly as the game does, command for command."""

from pathlib import Path

import numpy as np
import pytest

from collect import dataset
from wm.sector import traffic as tr
from wm.state import fidelity, labels

SHIPPED = Path(dataset.__file__).parent / "data" / "shipped" / "test"
STEPS = 60
FRAME_NM = 0.045  # how far the fastest aircraft flies in a frame, which the game skips for some


@pytest.fixture(scope="module", params=["kabq", "klas"])
def replayed(request):
    """(windows, tracks of the rules) of a recorded hour that nothing was trained on."""
    recording = next(e for e in dataset.load([SHIPPED], "test") if e.icao == request.param)
    airport, (recording,) = labels.airport_of([recording])
    windows = fidelity.cut_windows([recording], STEPS, STEPS)
    return windows, fidelity.imagine(None, airport, windows.start, windows.action)


@pytest.mark.parametrize("steps", [1, 12, STEPS])
def test_no_aircraft_is_farther_off_than_a_skipped_frame(replayed, steps):
    windows, tracks = replayed
    error = fidelity.errors_nm(windows, tracks, steps)[windows.considered]
    known = error[np.isfinite(error)]
    assert len(known) > 40
    assert np.median(known) < 1e-3
    assert np.mean(known > FRAME_NM) <= 0.01, np.sort(known)[-5:]


def test_aircraft_leave_play_when_the_recorded_ones_do(replayed):
    windows, (_, _, _, playing) = replayed
    there = np.logical_and.accumulate(np.asarray(playing), 1)
    left = ~windows.playing[:, -1] & windows.considered
    late = np.abs(there.sum(1) - windows.playing.sum(1))[left]
    assert left.sum() > 5
    assert np.mean(late <= 1) > 0.95


def test_the_windows_hold_approaches_and_take_offs(replayed):
    windows, _ = replayed
    t = windows.start.traffic
    assert np.sum((t.heading_mode == tr.HEADING_LOCALIZER) & windows.considered) > 3
    assert np.sum(t.valid & (t.phase <= tr.TAKEOFF)) > 0
