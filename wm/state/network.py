"""The learned autopilot's network: its heads, its ensemble, drawing its outputs, where members disagree.

One evaluation per aircraft and step. The heads say what each aircraft steers for on every axis (a guide of
wm.state.kinematics, and on which frame of the step it took over from which other), on which frame a leg or
phase changes, the modes afterwards, and what becomes of the aircraft, with its event.

Weights are stacked over M ensemble members; a batch of environments is split into M contiguous
blocks, one member each, so the ensemble costs one batched matrix product and no gather of weights.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from wm.sector import kernels
from wm.sector import traffic as tr
from wm.sector.traffic import EVENT_NAMES, FRAMES_PER_STEP
from wm.state import kinematics as kn

# What becomes of an aircraft in a step, and the event the game scores with it.
FATES = ("stay", "contact", "landed", "handed_off", "off_route", "bust", "lost")
STAY, CONTACT, LANDED, HANDED_OFF, OFF_ROUTE, BUST, LOST = range(7)
FATE_EVENTS = {
    LANDED: "ARRIVAL",
    HANDED_OFF: "DEPARTURE",
    OFF_ROUTE: "NOT_CLEARED_ON_ROUTE",
    BUST: "AIRSPACE_BUST",
}
NEVER = FRAMES_PER_STEP  # the frame of what does not happen in this step

GUIDES = {"heading": kn.HEADING_GUIDES, "altitude": kn.ALTITUDE_GUIDES, "speed": kn.SPEED_GUIDES}
CATEGORICAL = {
    **{axis: len(guides) for axis, guides in GUIDES.items()},
    **{f"{axis}_first": len(guides) for axis, guides in GUIDES.items()},
    **{f"{axis}_frame": FRAMES_PER_STEP for axis in GUIDES},
    "leg_frame": FRAMES_PER_STEP + 1,
    "phase": len(tr.PHASES),
    "phase_frame": FRAMES_PER_STEP + 1,
    "altitude_mode": len(tr.ALTITUDE_MODES),
    "heading_mode": len(tr.HEADING_MODES),
    "speed_mode": len(tr.SPEED_MODES),
    "fate": len(FATES),
}
BINARY = {"autopilot": 1, "approach_clearance": 1, "events": len(EVENT_NAMES)}
SCALAR = {"free_altitude": 1, "free_speed": 1}
FREE_ALTITUDE_FT, FREE_SPEED_KT = 2000.0, 50.0
UNLIKELY = 0.02
IMPOSSIBLE = -16384.0  # logit of what wm.state.support rules out; exact in any precision
PROBE_PERIOD = 4  # steps after which every environment has been probed once


class AutopilotNetwork(nn.Module):
    """Per-aircraft residual MLP; features `[..., F]` to a dict of head outputs `[..., n]`.

    The trunk runs in bfloat16, the heads and their outputs in float32. The collection "support", where there
    is one, rules out what was never recorded (wm.state.support).
    """

    width: int = 128
    blocks: int = 2

    @nn.compact
    def __call__(self, features):
        h = nn.Dense(self.width, dtype=jnp.bfloat16, name="embed")(features)
        for i in range(self.blocks):
            r = nn.LayerNorm(dtype=jnp.float32, name=f"norm_{i}")(h).astype(jnp.bfloat16)
            r = nn.gelu(nn.Dense(self.width, dtype=jnp.bfloat16, name=f"up_{i}")(r))
            h = h + nn.Dense(self.width, dtype=jnp.bfloat16, name=f"down_{i}")(r)
        h = nn.LayerNorm(dtype=jnp.float32, name="norm")(h)
        sizes = CATEGORICAL | BINARY | SCALAR
        out = nn.Dense(sum(sizes.values()), dtype=jnp.float32, name="heads")(h)
        if self.has_variable("support", "kernel"):
            kernel, bias = (self.get_variable("support", name) for name in ("kernel", "bias"))
            out = out + features.astype(jnp.float32) @ kernel + bias
        edges = np.cumsum(list(sizes.values()))[:-1].tolist()
        return dict(zip(sizes, jnp.split(out, edges, axis=-1), strict=True))


def network_of(weights: Mapping) -> AutopilotNetwork:
    """The network whose shapes the weights (one member or stacked) have."""
    layers = weights["params"]
    blocks = sum(name.startswith("up_") for name in layers)
    return AutopilotNetwork(width=layers["embed"]["kernel"].shape[-1], blocks=blocks)


@jax.custom_batching.custom_vmap
def predict(weights, member, features):
    """Head outputs of one environment `[N, F]` by ensemble member `member` of `[M, ...]` weights."""
    chosen = jax.tree.map(lambda w: w[member], weights)
    return network_of(weights).apply(chosen, features)


@predict.def_vmap
def _predict_batch(axis_size, in_batched, weights, member, features):
    """Under vmap over E environments, member m serves the m-th contiguous block of E/M."""
    weights_batched, _, features_batched = in_batched
    if any(jax.tree.leaves(weights_batched)) or not features_batched:
        raise ValueError("predict batches over environments only: weights unbatched, features batched")
    members = jax.tree.leaves(weights)[0].shape[0]
    network = network_of(weights)
    if axis_size % members:
        member = jnp.broadcast_to(member, (axis_size,))
        apply = jax.vmap(lambda m, x: network.apply(jax.tree.map(lambda w: w[m], weights), x))
        out = apply(member, features)
    else:
        blocks = features.reshape((members, axis_size // members, *features.shape[1:]))
        out = jax.vmap(network.apply)(weights, blocks)
        out = jax.tree.map(lambda y: y.reshape((axis_size, *y.shape[2:])), out)
    return out, jax.tree.map(lambda _: True, out)


def moving(weights, member) -> np.ndarray:
    """Which member `predict` takes for each environment of a batch `[E]`; `member [E]` is the states' own."""
    members, size = jax.tree.leaves(weights)[0].shape[0], len(member)
    return np.asarray(member) if size % members else np.arange(size) * members // size


@jax.custom_batching.custom_vmap
def probe_disagreement(weights, member, features, outputs, valid, tick):
    """How much a second member disagrees with `member`'s `outputs` on the same features.

    One environment `[N, ...]`; returns a scalar in [0, 1], see `disagreement`. Under vmap over E
    environments a quarter of each member's block is probed, the one that `tick` (the step's
    number) of the first environment points at; the others read 0. Where E is not divisible by
    4 M, and for one environment, every step probes all.
    """
    second = predict(neighbours(weights), member, features)
    return disagreement(outputs, second, valid)


@probe_disagreement.def_vmap
def _probe_batch(axis_size, in_batched, weights, *per_environment):
    if any(jax.tree.leaves(in_batched[0])):
        raise ValueError("probe_disagreement batches over environments only: weights unbatched")
    member, features, outputs, valid, tick = kernels.on_all(axis_size, tuple(in_batched[1:]), per_environment)
    other = neighbours(weights)
    members = jax.tree.leaves(weights)[0].shape[0]
    if axis_size % (members * PROBE_PERIOD):
        second = jax.vmap(predict, (None, 0, 0))(other, member, features)
        return jax.vmap(disagreement)(outputs, second, valid), True
    quarter = tick[0] % PROBE_PERIOD

    def probed(x):
        parts = x.reshape((members, PROBE_PERIOD, -1, *x.shape[1:]))
        return jax.lax.dynamic_index_in_dim(parts, quarter, 1, keepdims=False)

    features, outputs, valid = jax.tree.map(probed, (features, outputs, valid))
    second = jax.vmap(network_of(weights).apply)(other, features)
    found = jax.vmap(jax.vmap(disagreement))(outputs, second, valid)
    now = jnp.arange(PROBE_PERIOD)[:, None] == quarter
    return jnp.where(now, found[:, None], 0.0).reshape(axis_size), True


def neighbours(weights):
    """The weights of member m - 1 in the place of member m."""
    return jax.tree.map(lambda w: jnp.roll(w, 1, axis=0), weights)


def draw(outputs: dict[str, jax.Array], key) -> dict[str, jax.Array]:
    """Every head drawn, scalars as they are; the most likely value where `key` is None."""
    if key is None:
        drawn = {n: jnp.argmax(outputs[n], -1).astype(jnp.int32) for n in CATEGORICAL}
        return drawn | {n: outputs[n] > 0 for n in BINARY} | {n: outputs[n] for n in SCALAR}
    return draw_by(outputs, uniforms(key, outputs["heading"].shape[:-1]))


def uniforms(key, shape: tuple[int, ...]) -> jax.Array:
    """Random numbers `[*shape, categorical heads + binary outputs]` for `draw_by`."""
    width = len(CATEGORICAL) + sum(BINARY.values())
    # Without the barrier, XLA draws all numbers again in every kernel that reads one of them.
    return jax.lax.optimization_barrier(jax.random.uniform(key, (*shape, width), jnp.float32))


def draw_by(outputs: dict[str, jax.Array], uniform) -> dict[str, jax.Array]:
    """Heads drawn with the numbers that `uniforms` gave.

    What is less likely than UNLIKELY is never drawn: the game moves aircraft without chance, and a mode or
    phase that is wrong once in ten thousand draws stays wrong for the rest of a flight.
    """
    drawn = {n: outputs[n] for n in SCALAR}
    for i, name in enumerate(CATEGORICAL):
        chance = jax.nn.softmax(outputs[name], -1)
        upto = jnp.cumsum(jnp.where(chance < UNLIKELY, 0.0, chance), -1)
        passed = jnp.sum(upto < uniform[..., i, None] * upto[..., -1:], -1, dtype=jnp.int32)
        drawn[name] = jnp.minimum(passed, CATEGORICAL[name] - 1)
    at = len(CATEGORICAL)
    for name, size in BINARY.items():
        chance = jax.nn.sigmoid(outputs[name])
        chance = jnp.where(chance < UNLIKELY, 0.0, jnp.where(chance > 1.0 - UNLIKELY, 1.0, chance))
        drawn[name] = uniform[..., at : at + size] < chance
        at += size
    return drawn


def disagreement(first: dict[str, jax.Array], second: dict[str, jax.Array], valid):
    """Largest disagreement of two members over the valid aircraft: total variation of the heads.

    outputs `[N, .]`; returns a scalar in [0, 1], the maximum over aircraft of the mean over the
    categorical heads of half the L1 distance between the two distributions.
    """
    distances = [
        0.5 * jnp.sum(jnp.abs(jax.nn.softmax(first[n]) - jax.nn.softmax(second[n])), -1)
        for n in CATEGORICAL
    ]
    mean = sum(distances) / len(distances)
    return jnp.max(jnp.where(valid, mean, 0.0))
