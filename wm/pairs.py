"""Every pair of N aircraft once: slot i with slots i + 1 to i + N // 2, counted round.

Half the work and memory of a table `[N, N]` of which one triangle is used. D = N // 2 distances.
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
