"""The parts of the simulator's step, timed one by one, and the work that a step cannot do without."""

from collections.abc import Callable, Iterator
from functools import partial

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

from configs.bench import BenchConfig
from launch.shared import speed
from wm.sector import airport as ap
from wm.sector import commands, counting, observe
from wm.state import features, network, params, play, transition
from wm.state import kinematics as kn
from wm.state import spawn as sp
from wm.state.env import OpenScopeWorldModel


def with_slots(config: BenchConfig, slots: int):
    """The environment with sectors of so many aircraft.

    Where the world model has more, it starts from those recorded states that have at most `slots`.
    """
    make = partial(gymnax.make, "OpenScopeWM-v0", checkpoint=config.checkpoint, airport=config.airport)
    given = make()[1]
    own = given.rows.scene.traffic.valid.shape[-1]
    if slots >= own:
        return make(slots=slots)
    scene = given.rows.scene
    few = np.flatnonzero(np.asarray(scene.traffic.valid).sum(-1) <= slots)
    if not few.size:
        raise ValueError(f"slots {slots}: every recorded start has more aircraft")
    rows = jax.tree.map(lambda leaf: leaf[few], given.rows)
    order = np.argsort(~np.asarray(rows.scene.traffic.valid), -1, kind="stable")[:, :slots]
    traffic = jax.tree.map(lambda leaf: np.take_along_axis(np.asarray(leaf), order, -1), rows.scene.traffic)
    scene = rows.scene.replace(traffic=traffic)
    rows = params.build_rows(scene, rows.airport_id, given.airports, rows.traffic_rate)
    given = given.replace(rows=rows)
    return OpenScopeWorldModel(given), given


def jobs(env, params, config: BenchConfig) -> Iterator[tuple[str, Callable[[], speed.Row]]]:
    """Every part of a step of `config.at` sectors, by name, and the least that the whole can take."""
    place = ap.select(params.airports, 0)
    keys = jax.random.split(jax.random.key(3), config.at)
    _, state = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    scene = state.scene

    def looks(scene):
        return features.stack_features(features.dynamics_features(scene, place), jnp.bfloat16)

    def plays(weights, member, seen, valid, time, uniform):
        return jax.vmap(play.play, (None, 0, 0, 0, 0, 0))(weights, member, seen, valid, time, uniform)

    seen = jax.jit(jax.vmap(looks))(scene)
    slots = seen.shape[1]
    draws = jax.vmap(lambda key: network.uniforms(key, (slots,)))
    uniform = jax.jit(draws)(keys)
    told = (params.weights, state.member, seen, scene.traffic.valid, state.time, uniform)
    drawn, _ = jax.jit(plays)(*told)
    guidance = jax.vmap(transition.decision_of)(drawn, scene.traffic).guidance
    moves = jax.vmap(lambda scene, guidance: kn.advance(scene, guidance, place))
    sub = jax.jit(moves)(scene, guidance)[1]

    def counts(timers, t, sub):
        return counting.count_step(timers, t, t, sub, place)

    def spawns(scene, rate, number, key):
        return sp.spawn(scene, params.spawns, 0, rate, number, key, place)

    actions = jax.vmap(env.action_space(params).sample)(keys)
    timed = {
        "command": (jax.vmap(lambda t, a: commands.apply(t, a, place)), scene.traffic, actions),
        "features": (jax.vmap(looks), scene),
        "random_numbers": (draws, keys),
        "network_and_draw": (plays, *told),
        "physics": (moves, scene, guidance),
        "separation": (jax.vmap(counts), state.ledger.timers, scene.traffic, sub),
        "spawns": (jax.vmap(spawns), scene, state.traffic_rate, state.next_id, keys),
        "observation": (jax.vmap(lambda scene: observe.observe(scene, place)), scene),
        "reset": (jax.vmap(env.reset, (0, None)), keys, params),
    }
    for name, (function, *arguments) in timed.items():
        yield f"step_{name}", partial(speed.milliseconds, function, *arguments, repeats=config.repeats)


def least(config: BenchConfig, ceilings: dict[str, speed.Row]) -> speed.Row:
    """The least time (s) of one step of one sector, by the longer of matrix products and memory.

    Products are those of the network, once for every aircraft and once more for the quarter that is probed.
    A step has to read and write the state and to write the observation; all else could stay on the chip.
    Arithmetic outside the network is left out, so that the bound is below what any program reaches.
    """
    env, given = gymnax.make("OpenScopeWM-v0", checkpoint=config.checkpoint, airport=config.airport)
    observation, state = jax.eval_shape(env.reset, jax.random.key(0), given)
    slots = observation["aircraft"].shape[0]
    layers = [leaf for leaf in jax.tree.leaves(given.weights) if leaf.ndim == 3]
    flops = sum(2 * int(np.prod(leaf.shape[1:])) for leaf in layers) * slots * (1 + 1 / network.PROBE_PERIOD)
    size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))  # noqa: E731
    moved = 2 * size(state) + size(observation)
    times = {
        "matmul_s": flops / (ceilings["matmul_bfloat16"]["high"] * 1e12),
        "memory_s": moved / (ceilings["copy"]["high"] * 1e9),
    }
    return speed.summary([max(times.values())], "s") | times | {"flops": flops, "bytes": moved}
