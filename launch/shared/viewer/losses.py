"""Which pairs of aircraft were too close, and when.

An episode counts its losses of separation and names no pairs. They are found again by the same rule
(wm.sector.separation) from where everybody was at the decisions, with straight lines in between. Letters:
T decisions, K frames between two of them, N aircraft, D distances between columns (wm.sector.pairs).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl.losses import frames_between
from wm.sector import pairs, separation
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import Traffic

SAME_LOSS = round(30.0 / tr.STEP_S)  # decisions of separation after which a pair may lose it again


class Conflict(NamedTuple):
    """A pair that was too close from decision `first` to decision `last`."""

    first: int
    last: int
    one: int  # aircraft ids
    other: int
    exempt: bool  # closer than 3 nm and 1,000 ft, and the game's own rule lets it pass
    nearest_nm: float


def conflicts(traffic: Traffic, airport: Airport) -> list[Conflict]:
    """All pairs that were too close in an episode `[T + 1, N]`, in the order of their beginning."""
    if traffic.valid.shape[-1] < 2:
        return []
    before, after = (jax.tree.map(lambda leaf, s=s: leaf[s], traffic) for s in (np.s_[:-1], np.s_[1:]))
    game, raw, nearest = map(np.asarray, _judged(before, after, airport))
    other = pairs.second_slot(traffic.valid.shape[-1])
    seen: dict[tuple[int, int, bool], list[Conflict]] = {}
    for t, d, n in zip(*np.nonzero(game | raw), strict=True):
        one, two = sorted((int(traffic.id[t, n]), int(traffic.id[t, other[d, n]])))
        now = Conflict(int(t), int(t), one, two, not game[t, d, n], float(nearest[t, d, n]))
        rows = seen.setdefault((one, two, now.exempt), [])
        if rows and now.first - rows[-1].last <= SAME_LOSS:
            now = now._replace(first=rows[-1].first, nearest_nm=min(now.nearest_nm, rows.pop().nearest_nm))
        rows.append(now)
    return sorted(conflict for rows in seen.values() for conflict in rows)


@jax.jit
def _judged(before: Traffic, after: Traffic, airport: Airport):
    """(game, raw, nearest nm) `[T, D, N]`: whether a pair broke a rule on a frame of a decision."""

    def step(both):
        was, now = both
        sub, airborne_s = frames_between(was, now)
        during = jax.tree.map(lambda b, a: jnp.where(was.valid, b, a), was, now)
        rule = separation.pair_rule(during, airport)
        judge = jax.vmap(separation.judge, (0, 0, None))
        game, raw = judge(sub, airborne_s, rule)
        sides = [pairs.both_sides(xy) for xy in (sub.x_nm, sub.y_nm)]
        distance = jnp.hypot(*(second - first for first, second in sides))
        return game.any(0), raw.any(0), distance.min(0)

    return jax.lax.map(step, jax.tree.map(jnp.asarray, (before, after)))
