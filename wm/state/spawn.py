"""Spawns: when each stream of the airport sends its next aircraft, and what that aircraft is.

The time between two spawns is uniform, as the game draws it for streams of the method "random"; all streams
of the airports that the models know are of it. The aircraft is a row of the empirical table of that stream's
recorded first sights.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import FT_PER_NM, STEP_S, Runways, Scene, Traffic

MAX_SPAWNS = 4  # per step; further streams wait for the next step
SEPARATION_FT = (3000.0, 4500.0, 6000.0)  # same-runway minimum by class 1, 2, 3
TOWER_MARGIN_FT = 2000.0  # what the automatic tower adds
# What a departure that waits has instead of one that rolls.
STANDING = {
    "phase": tr.WAITING, "speed_kt": 0.0, "ground_speed_kt": 0.0, "ground_track_rad": 0.0,
    "target_speed_kt": 0.0, "target_altitude_ft": 0.0, "target_heading_rad": 0.0,
    "altitude_mode": tr.MODE_OFF, "heading_mode": tr.MODE_OFF, "speed_mode": tr.MODE_OFF,
    "assigned_altitude_ft": -1.0, "assigned_heading_rad": -1.0, "assigned_speed_kt": -1.0,
    "airborne_s": -1.0, "since_phase_s": 0.0, "phase_change_frame": -1,
}  # fmt: skip


@struct.dataclass
class SpawnTable:
    """Recorded first sights of every airport's streams."""

    rows: Traffic  # [A, S, J]
    count: jax.Array  # [A, S] rows used


def stream_clock(scene: Scene):
    """Seconds `[..., S]` since each stream's last spawn, or since the start before its first."""
    return jnp.where(scene.since_spawn_s >= 0, scene.since_spawn_s, scene.time_s[..., None])


def spawned(scene: Scene) -> np.ndarray:
    """Whether each stream spawned in each step, bool `[T, S]`, of a recorded scene `[T + 1]`."""
    since = np.asarray(scene.since_spawn_s)
    return (since[1:] >= 0) & ((since[:-1] < 0) | (since[1:] < since[:-1]))


def spawn_chance(clock_s, traffic_rate, airport: Airport):
    """Chance `[..., S]` that each stream spawns in the step that begins now; 0 for padding.

    clock_s `[..., S]`: since the stream's last spawn. The next one comes after a time drawn evenly between
    the shortest and as much above the mean interval as that is below it; `traffic_rate` divides the mean.
    Where the mean is below the shortest, every gap is the shortest (trafficGenerator/SpawnPatternModel.js).
    """
    shortest = airport.stream_minimum_s
    longest = jnp.maximum(2.0 * airport.stream_interval_s / traffic_rate - shortest, shortest)
    begin = jnp.maximum(clock_s, shortest)
    within = jnp.clip(clock_s + STEP_S - begin, 0.0) / jnp.maximum(longest - begin, 1e-3)
    chance = jnp.where(clock_s + STEP_S >= longest, 1.0, jnp.minimum(within, 1.0))
    return jnp.where(jnp.arange(chance.shape[-1]) < airport.stream_count, chance, 0.0)


def _first_sights(table: SpawnTable, airport_id, stream, uniform) -> Traffic:
    """One row `[k]` of the table for each stream `[k]`, drawn by `uniform [k]`."""
    count = table.count[airport_id][stream]
    row = jnp.minimum((uniform * count).astype(jnp.int32), count - 1)
    packed = tr.to_table(table.rows, jnp)  # one gather instead of one for each field
    return tr.from_table(Traffic, packed[airport_id, stream, row])


def spawn(
    scene: Scene, table: SpawnTable, airport_id, traffic_rate, next_id, key, airport: Airport
):
    """Let streams spawn into free slots; return (scene, next id, overflow count).

    Every spawning stream takes the lowest free slot, in stream order; what finds none is counted.
    `table [A, ...]` is that of all airports, `airport` the one with index `airport_id`.
    """
    key_when, key_which = jax.random.split(key)
    t, most = scene.traffic, jnp.arange(MAX_SPAWNS)
    # The clock was advanced by the step during which the spawn happens.
    clock = stream_clock(scene) - STEP_S
    chance = spawn_chance(clock, traffic_rate, airport)
    due = jax.random.uniform(key_when, chance.shape, jnp.float32) < chance
    due = due & (table.count[airport_id] > 0)
    comes = due & (jnp.cumsum(due) <= MAX_SPAWNS)  # [S]
    uniform = jax.random.uniform(key_which, chance.shape, jnp.float32)

    which = comes & (jnp.cumsum(comes) - 1 == most[:, None])  # [MAX_SPAWNS, S]
    free = ~t.valid & (jnp.cumsum(~t.valid) - 1 == most[:, None])  # [MAX_SPAWNS, N]
    takes = free & jnp.any(which, -1, keepdims=True)
    stream = jnp.argmax(which, -1)
    fresh = _first_sights(table, airport_id, stream, uniform[stream])
    come = jnp.any(takes, -1)
    fresh = _held(scene, fresh.replace(id=next_id + most, stream=stream), come, airport)
    fresh = fresh.replace(queue_position=_queue_positions(t, fresh, come))

    def merge(old, new):
        for i in range(MAX_SPAWNS):
            old = jnp.where(takes[i], new[i], old).astype(old.dtype)
        return old

    filled = jnp.sum(takes, dtype=jnp.int32)
    scene = scene.replace(
        traffic=jax.tree.map(merge, t, fresh),
        runways=departed(scene.runways, fresh, come),
        since_spawn_s=jnp.where(comes, 0.0, scene.since_spawn_s),
    )
    return scene, next_id + filled, jnp.sum(comes) - filled


def required_ft(t: Traffic, last_class):
    """How far (ft) the last departures, of `last_class [..., N]`, must be before `[..., N]` others go."""
    pair = jnp.where(last_class == 3, 3, t.runway_class)
    return jnp.asarray(SEPARATION_FT)[jnp.clip(pair, 1, 3) - 1] + TOWER_MARGIN_FT


def tower_clears(t: Traffic, runways: Runways, distance_nm, on_ground):
    """Whether the tower would let departures `[N]` go, were they first in their queues.

    distance_nm, on_ground `[N]`: those of the last departure from each one's runway.
    """
    runway = jnp.maximum(t.runway, 0)
    required = required_ft(t, runways.last_departure_class[runway])
    far = (distance_nm * FT_PER_NM >= required) & ~on_ground
    return (runways.last_departure[runway] < 0) | far


def _held(scene: Scene, fresh: Traffic, come, airport: Airport) -> Traffic:
    """New aircraft `[k]`; departures that were recorded rolling wait where their runway is not clear.

    The recorded runway was: such a departure was released in the step of its spawn.
    """
    t, r = scene.traffic, scene.runways
    runway = jnp.maximum(fresh.runway, 0)
    same = t.runway == fresh.runway[:, None]
    queued = jnp.any(t.valid & (t.phase == tr.WAITING) & same, -1)
    departs = come & (fresh.category == tr.DEPARTURE)
    before = jnp.any(jnp.tril(fresh.runway[:, None] == fresh.runway[None, :], -1) & departs, -1)
    clear = tower_clears(fresh, r, r.last_departure_distance_nm[runway], r.last_departure_on_ground[runway])
    held = (fresh.phase == tr.TAKEOFF) & ~(clear & ~queued & ~before)
    return standing(fresh, held)


def standing(t: Traffic, held) -> Traffic:
    """Traffic `[N]` in which the departures `held [N]` wait."""
    old = {n: getattr(t, n) for n in STANDING}
    return t.replace(**{n: jnp.where(held, v, old[n]).astype(old[n].dtype) for n, v in STANDING.items()})


def departed(runways: Runways, fresh: Traffic, come) -> Runways:
    """Runways after new aircraft `[k]` that roll already."""
    rolls = jnp.where(come & (fresh.phase == tr.TAKEOFF), fresh.runway, -1)
    on_runway = rolls[:, None] == jnp.arange(runways.last_departure.shape[-1])
    used, which = jnp.any(on_runway, 0), jnp.argmax(on_runway, 0)
    new = {
        "last_departure": fresh.id[which],
        "last_departure_distance_nm": 0.0,
        "last_departure_class": fresh.runway_class[which],
        "last_departure_on_ground": True,
        "since_departure_s": fresh.airborne_s[which],
    }
    old = {n: getattr(runways, n) for n in new}
    return runways.replace(**{n: jnp.where(used, v, old[n]).astype(old[n].dtype) for n, v in new.items()})


def _queue_positions(t: Traffic, fresh: Traffic, comes):
    """Places `[k]` of new aircraft in their runways' queues, -1 for those that do not wait.

    They are behind everybody of traffic `[N]` and behind the new ones before them; `comes [k]` are real.
    """
    same = t.runway == fresh.runway[:, None]
    ahead = jnp.sum(t.valid & (t.phase == tr.WAITING) & same, -1, dtype=jnp.int32)
    waits = comes & (fresh.phase == tr.WAITING)
    earlier = jnp.tril(fresh.runway[:, None] == fresh.runway[None, :], -1) & waits
    return jnp.where(waits, ahead + jnp.sum(earlier, -1, dtype=jnp.int32), -1)


def free_slots(t: Traffic, removed) -> Traffic:
    """Empty the slots of removed aircraft `[N]`."""
    blank = tr.empty(Traffic, t.valid.shape)
    return jax.tree.map(lambda x, b: jnp.where(removed, b, x), t, blank)
