"""Cold starts without number: each stream's first aircraft come from a recorded start of their own.

The game fills its sky before the first frame stream by stream, each without regard to the others. So a scene
whose streams come from different recorded first frames is one that the game might have begun with. Letters:
B recorded starts, N aircraft slots, S streams.
"""

import jax
import numpy as np

from wm.sector import traffic as tr
from wm.sector.traffic import Scene, Traffic, in_play


def mixed(starts: Scene, count: int, seed: int = 0) -> Scene:
    """`count` scenes (numpy) mixed from recorded first scenes `[B, ...]` of one airport.

    Aircraft are numbered anew from 0 on, without gaps. What does not fit into the slots is drawn again.
    Raises ValueError where even one recorded start's streams do not fit together.
    """
    starts = jax.tree.map(np.asarray, starts)
    rng = np.random.default_rng(seed)
    recorded, streams = starts.since_spawn_s.shape
    scenes, tries = [], 0
    while len(scenes) < count:
        tries += 1
        if tries > 100 * count:
            raise ValueError("the aircraft of recorded starts do not fit into the slots: take more --slots")
        source = rng.integers(0, recorded, streams + 1)
        scene = _mixture(starts, source)
        if scene is not None:
            scenes.append(scene)
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
    return base.replace(traffic=out.replace(queue_position=_queues(out)), since_spawn_s=clocks)


def _queues(t: Traffic) -> np.ndarray:
    """Places `[N]` in the runways' queues, counted anew in the order of the slots."""
    place = np.full(t.valid.shape, -1, np.int32)
    for runway in np.unique(t.runway[t.valid]):
        waits = np.flatnonzero(t.valid & (t.phase == tr.WAITING) & (t.runway == runway))
        place[waits] = np.arange(len(waits))
    return place
