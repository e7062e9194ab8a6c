"""Learning the world model: losses over recorded steps, one update for all members and devices.

Each ensemble member sees its own minibatches and its own bootstrap of the episodes. The update
has the signature of launch.shared.parallel: it averages gradients over `axis_name` and runs `inner`
optimiser steps per call. Letters: M members, n rows of a minibatch.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from wm.sector.airport import Airport
from wm.sector.recording import Recording
from wm.state import network as net
from wm.state import spawn as sp
from wm.state.labels import Rows


@struct.dataclass
class SpawnRows:
    """One row per stream and step in which it could spawn."""

    features: jax.Array  # [n, 5]
    spawned: jax.Array  # [n] bool


@struct.dataclass
class Data:
    """What one device trains on; leading axes are rows."""

    rows: Rows
    episode: jax.Array  # [n] int32, which episode a row is from
    bootstrap: jax.Array  # [M, episodes] weight of each episode for each member
    spawns: SpawnRows


@struct.dataclass
class FitState:
    """What an update changes."""

    weights: dict  # [M, ...]
    hazard: dict
    optimizer: optax.OptState


def compact(rows: Rows) -> Rows:
    """Rows with features in float16 and labels in int8: six bytes of clipped columns become two."""
    return rows.replace(
        features=rows.features.astype(np.float16),
        labels={n: v.astype(np.int8) for n, v in rows.labels.items()},
        scalars={n: v.astype(np.float16) for n, v in rows.scalars.items()},
    )


def spawn_rows(recording: Recording, airport: Airport) -> SpawnRows:
    """Stream clocks at every step of an episode and whether the stream spawned in the step."""
    scene = recording.scene
    since = np.asarray(scene.since_spawn_s)
    clock = np.where(since >= 0, since, scene.time_s[:, None])
    count = int(airport.stream_count)
    x = sp.hazard_features(
        clock[:-1, :count],
        np.asarray(airport.stream_interval_s)[:count] / recording.traffic_rate,
        np.asarray(airport.stream_minimum_s)[:count],
        np.asarray(airport.stream_category)[:count],
    )
    x = np.asarray(x, np.float32)
    return SpawnRows(x.reshape(-1, x.shape[-1]), sp.spawned(scene)[:, :count].reshape(-1))


def head_losses(outputs: dict, rows: Rows) -> dict[str, jax.Array]:
    """Loss `[n]` of every head; entries that the step says nothing about are 0."""
    losses = {}
    for name in net.CATEGORICAL:
        label = rows.labels[name].astype(jnp.int32)
        nll = optax.softmax_cross_entropy_with_integer_labels(
            outputs[name], jnp.maximum(label, 0)
        )
        losses[name] = jnp.where(label >= 0, nll, 0.0)
    for name in net.BINARY:
        target = rows.binary[name].astype(jnp.float32).reshape(outputs[name].shape)
        losses[name] = jnp.sum(optax.sigmoid_binary_cross_entropy(outputs[name], target), -1)
    for name in net.SCALAR:
        target = rows.scalars[name].astype(jnp.float32)
        known = jnp.isfinite(target)
        error = outputs[name][..., 0] - jnp.where(known, target, 0.0)
        losses[name] = jnp.where(known, optax.huber_loss(error, delta=0.2), 0.0)
    return losses


def member_loss(weights, network, rows: Rows, weight):
    """(mean loss, mean loss by head) of one member on a minibatch; `weight [n]`."""
    outputs = network.apply(weights, rows.features.astype(jnp.float32))
    losses = {n: jnp.mean(v * weight) for n, v in head_losses(outputs, rows).items()}
    return sum(losses.values()), losses


def hazard_loss(weights, spawns: SpawnRows):
    """Mean negative log likelihood of the streams' spawns."""
    logits = sp.HazardNetwork().apply(weights, spawns.features)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, spawns.spawned.astype(jnp.float32)))


def initial_state(config, features: int, optimizer, key) -> FitState:
    """Fresh weights of M members and the hazard network."""
    key_members, key_hazard = jax.random.split(key)
    network = net.AutopilotNetwork(config.width, config.blocks)
    init = jax.vmap(lambda k: network.init(k, jnp.zeros((1, features))))
    weights = init(jax.random.split(key_members, config.members))
    hazard = sp.HazardNetwork().init(key_hazard, jnp.zeros((1, 1, 5)))
    return FitState(weights, hazard, optimizer.init((weights, hazard)))


def make_optimizer(config) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay over the whole run."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.steps // 20), config.steps
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )


def minibatch(data: Data, key, size: int) -> tuple[Rows, jax.Array]:
    """A minibatch `[M, n]` with its bootstrap weights, different for every member."""
    members, total = data.bootstrap.shape[0], data.episode.shape[0]
    index = jax.random.randint(key, (members, size), 0, total)
    rows = jax.tree.map(lambda x: x[index], data.rows)
    weight = jnp.take_along_axis(data.bootstrap, data.episode[index], axis=1)
    return rows, weight


def update(state: FitState, data: Data, key, params, *, config, optimizer, axis_name):
    """`config.inner` optimiser steps on one device's data; returns (state, data, metrics)."""
    del params
    network = net.AutopilotNetwork(config.width, config.blocks)
    batched = jax.vmap(partial(member_loss, network=network))

    def objective(trained, rows, weight, spawns):
        weights, hazard = trained
        losses, heads = batched(weights, rows=rows, weight=weight)
        spawn_loss = hazard_loss(hazard, spawns)
        return jnp.sum(losses) + spawn_loss, (jnp.mean(losses), heads, spawn_loss)

    def step(state, key):
        key_rows, key_spawns = jax.random.split(key)
        rows, weight = minibatch(data, key_rows, config.batch)
        total = data.spawns.spawned.shape[0]
        chosen = jax.random.randint(key_spawns, (config.batch,), 0, total)
        spawns = jax.tree.map(lambda x: x[chosen], data.spawns)
        gradient = jax.grad(objective, has_aux=True)
        trained = (state.weights, state.hazard)
        grads, (loss, heads, spawn_loss) = gradient(trained, rows, weight, spawns)
        grads = jax.lax.pmean(grads, axis_name)
        changes, optimizer_state = optimizer.update(grads, state.optimizer, trained)
        weights, hazard = optax.apply_updates(trained, changes)
        metrics = {"loss": loss, "spawn": spawn_loss, **{n: jnp.mean(v) for n, v in heads.items()}}
        return FitState(weights, hazard, optimizer_state), metrics

    state, metrics = jax.lax.scan(step, state, jax.random.split(key, config.inner))
    return state, data, jax.lax.pmean(jax.tree.map(jnp.mean, metrics), axis_name)
