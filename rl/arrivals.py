"""Arrivals, as the expert sees them: distance to go, place in the sequence, descent, and the final approach.

Letters: N aircraft, K headings. Angles rad, distances nm, heights ft.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct

from rl.paths import distance_to_go_nm
from rl.picture import Picture
from rl.sequence import Memory, Sequence, sequence, working
from wm.sector import approach
from wm.sector.geometry import wrap_pi
from wm.sector.traffic import TURN_RAD_S

FAR_FT = 1e5
SHORTEST_FINAL_NM = 6.5
SETTLING_NM = 0.8  # flown while turning onto the localiser


@struct.dataclass
class ExpertParams:
    """The expert's prices (points) and geometry; tuned on training seeds, real and imagined."""

    command: float = 0.4  # a command has to save more than this
    heading: float = 0.2  # a heading has to save this much more
    conflict: float = 60.0  # price of a certain loss of separation
    spacing_s: float = 70.0  # time between landings
    slack_nm: float = 0.8  # an arrival may be this much too early in the sequence
    early_nm: float = 1.0  # an arrival this much too early may be cleared for the approach
    lose_nm: float = 1.5  # at most so much of a detour has to begin within SHORT_STEPS
    urgency: float = 8.0  # multiplies what a command saves an arrival whose turn it is to land
    vector_nm: float = 26.0  # an arrival closer than this to go is vectored off its route
    departure_heading: float = 25.0  # price of taking a departure off its route
    keep_clearance: float = 40.0  # price of cancelling an approach that works
    ils: float = 8.0  # worth of an approach clearance
    intercept: float = 1.5  # worth of a heading on which an approach can be cleared
    altitude: float = 0.8  # price per 1000 ft away from the profile
    low_share: float = 0.25  # price of being below the profile, as a share of being above it
    again: float = 0.0  # price of an altitude from which the aircraft has to be told to descend again
    unusable: float = 6.0  # price of an altitude too low for any approach clearance
    speed: float = 0.7  # price per 40 kt
    slow_share: float = 0.6  # price of being slower than wanted, as a share of being faster
    far_kt: float = 220.0  # speed of an arrival that is vectored
    near_kt: float = 180.0  # the same near the runway
    near_nm: float = 17.0  # an arrival closer than this to go is near; one that has to wait is so sooner
    boundary: float = 30.0  # price of leading an arrival out of the airspace
    descent_ft_nm: float = 420.0  # steepest descent planned for
    profile_ft_nm: float = 280.0  # descent aimed at


@struct.dataclass
class Arrival:
    """Each arrival's way to the runway, `[N]`; of other aircraft the numbers mean nothing."""

    to_go: jax.Array  # nm, best path
    priced: jax.Array  # nm, with the price of a short final
    place: Sequence
    excess: jax.Array  # nm to fly beyond the best path, for the place in the sequence and for the descent
    steep: jax.Array  # nm to fly beyond the best path for the descent alone
    join_ft: jax.Array  # altitude at which to meet the localiser
    wanted_ft: jax.Array  # altitude level of the descent profile here
    vectored: jax.Array  # bool, flies headings instead of its route


def to_go_nm(p: Picture, x, y, heading):
    """Distance to go (nm), plain and priced, of each aircraft from positions and headings `[N, ...]`."""

    def wide(value):
        return value.reshape(value.shape + (1,) * (x.ndim - 1))

    course = jax.tree.map(wide, p.course)
    cross, along = approach.offset(x, y, course)
    return distance_to_go_nm(-along, cross, wrap_pi(heading - course.heading_rad), wide(p.ground_speed))


def _to_join_nm(p: Picture):
    """Distance to go `[N]` on the present heading to the localiser and along it."""
    across, closing = jnp.abs(p.approach.cross_nm), -p.approach.angle_rad * jnp.sign(p.approach.cross_nm)
    closing = jnp.clip(closing, math.radians(10.0), math.radians(60.0))
    return p.approach.along_nm - across / jnp.tan(closing) + across / jnp.sin(closing)


def _join_altitude(p: Picture, to_go):
    """Highest level `[N]` that meets the glideslope from below where the path joins the localiser.

    It is never below the lowest level with which the game accepts an approach clearance.
    """
    accepted = jnp.where(p.levels[None] >= p.approach.intercept_ft[:, None] - 1.0, p.levels[None], FAR_FT)
    lowest = jnp.min(accepted, -1)
    slope = approach.glideslope_ft(jnp.clip(to_go - 1.5, 6.5, 8.5), p.course) - 100.0
    below = jnp.where(accepted <= slope[:, None], accepted, 0.0)
    return jnp.maximum(jnp.max(below, -1), lowest)


def arrivals(params: ExpertParams, p: Picture, memory: Memory) -> tuple[Arrival, Memory]:
    """Where each arrival stands in the landing sequence and in its descent, and the memory after it."""
    to_go, priced = to_go_nm(p, p.x, p.y, p.heading)
    to_go = jnp.where(working(p), _to_join_nm(p), to_go)
    to_go = jnp.where(p.established, p.approach.along_nm, to_go)
    join = _join_altitude(p, to_go)
    steep = (p.altitude - join) / params.descent_ft_nm + 10.0 - to_go
    steep = jnp.where(p.established, 0.0, steep)
    place, memory = sequence(params.spacing_s, p, memory, to_go)
    excess = jnp.where(p.established, 0.0, jnp.maximum(place.wait_nm, steep))
    profile = join + jnp.maximum(to_go + jnp.maximum(place.wait_nm, 0.0) - 14.0, 0.0) * params.profile_ft_nm
    fits = (p.levels[None] <= profile[:, None] + 300.0) & (p.levels[None] >= join[:, None])
    wanted = jnp.max(jnp.where(fits, p.levels[None], join[:, None]), -1)
    vectored = p.arrival & p.controllable & (~p.lnav | (to_go < params.vector_nm) | p.fix_is_vector[:, 0])
    return Arrival(to_go, priced, place, excess, steep, join, wanted, vectored), memory


def leads_to_final(params: ExpertParams, p: Picture, arrival: Arrival, heading):
    """Whether holding `heading [N, K]` leads onto the final approach, and how far it is then, `[N, K]`.

    Such a heading closes with the localiser at a good angle, meets it below the glideslope and
    before SHORTEST_FINAL_NM, and the arrival need not wait for another.
    """
    side = jnp.sign(p.approach.cross_nm)[:, None]
    now = (-p.approach.angle_rad)[:, None] * side
    then = -wrap_pi(heading - p.course.heading_rad[:, None]) * side
    radius = (p.ground_speed / 3600.0 / TURN_RAD_S)[:, None]
    across = jnp.abs(p.approach.cross_nm)[:, None] - radius * jnp.abs(jnp.cos(then) - jnp.cos(now))
    along = p.approach.along_nm[:, None] - radius * jnp.abs(jnp.sin(now) - jnp.sin(then))
    closing = jnp.clip(then, math.radians(10.0), math.radians(52.0))
    converging = (closing == then) & (now > 0.0) & (across > 0.25)
    meet = along - across / jnp.tan(closing)
    path = across / jnp.sin(closing) + p.approach.along_nm[:, None] - along
    return converging & _from_below(params, p, arrival, meet, path) & (path < 8.0), path + meet


def _from_below(params: ExpertParams, p: Picture, arrival: Arrival, meet, path):
    """Whether an approach can follow where the localiser is met `meet [N, K]` from the threshold, `[N, K]`.

    path: distance to there. The aircraft has to meet the glideslope from below, and be next to land.
    """
    lost = path / jnp.maximum(p.ground_speed, 80.0)[:, None] * 3600.0 * p.descent[:, None]
    low = jnp.maximum(p.altitude[:, None] - lost, p.assigned_altitude[:, None])
    slope = approach.glideslope_ft(meet - SETTLING_NM, jax.tree.map(lambda a: a[:, None], p.course))
    free = p.arrival & (arrival.place.wait_nm < params.early_nm) & ~p.cleared & ~arrival.place.abreast
    return free[:, None] & (meet > SHORTEST_FINAL_NM) & (low < slope)


def clearable(params: ExpertParams, p: Picture, arrival: Arrival):
    """Whether an approach clearance works now, and whether it would on a held heading, bool `[N]` each.

    It works for an aircraft that is nearly on the localiser, or on a heading that leads to it.
    """
    side = jnp.sign(p.approach.cross_nm)
    now, then = -p.approach.angle_rad * side, -wrap_pi(p.target_heading - p.course.heading_rad) * side
    off = jnp.arctan2(jnp.abs(p.approach.cross_nm), jnp.maximum(p.approach.along_nm, 0.1))
    gentle = (now > math.radians(-4.0)) & (now < math.radians(30.0)) & (jnp.abs(then) < math.radians(30.0))
    window = (off < math.radians(1.2)) & gentle & (p.approach.along_nm > 0)
    window = window & _from_below(params, p, arrival, p.approach.along_nm[:, None], 0.0)[:, 0]
    converging = leads_to_final(params, p, arrival, p.target_heading[:, None])[0][:, 0]
    ready = window | converging
    return ready & (window | p.heading_held), ready
