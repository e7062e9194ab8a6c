"""Distance to go of an arrival that is vectored to its runway: the shortest path of bounded curvature.

Frame: origin at the landing threshold, `forward` along the landing direction, `right` across it, both in nm;
an angle is a heading minus the runway's, clockwise. The path ends on the extended centreline, or beside it on
a course that closes with the localiser at INTERCEPT_RAD, at one of JOINS_NM miles from the threshold.
Method: L. E. Dubins (1957), "On curves of minimal length with a constraint on average curvature", the four
words turn-straight-turn; the two words of three turns are never shorter at the distances met here.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from wm.sector.traffic import TURN_RAD_S

JOINS_NM = np.concatenate([np.arange(7.0, 14.0, 0.5), np.arange(14.0, 27.0, 1.0)])
# A join closer than this leaves no time to settle; each mile less costs SHORT_FINAL_NM.
WANTED_JOIN_NM = 9.5  # from an intercept course
WANTED_STRAIGHT_NM = 11.0  # by a turn straight onto the centreline
SHORT_FINAL_NM = 2.2  # a join one mile farther out makes the path 2 nm longer; this outweighs it
# Price of turning straight onto the centreline: that leaves no time to clear the approach.
STRAIGHT_IN_NM = 0.6
INTERCEPT_RAD = math.radians(30.0)
ABEAM_NM = 1.3  # how far beside the centreline the intercept course begins
TURN_MARGIN = 1.15  # planned radius over the flown one: a turn begun a decision late still ends in place
SLACK_RAD = math.radians(4.0)  # a turn that would go this far past its end is no turn, not a full circle


def _gates() -> dict[str, np.ndarray]:
    """The poses at which a path may end `[P]`, and what is left to fly from each."""
    side = np.repeat([-1.0, 0.0, 1.0], len(JOINS_NM))
    join = np.tile(JOINS_NM, 3)
    wanted = np.where(side == 0.0, WANTED_STRAIGHT_NM, WANTED_JOIN_NM)
    short = SHORT_FINAL_NM * np.maximum(wanted - join, 0.0) + STRAIGHT_IN_NM * (side == 0.0)
    beside = np.abs(side) * ABEAM_NM
    return {
        "forward": -(join + beside / np.tan(INTERCEPT_RAD)),
        "right": side * ABEAM_NM,
        "angle": -side * INTERCEPT_RAD,
        "left_nm": join + beside / np.sin(INTERCEPT_RAD),
        "price_nm": short,
    }


GATES = _gates()


def _turn(angle):
    """`angle` (rad) as an amount of turning in [0, 2 pi); a nearly full circle counts as no turn."""
    return jnp.maximum(jnp.mod(angle + SLACK_RAD, 2 * jnp.pi) - SLACK_RAD, 0.0)


def dubins_nm(forward, right, start_rad, end_rad, radius_nm):
    """Length (nm) of the shortest turn-straight-turn path to a pose at (forward, right) from the origin.

    `start_rad` and `end_rad` are the headings there and at the end, clockwise from forward; all broadcast.
    """
    distance = jnp.hypot(forward, right) / radius_nm
    course = jnp.arctan2(right, forward)
    a, b = start_rad - course, end_rad - course
    sa, ca, sb, cb = jnp.sin(a), jnp.cos(a), jnp.sin(b), jnp.cos(b)
    cross = jnp.cos(a - b)

    same = 2.0 + distance**2 - 2.0 * cross
    straight = jnp.sqrt(jnp.maximum(same + 2.0 * distance * (sa - sb), 0.0))
    via = jnp.arctan2(cb - ca, distance + sa - sb)
    lengths = [_turn(via - a) + straight + _turn(b - via)]
    straight = jnp.sqrt(jnp.maximum(same + 2.0 * distance * (sb - sa), 0.0))
    via = jnp.arctan2(ca - cb, distance - sa + sb)
    lengths.append(_turn(a - via) + straight + _turn(via - b))

    opposite = distance**2 - 2.0 + 2.0 * cross
    for sign in (1.0, -1.0):
        square = opposite + sign * 2.0 * distance * (sa + sb)
        straight = jnp.sqrt(jnp.maximum(square, 0.0))
        via = jnp.arctan2(-sign * (ca + cb), distance + sign * (sa + sb)) - jnp.arctan2(-sign * 2.0, straight)
        length = _turn(sign * (via - a)) + straight + _turn(sign * (via - b))
        lengths.append(jnp.where(square >= 0.0, length, jnp.inf))
    return radius_nm * functools.reduce(jnp.minimum, lengths)


def distance_to_go_nm(forward_nm, right_nm, angle_rad, ground_speed_kt):
    """Distance to the threshold `[...]` (nm) on the best flyable path from positions and angles `[...]`.

    Returns (distance, distance plus the price of a short final); the path with the least of the second is
    chosen.
    """
    radius = jnp.clip(TURN_MARGIN * ground_speed_kt / 3600.0 / TURN_RAD_S, 0.7, 2.5)

    def nearer(best, gate):
        forward, right = gate["forward"] - forward_nm, gate["right"] - right_nm
        length = dubins_nm(forward, right, angle_rad, gate["angle"], radius) + gate["left_nm"]
        priced = length + gate["price_nm"]
        better = priced < best[1]
        return (jnp.where(better, length, best[0]), jnp.where(better, priced, best[1])), None

    # One gate after another: all at once make a kernel that takes minutes to compile.
    gates = {name: jnp.asarray(values, jnp.float32) for name, values in GATES.items()}
    far = jnp.full(jnp.broadcast_shapes(forward_nm.shape, radius.shape), jnp.inf)
    return jax.lax.scan(nearer, (far, far), gates)[0]
