"""What a controller is: the pure functions `init(key) -> carry` and `act(params, carry, obs, key)`.

Scripted and trained controllers alike are policies. What evaluates or scripts one needs nothing else, so it
does not change with the networks.
"""

from collections.abc import Callable
from typing import NamedTuple


class Policy(NamedTuple):
    """init(key) -> carry; act(params, carry, obs, key) -> (action, carry). Unbatched; callers vmap.

    The carry is the policy's memory of an episode. An action in a sector is int32 (5,).
    """

    init: Callable
    act: Callable
