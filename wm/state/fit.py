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

from wm.state import network as net
from wm.state.labels import Rows


@struct.dataclass
class Data:
    """What one device trains on; leading axes are rows."""

    rows: Rows
    episode: jax.Array  # [n] int32, which episode a row is from
    bootstrap: jax.Array  # [M, episodes] weight of each episode for each member


@struct.dataclass
class FitState:
    """What an update changes."""

    weights: dict  # [M, ...]
    optimizer: optax.OptState


def compact(rows: Rows) -> Rows:
    """Rows with features in float16 and labels in int8: six bytes of clipped columns become two."""
    return rows.replace(
        features=rows.features.astype(np.float16),
        labels={n: v.astype(np.int8) for n, v in rows.labels.items()},
        scalars={n: v.astype(np.float16) for n, v in rows.scalars.items()},
    )


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


def initial_state(config, features: int, optimizer, key) -> FitState:
    """Fresh weights of M members."""
    network = net.AutopilotNetwork(config.width, config.blocks)
    init = jax.vmap(lambda k: network.init(k, jnp.zeros((1, features))))
    weights = init(jax.random.split(key, config.members))
    return FitState(weights, optimizer.init(weights))


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

    def objective(weights, rows, weight):
        losses, heads = batched(weights, rows=rows, weight=weight)
        return jnp.sum(losses), (jnp.mean(losses), heads)

    def step(state, key):
        rows, weight = minibatch(data, key, config.batch)
        grads, (loss, heads) = jax.grad(objective, has_aux=True)(state.weights, rows, weight)
        grads = jax.lax.pmean(grads, axis_name)
        changes, optimizer_state = optimizer.update(grads, state.optimizer, state.weights)
        weights = optax.apply_updates(state.weights, changes)
        metrics = {"loss": loss, **{n: jnp.mean(v) for n, v in heads.items()}}
        return FitState(weights, optimizer_state), metrics

    state, metrics = jax.lax.scan(step, state, jax.random.split(key, config.inner))
    return state, data, jax.lax.pmean(jax.tree.map(jnp.mean, metrics), axis_name)
