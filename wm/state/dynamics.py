"""The learned autopilot: what each aircraft follows during a step and what becomes of it.

One network evaluation per aircraft and step. The network picks guides (wm.state.kinematics), the frame
on which a leg or a phase changes, the modes afterwards, and the aircraft's fate with its event;
kinematics then integrates ten frames. Weights are stacked over M ensemble members; a batch of
environments is split into M contiguous blocks, one member each, so the ensemble costs one
batched matrix product and no gather of weights.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct

from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import EVENT_NAMES, FRAME_S, FRAMES_PER_STEP, STEP_S, Scene, Traffic
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
NEVER = FRAMES_PER_STEP  # a frame index that is not reached

CATEGORICAL = {
    "heading": len(kn.HEADING_GUIDES),
    "altitude": len(kn.ALTITUDE_GUIDES),
    "speed": len(kn.SPEED_GUIDES),
    "leg_frame": FRAMES_PER_STEP + 1,
    "phase": len(tr.PHASES),
    "phase_frame": FRAMES_PER_STEP + 1,
    "altitude_mode": len(tr.ALTITUDE_MODES),
    "heading_mode": len(tr.HEADING_MODES),
    "speed_mode": len(tr.SPEED_MODES),
    "fate": len(FATES),
}
BINARY = {"autopilot": 1, "approach_clearance": 1, "events": len(EVENT_NAMES)}
SCALAR = {"localizer_gain": 1, "free_altitude": 1, "free_speed": 1}
GAIN_SCALE, FREE_ALTITUDE_FT, FREE_SPEED_KT = 20.0, 2000.0, 50.0
PROBE_PERIOD = 4  # steps in which every environment is probed once
COLLISION_NM, COLLISION_FT = 0.05 / tr.KM_PER_NM, 160.0


class AutopilotNetwork(nn.Module):
    """Per-aircraft residual MLP; features `[..., F]` to a dict of head outputs `[..., n]`.

    The trunk runs in bfloat16, the heads and their outputs in float32.
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


@jax.custom_batching.custom_vmap
def probe_disagreement(weights, member, features, outputs, valid, tick):
    """How much a second member disagrees with `member`'s `outputs` on the same features.

    One environment `[N, ...]`; returns a scalar in [0, 1], see `disagreement`. Under vmap over E
    environments a quarter of each member's block is probed, the one that `tick` (the step's
    number) of the first environment points at; the others read 0. Where E is not divisible by
    4 M, and for one environment, every step probes all.
    """
    second = predict(_neighbours(weights), member, features)
    return disagreement(outputs, second, valid)


@probe_disagreement.def_vmap
def _probe_batch(axis_size, in_batched, weights, *per_environment):
    if any(jax.tree.leaves(in_batched[0])):
        raise ValueError("probe_disagreement batches over environments only: weights unbatched")
    member, features, outputs, valid, tick = jax.tree.map(
        lambda b, x: x if b else jnp.broadcast_to(x, (axis_size, *jnp.shape(x))),
        tuple(in_batched[1:]),
        per_environment,
    )
    neighbours = _neighbours(weights)
    members = jax.tree.leaves(weights)[0].shape[0]
    if axis_size % (members * PROBE_PERIOD):
        second = jax.vmap(predict, (None, 0, 0))(neighbours, member, features)
        return jax.vmap(disagreement)(outputs, second, valid), True
    quarter = tick[0] % PROBE_PERIOD

    def probed(x):
        parts = x.reshape((members, PROBE_PERIOD, -1, *x.shape[1:]))
        return jax.lax.dynamic_index_in_dim(parts, quarter, 1, keepdims=False)

    features, outputs, valid = jax.tree.map(probed, (features, outputs, valid))
    second = jax.vmap(network_of(weights).apply)(neighbours, features)
    found = jax.vmap(jax.vmap(disagreement))(outputs, second, valid)
    now = jnp.arange(PROBE_PERIOD)[:, None] == quarter
    return jnp.where(now, found[:, None], 0.0).reshape(axis_size), True


def _neighbours(weights):
    """The weights of member m - 1 in the place of member m."""
    return jax.tree.map(lambda w: jnp.roll(w, 1, axis=0), weights)


@struct.dataclass
class Decision:
    """One sampled set of head outputs, `[N]` each (events `[N, E]` bool)."""

    guidance: kn.Guidance
    altitude_mode: jax.Array
    heading_mode: jax.Array
    speed_mode: jax.Array
    autopilot: jax.Array
    approach_clearance: jax.Array
    fate: jax.Array
    events: jax.Array


def draw(outputs: dict[str, jax.Array], key) -> dict[str, jax.Array]:
    """Draw every categorical and binary head; the most likely value where `key` is None."""
    if key is None:
        drawn = {n: jnp.argmax(outputs[n], -1) for n in CATEGORICAL}
        return drawn | {n: outputs[n] > 0 for n in BINARY}
    shape = outputs["heading"].shape[:-1]
    width = len(CATEGORICAL) + sum(BINARY.values())
    # Drawn once: without the barrier every kernel that reads a column would draw them all again.
    uniform = jax.lax.optimization_barrier(jax.random.uniform(key, (*shape, width)))
    drawn = {}
    for i, name in enumerate(CATEGORICAL):
        upto = jnp.cumsum(jax.nn.softmax(outputs[name], -1), -1)
        drawn[name] = jnp.minimum(jnp.sum(upto < uniform[..., i, None], -1), CATEGORICAL[name] - 1)
    at = len(CATEGORICAL)
    for name, size in BINARY.items():
        drawn[name] = uniform[..., at : at + size] < jax.nn.sigmoid(outputs[name])
        at += size
    return drawn


def decide(outputs: dict[str, jax.Array], t: Traffic, key=None) -> Decision:
    """Turn head outputs `[N, .]` into a decision; sampled with `key`, else the most likely."""
    drawn = draw(outputs, key)
    guidance = kn.Guidance(
        heading=drawn["heading"],
        localizer_gain=GAIN_SCALE * outputs["localizer_gain"][..., 0],
        altitude=drawn["altitude"],
        free_altitude_ft=t.altitude_ft + FREE_ALTITUDE_FT * outputs["free_altitude"][..., 0],
        speed=drawn["speed"],
        free_speed_kt=t.landing_speed_kt + FREE_SPEED_KT * outputs["free_speed"][..., 0],
        leg_frame=drawn["leg_frame"],
        phase=drawn["phase"],
        phase_frame=drawn["phase_frame"],
    )
    return Decision(
        guidance=guidance,
        altitude_mode=drawn["altitude_mode"],
        heading_mode=drawn["heading_mode"],
        speed_mode=drawn["speed_mode"],
        autopilot=drawn["autopilot"][..., 0],
        approach_clearance=drawn["approach_clearance"][..., 0],
        fate=drawn["fate"],
        events=drawn["events"],
    )


def _write_panel(before: Traffic, t: Traffic, d: Decision, airport: Airport) -> Traffic:
    """Modes the network chose, and the values the game writes with a mode that it changes itself."""
    to_hold = (d.heading_mode == tr.MODE_HOLD) & (before.heading_mode != tr.MODE_HOLD)
    missed = (before.altitude_mode == tr.ALTITUDE_APPROACH) & (d.altitude_mode == tr.MODE_HOLD)
    takeoff = (before.altitude_mode == tr.MODE_OFF) & (d.altitude_mode != tr.MODE_OFF)
    field = airport.runway_elevation_ft[jnp.maximum(t.runway, 0)]
    missed_ft = jnp.maximum(
        jnp.ceil((field + 2000.0) / 1000.0), jnp.floor(t.altitude_ft / 1000.0)
    ) * 1000.0
    route = jnp.maximum(t.route, 0)
    altitude = jnp.where(missed, missed_ft, t.assigned_altitude_ft)
    unassigned = t.assigned_altitude_ft < 0
    altitude = jnp.where(takeoff & unassigned, airport.route_initial_ft[route], altitude)
    speed = jnp.where(
        takeoff & (t.assigned_speed_kt < 0), t.cruise_speed_kt, t.assigned_speed_kt
    )
    return t.replace(
        altitude_mode=d.altitude_mode,
        heading_mode=d.heading_mode,
        speed_mode=d.speed_mode,
        autopilot=d.autopilot,
        approach_clearance=d.approach_clearance,
        assigned_altitude_ft=altitude,
        assigned_heading_rad=jnp.where(to_hold, t.heading_rad, t.assigned_heading_rad),
        assigned_speed_kt=speed,
    )


def _clocks(before: Traffic, t: Traffic, d: Decision) -> Traffic:
    """Advance every clock by one step; a change within the step restarts its clock there."""
    phase_frame = d.guidance.phase_frame
    since_change, changed = (NEVER - phase_frame) * FRAME_S, phase_frame < NEVER
    took_off = changed & (d.guidance.phase == tr.TAKEOFF)
    contact = d.fate == CONTACT
    return t.replace(
        since_spawn_s=before.since_spawn_s + STEP_S,
        since_phase_s=jnp.where(changed, since_change, before.since_phase_s + STEP_S),
        airborne_s=jnp.where(
            took_off,
            since_change,
            jnp.where(before.airborne_s >= 0, before.airborne_s + STEP_S, before.airborne_s),
        ),
        since_contact_s=jnp.where(
            before.since_contact_s >= 0,
            before.since_contact_s + STEP_S,
            jnp.where(contact, 0.0, before.since_contact_s),
        ),
        phase_change_frame=jnp.where(changed, phase_frame, -1),
        leg_change_frame=jnp.where(d.guidance.leg_frame < NEVER, d.guidance.leg_frame, -1),
        controllable=(before.controllable | contact) & (d.fate <= CONTACT),
    )


def _runways(before: Scene, t: Traffic, airport: Airport):
    """Queues and last departures after the step; returns (queue positions, Runways)."""
    old, r = before.traffic, before.runways
    count = r.last_departure.shape[-1]
    left = old.valid & (old.phase == tr.WAITING) & (t.phase != tr.WAITING)
    on_runway = jax.nn.one_hot(old.runway, count, dtype=bool)  # [N, R]
    went = on_runway & left[:, None]
    any_went = jnp.any(went, 0)
    slot = jnp.argmax(went, 0)
    departed = jnp.sum(went, 0)
    ahead = jnp.sum(jnp.where(on_runway, departed, 0), -1)
    queued = old.queue_position >= 0
    queue = jnp.where(queued & ~left, old.queue_position - ahead, -1)

    last = jnp.where(any_went, old.id[slot], r.last_departure)
    same = (t.id[:, None] == last) & t.valid[:, None]  # [N, R]
    present, at = jnp.any(same, 0), jnp.argmax(same, 0)
    dx = t.x_nm[at] - airport.runway_xy_nm[:, 0]
    dy = t.y_nm[at] - airport.runway_xy_nm[:, 1]
    since = jnp.where(r.since_departure_s >= 0, r.since_departure_s + STEP_S, -1.0)
    return queue, tr.Runways(
        last_departure=last,
        last_departure_distance_nm=jnp.where(
            present, jnp.hypot(dx, dy), r.last_departure_distance_nm
        ),
        last_departure_class=jnp.where(any_went, old.runway_class[slot], r.last_departure_class),
        last_departure_on_ground=present & kn.on_ground(t, airport)[at],
        since_departure_s=jnp.where(any_went, t.airborne_s[slot], since),
    )


def collisions(sub: tr.SubSteps):
    """Aircraft `[N]` that came within 0.05 km and 160 ft of another inside the airspace."""

    def difference(v):
        return v[:, None, :] - v[:, :, None]

    inside = sub.present & sub.controllable & (sub.phase > tr.WAITING)
    squared = difference(sub.x_nm) ** 2 + difference(sub.y_nm) ** 2
    close = (squared < COLLISION_NM**2) & (jnp.abs(difference(sub.altitude_ft)) < COLLISION_FT)
    others = ~jnp.eye(inside.shape[-1], dtype=bool)
    close = close & inside[:, None, :] & inside[:, :, None] & others
    return jnp.any(jnp.any(close, -1), 0)


def transition(scene: Scene, decision: Decision, legs: dict, airport: Airport):
    """Advance one scene `[N]` by one decision of the network.

    Returns (scene after, before removals; sub-steps; events `[N, E]` bool; removed `[N]` bool).
    The caller frees the removed slots once the reward has been computed on them.
    """
    before = scene.traffic
    decision = decision.replace(fate=jnp.where(before.valid, decision.fate, STAY))
    moved, sub = kn.advance(scene, decision.guidance, legs, airport)
    t = _clocks(before, _write_panel(before, moved.traffic, decision, airport), decision)
    queue, runways = _runways(scene, t, airport)
    since_spawn_s = scene.since_spawn_s + jnp.where(scene.since_spawn_s >= 0, STEP_S, 0.0)
    hit = collisions(sub) & before.valid & ~kn.on_ground(t, airport)
    fate = jnp.where(hit, LOST, decision.fate)
    drawn = decision.events & before.valid[:, None]
    events = {name: drawn[:, i] for i, name in enumerate(EVENT_NAMES)}
    events |= {name: fate == code for code, name in FATE_EVENTS.items()} | {"COLLISION": hit}
    events = jnp.stack([events[name] for name in EVENT_NAMES], axis=-1)
    after = moved.replace(
        traffic=t.replace(queue_position=queue),
        runways=runways,
        since_spawn_s=since_spawn_s,
        time_s=scene.time_s + STEP_S,
    )
    return after, sub, events, before.valid & (fate > CONTACT)


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
