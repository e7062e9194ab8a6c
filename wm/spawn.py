"""Spawns: when each stream of the airport sends its next aircraft, and what that aircraft is.

The hazard is learned from recorded gaps (a small logistic network over the clock of the
stream); the aircraft is a row of the empirical table of that stream's recorded first sights.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from wm import traffic as tr
from wm.airport import Airport
from wm.traffic import STEP_S, Scene, Traffic


@struct.dataclass
class SpawnTable:
    """Recorded first sights of one airport's streams."""

    rows: Traffic  # [S, J]
    count: jax.Array  # [S] rows used


class HazardNetwork(nn.Module):
    """Logit of a spawn within the next step; features `[..., S, F]` to `[..., S]`."""

    width: int = 16

    @nn.compact
    def __call__(self, features):
        h = nn.tanh(nn.Dense(self.width, name="hidden")(features))
        return nn.Dense(1, name="logit")(jnp.concatenate([h, features], -1))[..., 0]


def hazard_features(since_s, interval_s, minimum_s, category):
    """Features `[..., S, 5]` of the streams' clocks; `interval_s` already has the traffic rate."""
    longest = jnp.maximum(2.0 * interval_s - minimum_s, minimum_s + STEP_S)
    span = longest - minimum_s
    progress = (since_s + STEP_S - minimum_s) / span
    left = jnp.maximum(longest - since_s, STEP_S)
    columns = (
        jnp.clip(progress, -1.0, 2.0),
        jnp.clip(progress * span / STEP_S, -1.5, 1.5),
        jnp.log(STEP_S / left),
        jnp.log(span / interval_s),
        jnp.asarray(category == tr.ARRIVAL, jnp.float32),
    )
    return jnp.stack(jnp.broadcast_arrays(*columns), axis=-1)


def stream_clock(scene: Scene):
    """Seconds `[..., S]` since each stream's last spawn, or since the start before its first."""
    return jnp.where(scene.since_spawn_s >= 0, scene.since_spawn_s, scene.time_s[..., None])


def spawn_logits(weights, clock_s, traffic_rate, airport: Airport):
    """Logits `[S]` that each stream spawns in the step that begins now; -inf for padding."""
    interval = airport.stream_interval_s / traffic_rate
    x = hazard_features(clock_s, interval, airport.stream_minimum_s, airport.stream_category)
    logits = HazardNetwork().apply(weights, x)
    return jnp.where(jnp.arange(logits.shape[-1]) < airport.stream_count, logits, -jnp.inf)


def spawn(scene: Scene, weights, table: SpawnTable, traffic_rate, next_id, key, airport: Airport):
    """Let streams spawn into free slots; return (scene, next id, overflow count).

    Every spawning stream takes the lowest free slot, in stream order; what finds none is counted.
    """
    key_when, key_which = jax.random.split(key)
    t = scene.traffic
    # The clock was advanced by the step during which the spawn happens.
    clock = stream_clock(scene) - STEP_S
    logits = spawn_logits(weights, clock, traffic_rate, airport)
    spawned = jax.random.uniform(key_when, logits.shape) < jax.nn.sigmoid(logits)
    spawned = spawned & (table.count > 0)
    uniform = jax.random.uniform(key_which, logits.shape)
    row = jnp.minimum((uniform * table.count).astype(jnp.int32), table.count - 1)

    order = jnp.cumsum(spawned) - 1  # [S]
    free_rank = jnp.cumsum(~t.valid) - 1  # [N]
    takes = ~t.valid[:, None] & spawned & (free_rank[:, None] == order)  # [N, S]
    fills = jnp.any(takes, -1)
    stream = jnp.argmax(takes, -1)
    fresh = jax.tree.map(lambda x: x[stream, row[stream]], table.rows)
    waiting = t.valid & (t.phase == tr.WAITING)
    queue = jnp.sum(waiting[None, :] & (t.runway[None, :] == fresh.runway[:, None]), -1)
    fresh = fresh.replace(
        id=next_id + free_rank,
        stream=stream,
        queue_position=jnp.where(fresh.phase == tr.WAITING, queue, -1),
    )
    merged = jax.tree.map(lambda a, b: jnp.where(fills, a, b).astype(b.dtype), fresh, t)
    clock = jnp.where(spawned, 0.0, scene.since_spawn_s)
    overflow = jnp.sum(spawned) - jnp.sum(fills)
    scene = scene.replace(traffic=merged, since_spawn_s=clock)
    return scene, next_id + jnp.sum(fills), overflow


def free_slots(t: Traffic, removed) -> Traffic:
    """Empty the slots of removed aircraft `[N]`."""
    blank = tr.empty(Traffic, t.valid.shape)
    return jax.tree.map(lambda x, b: jnp.where(removed, b, x), t, blank)
