"""Cold starts without number: each stream's first aircraft come from a recorded start of their own.

The game fills its sky before the first frame stream by stream, each without regard to the others. So a scene
whose streams come from different recorded first frames is one that the game might have begun with. Letters:
B recorded starts, N aircraft slots, S streams.
"""

import jax
import numpy as np

from wm.sector import traffic as tr
from wm.sector.traffic import Scene, Traffic, in_play
from wm.state import spawn as sp

TRIES = 20
_standing, _departed = jax.jit(sp.standing), jax.jit(sp.departed)


def mixed(starts: Scene, count: int, seed: int = 0) -> Scene:
    """`count` scenes (numpy) mixed from recorded first scenes `[B, ...]` of one airport.

    Aircraft are numbered anew from 0 on, without gaps. What does not fit into the slots is drawn again, and
    after TRIES a recorded start is taken as it is.
    """
    starts = jax.tree.map(np.asarray, starts)
    rng = np.random.default_rng(seed)
    recorded, streams = starts.since_spawn_s.shape
    scenes = []
    for _ in range(count):
        sources = rng.integers(0, recorded, (TRIES, streams + 1))
        sources[-1] = sources[-1, 0]  # all of one start, which fits
        found = (_mixture(starts, source) for source in sources)
        scenes.append(next(scene for scene in found if scene is not None))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *scenes)


def _mixture(starts: Scene, source: np.ndarray) -> Scene | None:
    """The scene whose stream s comes from start source[s], all else from source[-1]; None if it overflows."""
    t = starts.traffic
    stream = np.where(t.stream >= 0, t.stream, len(source) - 1)
    from_here = source[stream] == np.arange(len(t.valid))[:, None]
    which = np.argwhere(from_here & np.asarray(in_play(t)))
    slots = t.valid.shape[1]
    if len(which) > slots:
        return None
    out = tr.empty(Traffic, (slots,), np)
    for name in tr.schema(Traffic):
        getattr(out, name)[: len(which)] = getattr(t, name)[which[:, 0], which[:, 1]]
    out = out.replace(id=np.where(out.valid, np.arange(slots), -1).astype(np.int32))
    base = jax.tree.map(lambda leaf: leaf[source[-1]], starts)
    clocks = starts.since_spawn_s[source[:-1], np.arange(len(source) - 1)]
    out = _one_rolls(out)
    out = out.replace(queue_position=_queues(out))
    nobody = tr.empty(tr.Runways, base.runways.last_departure.shape, np)
    runways = jax.tree.map(np.asarray, _departed(nobody, out, out.valid))
    return base.replace(traffic=out, runways=runways, since_spawn_s=clocks)


def _one_rolls(t: Traffic) -> Traffic:
    """The traffic `[N]` in which only the first departure of a runway rolls, and others stand."""
    rolls = t.valid & (t.phase == tr.TAKEOFF)
    earlier = np.tril(t.runway[:, None] == t.runway[None, :], -1) & rolls[None, :]
    stands = rolls & earlier.any(1)
    return jax.tree.map(np.asarray, _standing(t, stands))


def _queues(t: Traffic) -> np.ndarray:
    """Places `[N]` in the runways' queues, counted anew in the order of the slots."""
    place = np.full(t.valid.shape, -1, np.int32)
    for runway in np.unique(t.runway[t.valid]):
        waits = np.flatnonzero(t.valid & (t.phase == tr.WAITING) & (t.runway == runway))
        place[waits] = np.arange(len(waits))
    return place
