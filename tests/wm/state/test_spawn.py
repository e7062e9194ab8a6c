"""Spawns: who gets a slot, and a hazard that gives back the gaps it was trained on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tests.wm.scenes as scenes
from tests.wm.recordings import SLOTS, idle, rated
from wm.sector import traffic as tr
from wm.sector.airport import from_static, select, stack
from wm.sector.recording import Recording
from wm.state import fit
from wm.state import spawn as sp

ARRIVALS, DEPARTURES = range(2)
PLACE = scenes.airport()


def weights_with(bias: float):
    """Hazard weights whose logit is `bias` whatever the clock."""
    blank = jax.tree.map(jnp.zeros_like, sp.HazardNetwork().init(jax.random.key(0), jnp.zeros((1, 1, 5))))
    blank["params"]["logit"]["bias"] = jnp.full((1,), bias)
    return blank


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
def _spawn(scene, weights, table, rate, next_id, key, place):
    return sp.spawn(scene, weights, table, 0, rate, next_id, key, place)


def spawn(aircraft, weights, table, key=0, next_id=500, place=PLACE, **changes):
    scene = scenes.scene(aircraft, place, **({"time_s": jnp.float32(100.0)} | changes))
    arguments = jax.tree.map(np.asarray, (scene, weights, table, np.float32(1.0), np.int32(next_id)))
    return jax.tree.map(np.asarray, _spawn(*arguments, jax.random.key(key), place))


def test_hazard_features_are_finite_and_tell_streams_apart():
    clock = np.linspace(-5, 4000, 50)[:, None]
    interval = np.asarray([360.0, 300.0, 1e9, 40.0])
    minimum = np.asarray([70.0, 0.0, 0.0, 70.0])  # the last one: busier than its spacing allows
    category = np.asarray([tr.ARRIVAL, tr.DEPARTURE, -1, tr.ARRIVAL])
    x = np.asarray(sp.hazard_features(clock, interval, minimum, category))
    assert x.shape == (50, 4, 5)
    assert np.all(np.isfinite(x))
    assert not np.allclose(x[:, 0], x[:, 1])


def test_padded_streams_never_spawn():
    padded = select(stack([PLACE, scenes.larger_airport()]), 0)  # two streams, padded to four
    logits = np.asarray(jax.jit(sp.spawn_logits)(weights_with(100.0), jnp.zeros(4), 1.0, padded))
    np.testing.assert_array_equal(np.isfinite(logits), [True, True, False, False])
    assert np.all(logits[2:] == -np.inf)


def test_spawning_streams_fill_the_free_slots_and_keep_everyone_else():
    t = rated(SLOTS, x_nm=[1.0, 2.0, 3.0], valid=[True, False, True])
    scene, next_id, overflow = spawn(t, weights_with(100.0), table())
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
    scene, next_id, overflow = spawn(t, weights_with(100.0), table())
    assert scene.traffic.valid.sum() == SLOTS - free + filled
    assert (next_id - 500, overflow) == (filled, lost)
    ids = scene.traffic.id[scene.traffic.valid]
    assert len(set(ids.tolist())) == len(ids)
    np.testing.assert_array_equal(scene.since_spawn_s, [0.0, 0.0])  # their clocks restart all the same


def test_nothing_spawns_without_hazard_or_without_recorded_first_sights():
    t = rated(SLOTS, x_nm=[1.0])
    for weights, rows in ((weights_with(-100.0), table()), (weights_with(100.0), table(count=(0, 0)))):
        scene, next_id, overflow = spawn(t, weights, rows)
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
    scene, *_ = spawn(waiting, weights_with(20.0), both)
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
    scene, *_ = spawn(empty, weights_with(20.0), rolling())
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
    scene, *_ = spawn(empty, weights_with(20.0), rolling(), runways=used)
    assert (scene.traffic.phase[0] == tr.TAKEOFF) == rolls
    assert scene.runways.last_departure[scenes.RUNWAY_27L] == (500 if rolls else 77)


def test_a_departure_waits_behind_those_that_wait():
    first = {"phase": [tr.WAITING], "queue_position": [0], "runway": [scenes.RUNWAY_27L]}
    scene, *_ = spawn(rated(SLOTS, valid=[True] + [False] * 5, **first), weights_with(20.0), rolling())
    np.testing.assert_array_equal(scene.traffic.phase[:3], [tr.WAITING] * 3)
    np.testing.assert_array_equal(scene.traffic.queue_position[:3], [0, 1, 2])


def test_departures_queue_behind_those_that_wait_for_their_runway():
    t = rated(
        SLOTS, phase=[tr.WAITING, tr.WAITING, tr.WAITING, tr.CLIMB], queue_position=[0, 1, 0, -1],
        runway=[scenes.RUNWAY_27L, scenes.RUNWAY_27L, scenes.RUNWAY_36, scenes.RUNWAY_27L],
    )  # fmt: skip
    seen = {}
    for key in range(12):
        scene, _, _ = spawn(t, weights_with(100.0), table(count=(0, 2)), key=key)
        fresh = scene.traffic
        seen[int(fresh.runway[4])] = int(fresh.queue_position[4])
        assert fresh.phase[4] == tr.WAITING
    assert seen == {scenes.RUNWAY_27L: 2, scenes.RUNWAY_36: 1}


def recorded_gaps(rng, place, steps=6000) -> Recording:
    """Stream clocks of a game whose gaps are uniform, seen every 5 s; nothing else is in it."""
    streams = int(place.stream_count)
    since = np.full((steps + 1, streams), -1.0, np.float32)
    for s in range(streams):
        shortest, interval = float(place.stream_minimum_s[s]), float(place.stream_interval_s[s])
        at, times = rng.uniform(0, interval), []
        while at < steps * tr.STEP_S:
            times.append(at)
            at += rng.uniform(shortest, 2 * interval - shortest)
        for t in range(steps + 1):
            past = np.searchsorted(times, t * tr.STEP_S, side="right")
            since[t, s] = t * tr.STEP_S - times[past - 1] if past else -1.0
    empty = scenes.scene(scenes.traffic(1, valid=False), place, since_spawn_s=since)
    empty = dataclasses.replace(empty, time_s=tr.STEP_S * np.arange(steps + 1, dtype=np.float32))
    return Recording("test", 0, "none", empty, idle(steps), np.zeros((steps, 1, 14), bool), {}, [])


def test_a_trained_hazard_reproduces_the_mean_gaps():
    streams = [
        {"category": "arrival", "rate_per_h": 20, "speed_kt": 280},
        {"category": "departure", "rate_per_h": 30, "speed_kt": 0},
    ]
    place = from_static(scenes.static(streams=streams), scenes.routes())
    rows = fit.spawn_rows(recorded_gaps(np.random.default_rng(0), place), place)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(weights, rows):
        def step(carry, _):
            weights, state = carry
            loss, gradient = jax.value_and_grad(fit.hazard_loss)(weights, rows)
            change, state = optimizer.update(gradient, state)
            return (optax.apply_updates(weights, change), state), loss

        return jax.lax.scan(step, (weights, optimizer.init(weights)), None, 400)

    first = sp.HazardNetwork().init(jax.random.key(1), jnp.zeros((1, 1, 5)))
    (weights, _), losses = train(first, rows)
    assert losses[-1] < 0.7 * losses[0]

    games, steps = 16, 720
    start = scenes.scene(rated(4, x_nm=[0.0], valid=[False]), place, since_spawn_s=jnp.full((2,), -1.0))
    start = jax.tree.map(lambda x: np.broadcast_to(x, (games, *np.shape(x))), start)

    def one(scene, key):
        clock = jnp.where(scene.since_spawn_s >= 0, scene.since_spawn_s + tr.STEP_S, -1.0)
        scene = scene.replace(since_spawn_s=clock, time_s=scene.time_s + tr.STEP_S)
        after, _, _ = sp.spawn(scene, weights, table(), 0, 1.0, 0, key, place)
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
