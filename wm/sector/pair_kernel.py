"""Separation over all frames of a step as one GPU kernel: a program keeps the pairs of a sector in registers.

XLA's loop reads and writes every pair's timers and looks its second aircraft up again in memory. Here one
program takes all frames of one sector, and judges one by one only the frames of sectors in which a pair comes
close at all. The result is that of wm.sector.separation's functions, up to the rounding
of sines and cosines. Letters: E sectors, K frames, N slots, D = N // 2 as in wm.sector.pairs.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from wm.sector import approach, separation
from wm.sector import traffic as tr
from wm.sector.separation import PairRule, PairTimers
from wm.sector.traffic import FRAME_S, SubSteps

PAIRS_PER_WARP = 64  # two a thread
# What each bit of a frame's flags says of an aircraft.
FLIES, CONTROLLABLE, LINED_UP, COUNTED, ON_SID = (1 << i for i in range(5))


def _flags(valid, age, s: SubSteps, rule: PairRule):
    """The bits above of every aircraft on every frame, int32 `[K, E, N]`, of frames `[K, E, N]`."""
    number = jnp.arange(1, s.x_nm.shape[0] + 1)[:, None, None]
    airborne_s = age + jnp.where(valid, number * FRAME_S, 0.0)
    high = s.altitude_ft - rule.elevation_ft[:, None] >= separation.LOW_FT
    told = {
        FLIES: s.present & (s.phase > tr.WAITING),
        CONTROLLABLE: s.controllable,
        LINED_UP: approach.on_course(s.x_nm, s.y_nm, s.ground_track_rad, rule.course),
        COUNTED: high & (airborne_s >= separation.YOUNG_S),
        ON_SID: jnp.broadcast_to(rule.on_sid, s.x_nm.shape),
    }
    return sum(jnp.where(flag, bit, 0) for bit, flag in told.items())


def _kernel(slots, x, y, altitude, track, heading, flags, parallel, game_in, raw_in,
            game_out, raw_out, game_losses, raw_losses):  # fmt: skip
    """All frames of the sector of this program; the pairs `[D, N]` are padded to powers of two."""
    shape, frames = parallel.shape, x.shape[0]
    distance = 1 + jax.lax.broadcasted_iota(jnp.int32, shape, 0)
    slot = jax.lax.broadcasted_iota(jnp.int32, shape, 1)
    real = (2 * distance <= slots) & (slot < slots)
    once = real & ((2 * distance < slots) | (2 * slot < slots))
    other = slot + distance
    start = pl.program_id(0) * slots
    first = start + jnp.where(real, slot, 0)
    second = start + jnp.where(real, jnp.where(other >= slots, other - slots, other), 0)
    minimum2 = parallel[...]
    reach2 = jnp.maximum(minimum2, separation.LATERAL_NM**2)

    def compared(number):
        flag, flag2 = flags[number, first], flags[number, second]
        dx = x[number, second] - x[number, first]
        dy = y[number, second] - y[number, first]
        vertical = jnp.abs(altitude[number, second] - altitude[number, first])
        either, both = flag | flag2, flag & flag2
        pair = once & ((both & FLIES) > 0) & ((either & CONTROLLABLE) > 0)
        return pair & (vertical < separation.VERTICAL_FT), dx, dy, both

    def frame(number, carry):
        apart_game, new_game, apart_raw, new_raw = carry
        pair, dx, dy, both = compared(number)
        lateral2 = dx * dx + dy * dy
        angle, angle2 = track[number, first], track[number, second]
        tracks = (jnp.sin(angle), jnp.cos(angle)), (jnp.sin(angle2), jnp.cos(angle2))
        angle, angle2 = heading[number, first], heading[number, second]
        cosine = jnp.sin(angle) * jnp.sin(angle2) + jnp.cos(angle) * jnp.cos(angle2)
        exempt = separation.diverging(cosine, tracks, dx, dy, (both & ON_SID) > 0)
        least2 = jnp.where((both & LINED_UP) > 0, minimum2, separation.LATERAL_NM**2)
        game = pair & (lateral2 < least2) & ((both & COUNTED) > 0) & ~exempt
        raw = pair & (lateral2 < separation.LATERAL_NM**2)
        return *_counted(apart_game, new_game, game), *_counted(apart_raw, new_raw, raw)

    near = jnp.zeros(shape, jnp.int32)
    for number in range(frames):
        pair, dx, dy, _ = compared(number)
        near = near | (pair & (dx * dx + dy * dy < reach2)).astype(jnp.int32)
    none = jnp.zeros(shape, jnp.int32)
    apart = game_in[...].astype(jnp.int32), raw_in[...].astype(jnp.int32)

    def judged():
        return jax.lax.fori_loop(0, frames, frame, (apart[0], none, apart[1], none))

    def nobody_near():
        game, raw = (jnp.minimum(timer + frames, separation.SEPARATED_FRAMES) for timer in apart)
        return game, none, raw, none

    apart_game, new_game, apart_raw, new_raw = jax.lax.cond(jnp.max(near) > 0, judged, nobody_near)
    game_out[...], raw_out[...] = apart_game.astype(jnp.uint8), apart_raw.astype(jnp.uint8)
    game_losses[...] = jnp.sum(new_game, keepdims=True).astype(jnp.float32)
    raw_losses[...] = jnp.sum(new_raw, keepdims=True).astype(jnp.float32)


def _counted(apart, losses, violating):
    """separation.count_frame in int32."""
    new = violating & (apart >= separation.SEPARATED_FRAMES)
    apart = jnp.where(violating, 0, jnp.minimum(apart + 1, separation.SEPARATED_FRAMES))
    return apart, losses + new.astype(jnp.int32)


def count(timers: PairTimers, valid, age, sub: SubSteps, rule: PairRule, interpret: bool = False):
    """(losses by the game's rule `[E]`, by the raw one `[E]`, timers) of a batch; `interpret` runs on a CPU.

    valid, age `[E, N]`: who was there when the step began, and the seconds since take-off then.
    """
    sectors, distances, slots = timers.game.shape
    frames = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), sub)
    flags = _flags(valid, age, frames, rule)
    f = frames
    columns = (f.x_nm, f.y_nm, f.altitude_ft, f.ground_track_rad, f.heading_rad, flags)
    columns = [leaf.reshape(leaf.shape[0], -1) for leaf in columns]
    square = tuple(1 << (size - 1).bit_length() for size in (distances, slots))
    more = [(0, 0), (0, square[0] - distances), (0, square[1] - slots)]
    tables = [jnp.pad(table, more) for table in (rule.parallel_nm2, timers.game, timers.raw)]
    whole = pl.BlockSpec(columns[0].shape, lambda e: (0, 0))
    table = pl.BlockSpec((None, *square), lambda e: (e, 0, 0))
    number = pl.BlockSpec((None, 1, 1), lambda e: (e, 0, 0))
    timer = jax.ShapeDtypeStruct((sectors, *square), jnp.uint8)
    losses = jax.ShapeDtypeStruct((sectors, 1, 1), jnp.float32)
    warps = int(np.clip(np.prod(square) // PAIRS_PER_WARP, 1, 8))
    game, raw, game_losses, raw_losses = pl.pallas_call(
        partial(_kernel, slots),
        grid=(sectors,),
        in_specs=[whole] * len(columns) + [table] * len(tables),
        out_specs=[table, table, number, number],
        out_shape=[timer, timer, losses, losses],
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=1),
        interpret=interpret,
        name="count_losses",
    )(*columns, *tables)
    kept = PairTimers(game=game[:, :distances, :slots], raw=raw[:, :distances, :slots])
    return game_losses[:, 0, 0], raw_losses[:, 0, 0], kept
