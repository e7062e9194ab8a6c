"""Mixed cold starts: streams from different recorded ones, one departure rolling, numbers anew."""

import jax
import numpy as np

import tests.wm.scenes as scenes
from wm.sector import traffic as tr
from wm.state import starts

SLOTS = 6


def start(number: int, **columns):
    """A recorded start in which every aircraft's x says from which start it is."""
    count = len(columns["stream"])
    common = {"id": np.arange(count) + 10 * number, "x_nm": [float(number)] * count, "controllable": True}
    scene = scenes.scene(scenes.traffic(SLOTS, **(common | columns)), scenes.airport())
    clocks = np.full(scene.since_spawn_s.shape, float(number), np.float32)
    return jax.tree.map(np.asarray, scene.replace(since_spawn_s=clocks, wind_speed_kt=np.float32(number)))


def stacked(*scenes_):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *scenes_)


ARRIVALS = {"category": tr.ARRIVAL, "phase": tr.DESCENT}
DEPARTURES = {"category": tr.DEPARTURE, "phase": tr.TAKEOFF, "runway": scenes.RUNWAY_27L, "speed_kt": 40.0}


def test_each_stream_comes_whole_from_one_start():
    recorded = stacked(start(1, stream=[0, 0, 1], **ARRIVALS), start(2, stream=[0, 1, 1], **ARRIVALS))
    mixed = starts.mixed(recorded, 40, seed=3)
    t = mixed.traffic
    seen = set()
    for i in range(40):
        origin = {s: set(t.x_nm[i][t.valid[i] & (t.stream[i] == s)]) for s in (0, 1)}
        assert all(len(one) == 1 for one in origin.values())
        first, second = (int(min(origin[s])) for s in (0, 1))
        seen.add((first, second))
        assert t.valid[i].sum() == {1: 2, 2: 1}[first] + {1: 1, 2: 2}[second]
        np.testing.assert_array_equal(mixed.since_spawn_s[i, :2], [first, second])
        np.testing.assert_array_equal(t.id[i][t.valid[i]], np.arange(t.valid[i].sum()))
    assert seen == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_one_departure_of_a_runway_rolls_and_is_its_last_departure():
    recorded = stacked(start(1, stream=[0, 1], **DEPARTURES), start(2, stream=[0, 1], **DEPARTURES))
    mixed = starts.mixed(recorded, 5)
    for t, runways in ((jax.tree.map(lambda x, i=i: x[i], (mixed.traffic, mixed.runways))) for i in range(5)):
        np.testing.assert_array_equal(t.phase[:2], [tr.TAKEOFF, tr.WAITING])
        np.testing.assert_array_equal(t.queue_position[:2], [-1, 0])
        np.testing.assert_array_equal(t.speed_kt[:2], [40.0, 0.0])
        assert runways.last_departure[scenes.RUNWAY_27L] == t.id[0]
        assert runways.last_departure_on_ground[scenes.RUNWAY_27L]


def test_what_overflows_is_drawn_again_until_it_fits():
    """Two starts that fill all slots, each with another stream: both streams together never fit."""
    recorded = stacked(start(1, stream=[0] * SLOTS, **ARRIVALS), start(2, stream=[1] * SLOTS, **ARRIVALS))
    mixed = starts.mixed(recorded, 30)
    assert set(mixed.traffic.valid.sum(1)) == {0, SLOTS}  # of one, of the other, or of neither
