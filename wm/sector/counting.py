"""Losses of separation in a step: every frame judged and counted, by the rules of wm.sector.separation.

A batch on a GPU is counted by the kernel of wm.sector.pair_kernel.
"""

import jax
import jax.numpy as jnp

from wm.sector import kernels, pair_kernel
from wm.sector.airport import Airport
from wm.sector.separation import PairRule, PairTimers, count_frame, judge, pair_rule
from wm.sector.traffic import FRAME_S, SubSteps, Traffic

UNROLL = 5  # frames judged in one compiled loop body


def count_step(timers: PairTimers, before: Traffic, during: Traffic, sub: SubSteps, airport: Airport):
    """Judge and count every frame of a step; return (losses by the game's rule, by the raw one, timers).

    before, during: traffic `[N]` at the step's start, and with the aircraft that are new in it.
    """
    age = jnp.where(during.airborne_s >= 0, during.airborne_s, -1e6)
    return _count(timers, before.valid, age, sub, pair_rule(during, airport))


def count_frames(timers: PairTimers, valid, age, sub: SubSteps, rule: PairRule):
    """One loop over the frames does everything, so no array of pairs outlives its frame."""
    none = jnp.zeros_like(timers.game)

    def frame(word, now):
        number, s = now
        judged = judge(s, age + jnp.where(valid, number * FRAME_S, 0.0), rule)
        apart_game, game, apart_raw, raw = _unpack(word)
        game = count_frame(apart_game, game, judged[0])
        return _pack(*game, *count_frame(apart_raw, raw, judged[1])), None

    frames = jnp.arange(1, sub.x_nm.shape[0] + 1)
    word = _pack(timers.game, none, timers.raw, none)
    word, _ = jax.lax.scan(frame, word, (frames, sub), unroll=UNROLL)
    apart_game, game, apart_raw, raw = _unpack(word)
    losses = [jnp.sum(count.astype(jnp.float32)) for count in (game, raw)]
    return *losses, PairTimers(game=apart_game, raw=apart_raw)


_count = jax.custom_batching.custom_vmap(count_frames)


@_count.def_vmap
def _count_batch(axis_size, in_batched, *arguments):
    arguments = kernels.on_all(axis_size, tuple(in_batched), arguments)
    out = kernels.where_it_runs(pair_kernel.count, jax.vmap(count_frames), *arguments)
    return out, jax.tree.map(lambda _: True, out)


def _pack(*columns):
    """Four uint8 arrays as one uint32: a loop that carries one array judges a pair only once."""
    return sum(column.astype(jnp.uint32) << (8 * i) for i, column in enumerate(columns))


def _unpack(word):
    return [(word >> (8 * i)).astype(jnp.uint8) for i in range(4)]
