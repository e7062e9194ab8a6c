"""Every pair of N aircraft once: slot i with slots i + 1 to i + N // 2, counted round.

A full table `[N, N]` would hold every pair twice. D = N // 2 is the number of distances between slots.
"""

import numpy as np


def second_slot(slots: int) -> np.ndarray:
    """The other aircraft `[D, N]` of the pair at distance d + 1 from slot i."""
    return (np.arange(slots) + np.arange(1, slots // 2 + 1)[:, None]) % slots


def once(slots: int) -> np.ndarray:
    """Which of the entries `[D, N]` count, bool: for even N the last distance has each pair twice."""
    distance = np.arange(1, slots // 2 + 1)[:, None]
    return (2 * distance < slots) | (np.arange(slots) < slots // 2)


def both_sides(per_aircraft):
    """(first, second) of every pair: `[..., N]` as `[..., 1, N]` and `[..., D, N]`."""
    index = second_slot(per_aircraft.shape[-1])
    return per_aircraft[..., None, :], per_aircraft.at[..., index].get(mode="promise_in_bounds")


def widen(table: np.ndarray, slots: int, fill) -> np.ndarray:
    """A table of pairs `[D, N]` as one for `slots` >= N aircraft; the pairs that are new hold `fill`."""
    count = table.shape[1]
    known = once(count)
    first, second = np.broadcast_to(np.arange(count), known.shape)[known], second_slot(count)[known]
    square = np.full((slots, slots), fill, table.dtype)
    square[first, second] = square[second, first] = table[known]
    return square[np.arange(slots), second_slot(slots)]
