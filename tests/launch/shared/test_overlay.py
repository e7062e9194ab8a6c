"""The overlay of recorded and imagined tracks: which window it shows, and that it shows one per airport."""

import cv2
import numpy as np
import pytest

from launch.shared import overlay
from tests.wm import recordings as rc
from wm.sector import commands
from wm.state import fidelity, labels

STEPS = round(overlay.SECONDS / 5.0)


@pytest.fixture(scope="module")
def recordings():
    """Two flights of one window each; only in the second are aircraft commanded."""
    actions = rc.idle(STEPS)
    actions[3] = (2, commands.HEADING, 0, 4, 0)
    actions[9] = (4, commands.ALTITUDE, 3, 0, 0)
    place = rc.airport()
    scene = rc.on_route(np.random.default_rng(0), place)
    return [rc.fly(scene, place, rc.idle(STEPS)), rc.fly(scene, place, actions)]


def test_the_window_with_most_commanded_aircraft_is_shown(recordings):
    windows = fidelity.cut_windows(recordings, STEPS, STEPS)
    shown = overlay.busiest(windows, 1)
    assert shown.action.shape == (1, STEPS, 5)
    np.testing.assert_array_equal(shown.action[0], recordings[1].action)
    assert shown.commanded(STEPS).sum() == 2


def test_every_airport_has_a_panel_with_recorded_and_imagined_tracks(recordings, tmp_path):
    one = {"aaaa": labels.airport_of(recordings)}
    overlay.draw(rc.untrained(), one, tmp_path / "one.png")
    overlay.draw(rc.untrained(), one | {"bbbb": one["aaaa"]}, tmp_path / "two.png")
    single, double = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "two.png"))
    assert double.shape[1] > 1.8 * single.shape[1]
    grey = np.all(single == 191, -1)  # the recorded tracks' 0.75
    spread = single.max(-1).astype(int) - single.min(-1)
    assert grey.sum() > 200
    assert np.sum(spread > 60) > 200  # coloured: the imagined ones
