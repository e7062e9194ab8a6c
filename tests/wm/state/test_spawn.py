"""Spawns: when they come, who gets a slot, and how departures wait."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm.recordings import SLOTS, rated
from wm.sector import traffic as tr
from wm.sector.airport import from_static, select, stack
from wm.state import spawn as sp

ARRIVALS, DEPARTURES = range(2)
PLACE = scenes.airport()


def spawning(interval_s: float, place=PLACE):
    """The airport with streams of this mean interval and no shortest one."""
    same = np.full(place.stream_interval_s.shape, interval_s, np.float32)
    return place.replace(stream_interval_s=same, stream_minimum_s=np.zeros_like(same))


ALWAYS, HARDLY_EVER = spawning(1.0), spawning(1e9)


def table(count=(2, 2)) -> sp.SpawnTable:
    """Two first sights per stream of one airport; those of departures wait for 27L and for 36."""
    rows = rated(
        4, x_nm=[50.0, 51.0, 1.0, 0.0], phase=[tr.CRUISE, tr.DESCENT, tr.WAITING, tr.WAITING],
        category=[tr.ARRIVAL, tr.ARRIVAL, tr.DEPARTURE, tr.DEPARTURE], id=-1,
        runway=[scenes.RUNWAY_27L, scenes.RUNWAY_27L, scenes.RUNWAY_27L, scenes.RUNWAY_36],
    )  # fmt: skip
    rows = jax.tree.map(lambda x: x.reshape(1, 2, 2), rows)
    return sp.SpawnTable(rows=rows, count=jnp.asarray([count], jnp.int32))


@jax.jit
def _spawn(scene, table, rate, next_id, key, place):
    return sp.spawn(scene, table, 0, rate, next_id, key, place)


def spawn(aircraft, table, key=0, next_id=500, place=ALWAYS, **changes):
    scene = scenes.scene(aircraft, place, **({"time_s": jnp.float32(100.0)} | changes))
    arguments = jax.tree.map(np.asarray, (scene, table, np.float32(1.0), np.int32(next_id)))
    return jax.tree.map(np.asarray, _spawn(*arguments, jax.random.key(key), place))


def test_the_chance_of_a_spawn_is_that_of_a_uniform_gap():
    place = PLACE.replace(
        stream_interval_s=np.asarray([360.0, 40.0], np.float32),
        stream_minimum_s=np.asarray([70.0, 60.0], np.float32),  # the second is busier than its spacing allows
    )
    chance = lambda clock, rate=1.0: np.asarray(sp.spawn_chance(jnp.full(2, clock), rate, place))  # noqa: E731
    # Evenly from 70 to 650 s: at 0 none, at 68 s 3 of 580 s, at 350 s 5 of the 300 left, at 645 s surely.
    np.testing.assert_allclose([chance(c)[0] for c in (0.0, 68.0, 350.0, 645.0)], [0, 3 / 580, 5 / 300, 1])
    np.testing.assert_allclose([chance(c)[1] for c in (0.0, 50.0, 55.0, 60.0)], [0, 0, 1, 1])
    # At twice the traffic the mean is 180 s, the longest 290 s.
    np.testing.assert_allclose(chance(190.0, 2.0)[0], 5 / 100, rtol=1e-6)


def test_padded_streams_never_spawn():
    padded = select(stack([PLACE, scenes.larger_airport()]), 0)  # two streams, padded to four
    chance = np.asarray(jax.jit(sp.spawn_chance)(jnp.full(4, 1e5), 1.0, padded))
    np.testing.assert_array_equal(chance, [1.0, 1.0, 0.0, 0.0])


def test_spawning_streams_fill_the_free_slots_and_keep_everyone_else():
    t = rated(SLOTS, x_nm=[1.0, 2.0, 3.0], valid=[True, False, True])
    scene, next_id, overflow = spawn(t, table())
    after = scene.traffic
    np.testing.assert_array_equal(after.valid, [True, True, True, True, False, False])
    np.testing.assert_array_equal(after.id[[0, 1, 2, 3]], [100, 500, 102, 501])
    np.testing.assert_array_equal(after.stream[[1, 3]], [ARRIVALS, DEPARTURES])
    np.testing.assert_array_equal(after.category[[1, 3]], [tr.ARRIVAL, tr.DEPARTURE])
    assert after.x_nm[1] in (50.0, 51.0)
    assert next_id == 502
    assert overflow == 0
    np.testing.assert_array_equal(scene.since_spawn_s, [0.0, 0.0])
    kept = [0, 2, 4, 5]
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a)[kept,], b[kept,]), t, after)


@pytest.mark.parametrize(("free", "filled", "lost"), [(0, 0, 2), (1, 1, 1), (2, 2, 0)])
def test_what_finds_no_slot_is_counted(free, filled, lost):
    t = rated(SLOTS, x_nm=np.arange(SLOTS, dtype=float), valid=np.arange(SLOTS) >= free)
    scene, next_id, overflow = spawn(t, table())
    assert scene.traffic.valid.sum() == SLOTS - free + filled
    assert (next_id - 500, overflow) == (filled, lost)
    ids = scene.traffic.id[scene.traffic.valid]
    assert len(set(ids.tolist())) == len(ids)
    np.testing.assert_array_equal(scene.since_spawn_s, [0.0, 0.0])  # their clocks restart all the same


def test_nothing_spawns_before_its_time_or_without_recorded_first_sights():
    t = rated(SLOTS, x_nm=[1.0])
    for place, rows in ((HARDLY_EVER, table()), (ALWAYS, table(count=(0, 0)))):
        scene, next_id, overflow = spawn(t, rows, place=place)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), t, scene.traffic)
        assert (next_id, overflow) == (500, 0)
        np.testing.assert_array_equal(scene.since_spawn_s, [20.0, 20.0])


def test_departures_that_come_at_once_queue_behind_each_other():
    rows = rated(
        4, phase=[tr.WAITING, tr.WAITING, tr.WAITING, tr.WAITING], category=tr.DEPARTURE, id=-1,
        runway=[scenes.RUNWAY_27L] * 4,
    )  # fmt: skip
    both = sp.SpawnTable(
        rows=jax.tree.map(lambda x: x.reshape(1, 2, 2), rows), count=jnp.asarray([[2, 2]], jnp.int32)
    )
    first = {"phase": [tr.WAITING], "queue_position": [0], "runway": [scenes.RUNWAY_27L]}
    waiting = rated(SLOTS, valid=[True] + [False] * 5, **first)
    scene, *_ = spawn(waiting, both)
    t = scene.traffic
    assert t.valid.sum() == 3
    assert sorted(t.queue_position[t.valid]) == [0, 1, 2]


def rolling() -> sp.SpawnTable:
    """First sights of departures from 27L that were released in the step of their spawn."""
    rows = rated(
        4, phase=[tr.TAKEOFF] * 4, category=tr.DEPARTURE, id=-1, runway=[scenes.RUNWAY_27L] * 4,
        speed_kt=30.0, airborne_s=3.0, runway_class=2, heading_mode=tr.HEADING_LNAV,
    )  # fmt: skip
    rows = jax.tree.map(lambda x: x.reshape(1, 2, 2), rows)
    return sp.SpawnTable(rows=rows, count=jnp.asarray([[2, 2]], jnp.int32))


def runways(last: int, distance_nm: float, on_ground: bool) -> tr.Runways:
    """Runways of which 27L has had a departure of class 1."""
    blank = tr.empty(tr.Runways, (3,))
    at = lambda leaf, value: leaf.at[scenes.RUNWAY_27L].set(value)  # noqa: E731
    return blank.replace(
        last_departure=at(blank.last_departure, last),
        last_departure_distance_nm=at(blank.last_departure_distance_nm, distance_nm),
        last_departure_class=at(blank.last_departure_class, 1),
        last_departure_on_ground=at(blank.last_departure_on_ground, on_ground),
    )


def test_of_two_departures_at_once_one_rolls_and_is_the_runways_last():
    empty = rated(SLOTS, valid=[False] * SLOTS)
    scene, *_ = spawn(empty, rolling())
    t = scene.traffic
    np.testing.assert_array_equal(t.phase[:2], [tr.TAKEOFF, tr.WAITING])
    np.testing.assert_array_equal(t.queue_position[:2], [-1, 0])
    np.testing.assert_array_equal(t.speed_kt[:2], [30.0, 0.0])
    assert t.heading_mode[1] == tr.MODE_OFF
    assert scene.runways.last_departure[scenes.RUNWAY_27L] == t.id[0] == 500
    assert scene.runways.last_departure_on_ground[scenes.RUNWAY_27L]
    assert scene.runways.since_departure_s[scenes.RUNWAY_27L] == 3.0


@pytest.mark.parametrize(
    ("distance_ft", "on_ground", "rolls"),
    [(6400.0, False, False), (6600.0, False, True), (9000.0, True, False)],  # class 2 asks 4,500 and 2,000 ft
)
def test_a_departure_rolls_at_once_where_the_last_one_is_far_enough(distance_ft, on_ground, rolls):
    empty = rated(SLOTS, valid=[False] * SLOTS)
    used = runways(77, distance_ft / tr.FT_PER_NM, on_ground)
    scene, *_ = spawn(empty, rolling(), runways=used)
    assert (scene.traffic.phase[0] == tr.TAKEOFF) == rolls
    assert scene.runways.last_departure[scenes.RUNWAY_27L] == (500 if rolls else 77)


def test_a_departure_waits_behind_those_that_wait():
    first = {"phase": [tr.WAITING], "queue_position": [0], "runway": [scenes.RUNWAY_27L]}
    scene, *_ = spawn(rated(SLOTS, valid=[True] + [False] * 5, **first), rolling())
    np.testing.assert_array_equal(scene.traffic.phase[:3], [tr.WAITING] * 3)
    np.testing.assert_array_equal(scene.traffic.queue_position[:3], [0, 1, 2])


def test_departures_queue_behind_those_that_wait_for_their_runway():
    t = rated(
        SLOTS, phase=[tr.WAITING, tr.WAITING, tr.WAITING, tr.CLIMB], queue_position=[0, 1, 0, -1],
        runway=[scenes.RUNWAY_27L, scenes.RUNWAY_27L, scenes.RUNWAY_36, scenes.RUNWAY_27L],
    )  # fmt: skip
    seen = {}
    for key in range(12):
        scene, _, _ = spawn(t, table(count=(0, 2)), key=key)
        fresh = scene.traffic
        seen[int(fresh.runway[4])] = int(fresh.queue_position[4])
        assert fresh.phase[4] == tr.WAITING
    assert seen == {scenes.RUNWAY_27L: 2, scenes.RUNWAY_36: 1}


def test_a_stream_spawned_in_the_steps_in_which_its_clock_restarts():
    since = np.asarray([[-1, -1, 2, 7, 12, 17, 1, 6, 11], [3, 8, 13, 1, 6, 11, 16, 2, 7]], np.float32).T
    empty = scenes.scene(scenes.traffic(1, valid=False), PLACE, since_spawn_s=since)
    np.testing.assert_array_equal(np.argwhere(sp.spawned(empty)), [[1, 0], [2, 1], [5, 0], [6, 1]])


def test_imagined_gaps_are_spread_as_the_games():
    streams = [
        {"category": "arrival", "rate_per_h": 20, "speed_kt": 280},
        {"category": "departure", "rate_per_h": 30, "speed_kt": 0},
    ]
    place = from_static(scenes.static(streams=streams), scenes.routes())
    games, steps = 16, 720
    start = scenes.scene(rated(4, x_nm=[0.0], valid=[False]), place, since_spawn_s=jnp.full((2,), -1.0))
    start = jax.tree.map(lambda x: np.broadcast_to(x, (games, *np.shape(x))), start)

    def one(scene, key):
        clock = jnp.where(scene.since_spawn_s >= 0, scene.since_spawn_s + tr.STEP_S, -1.0)
        scene = scene.replace(since_spawn_s=clock, time_s=scene.time_s + tr.STEP_S)
        after, _, _ = sp.spawn(scene, table(), 0, 1.0, 0, key, place)
        return after.replace(traffic=scene.traffic), after.since_spawn_s == 0.0

    def step(scenes, key):
        return jax.vmap(one)(scenes, jax.random.split(key, games))

    play = jax.jit(lambda key: jax.lax.scan(step, start, jax.random.split(key, steps))[1])
    spawned = np.asarray(play(jax.random.key(2)))  # [steps, games, streams]
    for s in range(2):
        gaps = np.concatenate([np.diff(np.flatnonzero(run)) for run in spawned[:, :, s].T]) * tr.STEP_S
        wanted = float(place.stream_interval_s[s])
        assert abs(gaps.mean() / wanted - 1) < 0.1, (s, gaps.mean(), wanted)
        assert np.mean(gaps < float(place.stream_minimum_s[s]) - 2 * tr.STEP_S) < 0.05
        assert gaps.std() < 0.75 * wanted  # a constant rate would have it at 1
