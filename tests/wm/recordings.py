"""Recordings flown by a known autopilot, so that what labels and models should say of them is known.

Aircraft zigzag along routes whose courses change by about 70 degrees every 4.5 nm, or obey commands. The
autopilot below is a few lines of plain rules; the world model's own step moves the aircraft.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import tests.wm.scenes as scenes
from wm.sector import commands
from wm.sector import traffic as tr
from wm.sector.airport import Airport, from_static
from wm.sector.recording import Recording
from wm.sector.route import current_leg, restrictions
from wm.state import features, transition
from wm.state import kinematics as kn
from wm.state import network as net
from wm.state import spawn as sp

SLOTS = 6
LEGS = 14
GATE_NM = 1.0  # the autopilot turns to the next fix this far before the current one
NOOP = np.asarray([SLOTS, 0, 0, 0, 0], np.int32)
NEVER = net.NEVER


def zigzag(x_nm: float, y_nm: float, course_rad: float, name: str) -> dict:
    """4.5 nm legs, alternately 35 degrees left and right of a course; fix 6 asks 8,000 ft and 220 kt."""
    fixes = []
    for i in range(LEGS):
        restricted = {"high": 8000.0, "fast": 220.0} if i == 6 else {}
        fixes.append(scenes.fix(x_nm, y_nm, **restricted) | {"name": f"{name}{i}"})
        leg = course_rad + np.deg2rad(35.0) * (-1) ** i
        x_nm, y_nm = x_nm + 4.5 * np.sin(leg), y_nm + 4.5 * np.cos(leg)
    return {"route": name, "waypoints": fixes}


def routes() -> list[dict]:
    """Three zigzags through the airspace: eastwards, southwards and north-westwards."""
    return [
        zigzag(-25.0, 10.0, np.pi / 2, "EAST"),
        zigzag(5.0, 28.0, np.pi, "SOUTH"),
        zigzag(20.0, -20.0, np.deg2rad(315.0), "WEST"),
    ]


def airport() -> Airport:
    """The scenes' main airport with the zigzag routes."""
    return from_static(scenes.static(), routes())


def rated(slots: int = SLOTS, **columns) -> tr.Traffic:
    """Aircraft of one type: 3,000 ft/min up, 2,400 down, 2 kt/s faster, 1.5 slower."""
    rates = {
        "climb_fpm": 3000.0,
        "descent_fpm": 2400.0,
        "accelerate_kt_s": 2.0,
        "decelerate_kt_s": 1.5,
        "landing_speed_kt": 135.0,
        "cruise_speed_kt": 440.0,
        "jet": True,
        "stream": 0,
        "target_altitude_ft": columns.get("altitude_ft", 10000.0),
        "target_heading_rad": columns.get("heading_rad", scenes.WEST),
        "target_speed_kt": columns.get("speed_kt", 250.0),
    }
    return scenes.traffic(slots, **(rates | columns))


def on_route(rng: np.random.Generator, place: Airport) -> tr.Scene:
    """A scene of six aircraft up to 4 nm before a random fix, flying roughly towards it."""
    route = rng.integers(0, 3, SLOTS)
    leg = rng.integers(1, 6, SLOTS)
    fix = np.asarray(place.route_xy_nm)[route, leg]
    previous = np.asarray(place.route_xy_nm)[route, leg - 1]
    x, y = (fix + (previous - fix) * rng.uniform(0.3, 0.9, (SLOTS, 1))).T
    bearing = np.arctan2(fix[:, 0] - x, fix[:, 1] - y) + rng.uniform(-0.3, 0.3, SLOTS)
    heading = np.mod(bearing, 2 * np.pi)
    # Aircraft on one route are kept apart in altitude so that none collides.
    aircraft = rated(
        x_nm=x, y_nm=y, altitude_ft=11000.0 + 1500.0 * np.arange(SLOTS), route=route, leg=leg,
        heading_rad=heading, ground_track_rad=heading, speed_kt=240.0, ground_speed_kt=270.0,
        assigned_altitude_ft=13000.0, assigned_speed_kt=260.0, altitude_mode=tr.ALTITUDE_VNAV,
    )  # fmt: skip
    wind = {"wind_speed_kt": jnp.float32(12.0), "wind_from_rad": jnp.float32(1.0)}
    return scenes.scene(aircraft, place, **wind)


def decision(t: tr.Traffic, **changes) -> transition.Decision:
    """A decision that keeps everything as it is, but for `changes` to it or to its guidance."""
    n = t.valid.shape[-1]
    fields = {
        **{axis: guides.index("keep") for axis, guides in net.GUIDES.items()},
        **{f"{axis}_first": guides.index("keep") for axis, guides in net.GUIDES.items()},
        **{f"{axis}_frame": 0 for axis in net.GUIDES},
        "free_altitude_ft": 0.0,
        "free_speed_kt": 0.0,
        "leg_frame": NEVER,
        "phase": t.phase,
        "phase_frame": NEVER,
        "altitude_mode": t.altitude_mode,
        "heading_mode": t.heading_mode,
        "speed_mode": t.speed_mode,
        "autopilot": t.autopilot,
        "approach_clearance": t.approach_clearance,
        "fate": net.STAY,
        "events": False,
    } | changes
    real = ("free_altitude_ft", "free_speed_kt")
    flags = ("autopilot", "approach_clearance", "events")
    for name, value in fields.items():
        # One type for every caller: Python numbers would be weakly typed and compile anew.
        dtype = jnp.float32 if name in real else bool if name in flags else jnp.int32
        shape = (n, len(tr.EVENT_NAMES)) if name == "events" else (n,)
        fields[name] = jnp.broadcast_to(jnp.asarray(value, dtype), shape)
    for axis in net.GUIDES:
        first, then, frame = (fields.pop(axis + part) for part in ("_first", "", "_frame"))
        fields[axis] = kn.Axis(first, then, frame)
    guided = {f: fields.pop(f) for f in kn.Guidance.__dataclass_fields__}
    return transition.Decision(guidance=kn.Guidance(**guided), **fields)


@jax.jit
def by_rules(_, scene: tr.Scene, place: Airport) -> transition.Decision:
    """The known autopilot: fixes in LNAV, the panel in HOLD, restrictions of the route in VNAV."""
    t = scene.traffic
    fix = current_leg(t, place)
    asked = restrictions(t, place)
    lnav = (t.heading_mode == tr.HEADING_LNAV) & fix.exists
    left = jnp.hypot(fix.dx_nm, fix.dy_nm) - GATE_NM
    frame = jnp.floor(left / t.ground_speed_kt * 3600.0 / tr.FRAME_S).astype(jnp.int32)
    passes = lnav & (frame < NEVER) & (t.leg + 1 < LEGS)

    def guide(names, held, restriction, vnav):
        named = names.index(restriction[0]), names.index("assigned"), names.index("keep")
        return jnp.where(vnav & restriction[1], named[0], jnp.where(held, named[1], named[2]))

    return decision(
        t,
        heading=jnp.where(
            lnav,
            kn.HEADING_GUIDES.index("fix"),
            jnp.where(
                t.heading_mode == tr.MODE_HOLD, kn.HEADING_GUIDES.index("assigned"), 0
            ),
        ),
        altitude=guide(
            kn.ALTITUDE_GUIDES, True, ("maximum", asked["maximum"].exists),
            t.altitude_mode == tr.ALTITUDE_VNAV,
        ),
        speed=guide(
            kn.SPEED_GUIDES, t.speed_mode == tr.MODE_HOLD, ("restriction", asked["speed"].exists),
            t.speed_mode == tr.SPEED_VNAV,
        ),
        leg_frame=jnp.where(passes, jnp.maximum(frame, 0), NEVER),
    )  # fmt: skip


@jax.jit
def by_network(weights, scene: tr.Scene, place: Airport) -> transition.Decision:
    """The most likely decision of a network's first member."""
    columns = features.dynamics_features(scene, place)
    outputs = net.predict(weights, jnp.int32(0), features.stack_features(columns))
    return transition.decide(outputs, scene.traffic)


@jax.jit
def _transition(scene, chosen, place):
    return transition.transition(scene, chosen, place)


def move(scene: tr.Scene, chosen: transition.Decision, place: Airport):
    """The world model's transition; (scene, sub-steps, events, removed). Compiled once for all tests."""
    # By way of numpy, because weakly typed leaves would compile anew.
    return _transition(*jax.tree.map(np.asarray, (scene, chosen, place)))


@jax.jit
def _command(scene, action, place):
    return scene.replace(traffic=commands.apply(scene.traffic, action, place))


@jax.jit
def _clear(scene, removed):
    return scene.replace(traffic=sp.free_slots(scene.traffic, removed))


def fly(scene: tr.Scene, place: Airport, actions, decide=by_rules, weights=None, seed=0) -> Recording:
    """Record one episode from `scene` with the actions `[T, 5]`."""
    actions = np.asarray(actions, np.int32)
    place = jax.tree.map(np.asarray, place)
    scenes_, events_ = [jax.tree.map(np.asarray, scene)], []
    for action in actions:
        commanded = _command(scenes_[-1], action, place)
        after, _, events, removed = move(commanded, decide(weights, commanded, place), place)
        scenes_.append(_clear(after, removed))
        events_.append(np.asarray(events))
    return Recording(
        icao="test", seed=seed, policy="none", action=actions, events=np.stack(events_),
        scene=jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *scenes_),
        static=scenes.static(), routes=routes(),
    )  # fmt: skip


def decisions(recording: Recording, place: Airport) -> tuple[tr.Traffic, transition.Decision]:
    """What the rules saw (after the commands) and decided in every step of a recording, `[T, N]`."""
    seen, decided = [], []
    for step, action in enumerate(recording.action):
        scene = jax.tree.map(lambda x, t=step: x[t], recording.scene)
        commanded = _command(scene, action, jax.tree.map(np.asarray, place))
        seen.append(commanded.traffic)
        decided.append(by_rules(None, commanded, place))
    return jax.tree.map(lambda *xs: np.stack(xs), *seen), jax.tree.map(lambda *xs: np.stack(xs), *decided)


def appearing(recording: Recording, slot: int, step: int) -> Recording:
    """The recording with one aircraft first seen at `step`, its slot empty before."""
    blank = tr.empty(tr.Traffic, (), np)
    traffic = jax.tree.map(np.copy, recording.scene.traffic)
    for name in tr.schema(tr.Traffic):
        getattr(traffic, name)[:step, slot] = getattr(blank, name)
    return dataclasses.replace(recording, scene=recording.scene.replace(traffic=traffic))


def outputs_of(seed: int, rows: int) -> dict[str, np.ndarray]:
    """Random outputs of every head, the same for each of `rows` aircraft."""
    rng = np.random.default_rng(seed)
    sizes = net.CATEGORICAL | net.BINARY | net.SCALAR
    return {n: np.tile(rng.normal(size=size).astype(np.float32), (rows, 1)) for n, size in sizes.items()}


def idle(steps: int) -> np.ndarray:
    """Actions `[T, 5]` of nobody doing anything."""
    return np.tile(NOOP, (steps, 1))


def cruise(episodes: int, steps: int = 24, seed: int = 0) -> list[Recording]:
    """Recordings of aircraft that follow their routes, with now and then a heading."""
    place, rng = airport(), np.random.default_rng(seed)
    recordings = []
    for episode in range(episodes):
        actions = idle(steps)
        for t in range(3, steps, 7):
            actions[t] = (rng.integers(SLOTS), commands.HEADING, 0, rng.integers(7), 0)
        for t in range(6, steps, 7):  # and back to the route
            actions[t] = (actions[t - 3, 0], commands.DIRECT, 0, 0, 0)
        recordings.append(fly(on_route(rng, place), place, actions, seed=seed + episode))
    return recordings


def biased(weights, **choices):
    """Weights whose listed heads always choose the given class, whatever the features."""
    heads = weights["params"]["heads"]
    kernel, bias = jnp.asarray(heads["kernel"]), jnp.asarray(heads["bias"])
    at = 0
    for name, size in (net.CATEGORICAL | net.BINARY | net.SCALAR).items():
        if name in choices:
            wanted = choices[name]
            if size > 1:
                wanted = jnp.full(size, -30.0, bias.dtype).at[wanted].set(30.0)
            kernel = kernel.at[..., at : at + size].set(0.0)
            bias = bias.at[..., at : at + size].set(wanted)
        at += size
    return {"params": weights["params"] | {"heads": {"kernel": kernel, "bias": bias}}}


@jax.jit
def _network(key):
    keys = jax.random.split(key, 2)
    columns = jax.eval_shape(lambda: features.dynamics_features(
        scenes.scene(rated(), airport()), airport()
    ))  # fmt: skip
    network = net.AutopilotNetwork(width=16, blocks=1)
    return jax.vmap(lambda k: network.init(k, jnp.zeros((1, len(columns)))))(keys)


def untrained(key: int = 0):
    """Weights `[2, ...]` of two small members under whom everybody stays in the game in his phase."""
    weights = _network(jax.random.key(key))
    return biased(weights, fate=net.STAY, phase_frame=NEVER)
