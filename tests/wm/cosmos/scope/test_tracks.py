"""Aircraft are followed by place and callsign, and what is hidden is carried over."""

import jax
import numpy as np
import pytest

from wm.cosmos.scope import crops
from wm.cosmos.scope.commands import Track
from wm.cosmos.scope.reader import Blips, Tracks

NAMES = {1: b"SWA12\0\0\0", 2: b"N7ZU\0\0\0\0"}
# 240 kt are one nautical mile in 15 s: 7 px at 7 px/nm.
EASTWARD = Track(*(np.float32(value) for value in (0.0, 0.0, 9000.0, np.pi / 2, 240.0, 1.0, 0.0, 0.0)))


def callsign(key: int) -> np.ndarray:
    return crops.letters(np.frombuffer(NAMES[key], np.uint8))


def blips(*seen, clear=1.0) -> Blips:
    """Of (key, place, altitude) that the reader is sure of."""
    count = len(seen)
    letters = np.full((count, 8, 37), 1e-6)
    for row, (key, _, _) in enumerate(seen):
        letters[row, np.arange(8), callsign(key)] = 1.0
    ones = np.ones(count)
    return Blips(
        ones > 0, np.asarray([place for _, place, _ in seen], float).reshape(count, 2), letters,
        np.asarray([altitude for *_, altitude in seen], float), clear * ones, 200 * ones, 0 * ones,
        clear * np.ones((count, 2)),
    )  # fmt: skip


def followed() -> Tracks:
    tracks = Tracks(7.0, 512)
    tracks.enter(1, EASTWARD, callsign(1))
    tracks.enter(2, EASTWARD.replace(y_nm=np.float32(-1.0)), callsign(2))
    return tracks


def test_an_aircraft_is_expected_one_interval_ahead():
    tracks = followed()
    assert tracks.aircraft[1].velocity == pytest.approx([7.0, 0.0], abs=1e-5)
    assert tracks.see(blips((1, (263.2, 256), 8900), (2, (262.9, 263), 9100))) == 0
    assert tracks.aircraft[1].place.tolist() == [263.2, 256.0]
    assert tracks.aircraft[1].altitude_ft == 8900
    assert tracks.aircraft[1].velocity == pytest.approx([7.2, 0.0])


def test_callsigns_decide_between_near_aircraft():
    tracks = followed()
    # Each is nearer to where the other is expected.
    tracks.see(blips((2, (263, 258), 9100), (1, (263, 261), 8900)))
    assert tracks.aircraft[1].place.tolist() == [263.0, 261.0]
    assert tracks.aircraft[2].place.tolist() == [263.0, 258.0]


def test_what_is_hidden_flies_on_and_keeps_its_altitude():
    tracks = followed()
    tracks.see(blips((2, (263, 263), 9100)))
    hidden = tracks.aircraft[1]
    assert hidden.place == pytest.approx([263.0, 256.0], abs=1e-4)
    assert (hidden.missed, hidden.altitude_ft, hidden.readable) == (1, 9000.0, False)


def test_unreadable_numbers_are_not_taken():
    tracks = followed()
    tracks.see(blips((1, (263, 256), 100), (2, (263, 263), 200), clear=0.2))
    assert tracks.aircraft[1].altitude_ft == 9000.0
    assert tracks.aircraft[1].missed == 0


def test_hidden_numbers_are_taken_where_they_are_plausible():
    tracks = followed()
    hidden = blips((1, (263, 256), 8600), (2, (263, 263), 3000))
    hidden = hidden.replace(altitude_p=np.full(2, 0.1), clear=np.full((2, 2), 0.15))
    tracks.see(hidden)
    assert [tracks.aircraft[key].altitude_ft for key in (1, 2)] == [8600.0, 9000.0]
    assert not tracks.aircraft[1].readable


def test_a_hidden_aircraft_goes_on_descending():
    tracks = followed()
    tracks.see(blips((1, (263, 256), 8700), (2, (263, 263), 9000)))
    tracks.see(blips((2, (270, 263), 9000)))
    assert [tracks.aircraft[key].altitude_ft for key in (1, 2)] == [8400.0, 9000.0]


def test_a_new_aircraft_is_recognised_by_its_callsign():
    tracks = Tracks(7.0, 512)
    seen = blips((2, (100, 100), 7000), (1, (300, 200), 5000))
    tracks.see(seen)
    tracks.recognise({1: callsign(1)}, seen)
    assert tracks.aircraft[1].place.tolist() == [300.0, 200.0]
    tracks.recognise({7: crops.letters(np.frombuffer(b"UAL999\0\0", np.uint8))}, seen)
    tracks.recognise({}, seen)
    assert set(tracks.aircraft) == {1}


@pytest.mark.parametrize("similar", [b"SWA13\0\0\0", b"SWA30\0\0\0"])
def test_nobody_is_recognised_where_one_of_a_similar_callsign_is(similar):
    tracks, seen = Tracks(7.0, 512), blips((1, (300, 200), 5000))
    outside = crops.letters(np.frombuffer(similar, np.uint8))  # is not in the picture
    tracks.recognise({0: outside, 1: callsign(1)}, seen)
    assert set(tracks.aircraft) == {1}
    later = Tracks(7.0, 512)
    later.recognise({0: outside}, seen)
    assert set(later.aircraft) == ({0} if similar == b"SWA13\0\0\0" else set())  # one letter may be misread


def test_a_blip_far_from_everyone_is_nobodys():
    tracks = followed()
    assert tracks.see(blips((1, (263, 256), 9000), (2, (400, 100), 9000))) == 1
    assert tracks.aircraft[2].missed == 1


def test_tracks_are_in_nautical_miles_with_north_up():
    tracks = followed()
    empty = jax.tree.map(lambda x: np.full(3, x), EASTWARD.replace(x_nm=np.float32(5.0)))
    track = tracks.track([2, 1, 9], empty)
    assert track.x_nm.tolist() == [0.0, 0.0, 5.0]
    assert track.y_nm == pytest.approx([-1.0, 0.0, 0.0])
