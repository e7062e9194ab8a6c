"""A policy that endangers traffic on purpose, so that recordings hold what good controllers avoid.

Now and then it overrules another policy with one of three commands: it turns an aircraft towards its nearest
neighbour, takes it to that neighbour's level, or clears an arrival for an approach from above the glideslope,
which ends in a go-around. Letters: N aircraft slots.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from rl.acting import Policy
from wm.sector import commands, observe
from wm.sector.commands import ALTITUDE, HEADING, ILS

CLOSE_NM = 15.0  # neighbours within it are worth a command
LEVEL_FT = 500.0  # a pair closer than this in altitude is turned together, others are brought level
HIGH_FT = 400.0  # so far above the glideslope an approach cannot be saved any more
FINAL_NM = (4.0, 12.0)  # distance from the threshold along the centreline
ASIDE_NM = 4.0  # greatest distance from the centreline
TURNS_RAD = np.deg2rad(np.asarray(commands.HEADING_CHANGES_DEG, np.float32))


@struct.dataclass
class DangerousParams:
    """Params of the policy underneath, and how often it is overruled where there is an occasion."""

    inner: struct.PyTreeNode
    epsilon: float = 0.15


def dangerous(policy: Policy) -> Policy:
    """`policy`, overruled with probability epsilon wherever danger can be made; params `DangerousParams`."""

    def act(params: DangerousParams, carry, obs, key):
        inner_key, chance_key, choice_key = jax.random.split(key, 3)
        action, carry = policy.act(params.inner, carry, obs, inner_key)
        occasions, worst = occasion(obs)
        weight = jnp.where(occasions, 0.0, -jnp.inf)
        chosen = jax.random.categorical(choice_key, weight)  # arbitrary where there is no occasion
        overruled = (jax.random.uniform(chance_key) < params.epsilon) & jnp.any(occasions)
        return jnp.where(overruled, worst[chosen], action), carry

    return Policy(init=policy.init, act=act)


def occasion(obs: dict) -> tuple[jax.Array, jax.Array]:
    """Where danger can be made, bool `[3 N]`, and by which action `[3 N, 5]`: turns, levels, approaches."""
    aircraft, mask = obs["aircraft"], obs["action_mask"]
    slots = aircraft.shape[0]

    def column(name):
        return observe.read(aircraft, name)

    bearing = jnp.arctan2(column("nearest_bearing_sin"), column("nearest_bearing_cos"))
    turn = jnp.argmin(jnp.abs(jnp.sin((TURNS_RAD - bearing[:, None]) / 2)), -1)
    above = column("nearest_above_ft")
    near = obs["aircraft_mask"] & (column("nearest_distance_nm") < CLOSE_NM)
    names = [f"level_{i}_ft" for i in range(commands.LEVELS)]
    levels = jnp.stack([observe.read_global(obs["global_state"], name) for name in names])
    wanted = column("altitude_ft") + above
    level = jnp.argmin(jnp.where(mask["altitude"], jnp.abs(levels - wanted[:, None]), jnp.inf), -1)
    along = column("runway_along_nm")
    high = (
        (column("above_glideslope_ft") > HIGH_FT) & (along > FINAL_NM[0]) & (along < FINAL_NM[1])
        & (jnp.abs(column("runway_cross_nm")) < ASIDE_NM) & (column("approach_clearance") < 0.5)
    )  # fmt: skip
    occasions = jnp.concatenate(
        [
            near & mask["verb"][:, HEADING] & (jnp.abs(above) < LEVEL_FT),
            near & mask["verb"][:, ALTITUDE] & (jnp.abs(above) >= LEVEL_FT),
            high & mask["verb"][:, ILS],
        ]
    )
    slot, zero = jnp.arange(slots), jnp.zeros(slots, jnp.int32)

    def actions(verb, altitude, heading):
        return jnp.stack([slot, jnp.full(slots, verb), altitude, heading, zero], -1).astype(jnp.int32)

    worst = [actions(HEADING, zero, turn), actions(ALTITUDE, level, zero), actions(ILS, zero, zero)]
    return occasions, jnp.concatenate(worst)
