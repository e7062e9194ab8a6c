"""Separation: which pairs of aircraft are too close, and when one loss of separation ends.

Two rules, both counted: `raw` is 3 nm and 1,000 ft without exemption; `game` is the rule as openScope
executes it (aircraft/AircraftConflict.js). The game's own violation flag never clears and never scores, so
losses are counted here, on the sub-steps: one loss is one pair from entry until separated for 30 s.
Letters: K sub-steps, N slots, D = N // 2: a pair of aircraft is an entry of `[D, N]`, see wm.sector.pairs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wm.sector import approach, pairs
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.traffic import FRAME_S, SubSteps, Traffic

LATERAL_NM = 3.0
VERTICAL_FT = 1000.0
LOW_FT = 990.0  # the game ignores pairs with one below this height above the field
YOUNG_S = 90.0  # ... or with one in its first 90 s
DIVERGING_RAD = np.deg2rad(15.0)
DIVERGING_SID_RAD = np.deg2rad(10.0)
OPPOSITE_RAD = np.deg2rad(135.0)
SEPARATED_FRAMES = round(30.0 / FRAME_S)  # a loss ends after 30 s of separation


@struct.dataclass
class PairTimers:
    """Frames since each pair `[D, N]` last violated a rule, uint8, saturating at SEPARATED_FRAMES."""

    game: jax.Array
    raw: jax.Array


def separated(slots: int) -> PairTimers:
    """Timers of pairs that have violated nothing."""
    apart = jnp.full((slots // 2, slots), SEPARATED_FRAMES, jnp.uint8)
    return PairTimers(game=apart, raw=apart)


@struct.dataclass
class PairRule:
    """What the separation rule asks of each aircraft `[..., N]` and pair `[..., D, N]` in a step."""

    course: approach.Course
    on_sid: jax.Array  # bool [..., N]
    parallel_nm2: jax.Array  # squared minimum where both are established
    elevation_ft: jax.Array  # []


def pair_rule(traffic: Traffic, airport: Airport) -> PairRule:
    """Look up everything of the rule that does not change from frame to frame."""
    runway = jnp.maximum(traffic.runway, 0)
    first, second = pairs.both_sides(runway)
    parallel = airport.parallel_minimum_nm[first, second]
    minimum = jnp.where((parallel >= 0) & (first != second), parallel, LATERAL_NM)
    leg = jnp.clip(traffic.leg, 0, airport.route_on_sid.shape[1] - 1)
    on_sid = airport.route_on_sid[jnp.maximum(traffic.route, 0), leg] & (traffic.route >= 0)
    return PairRule(approach.course(traffic, airport), on_sid, minimum**2, airport.elevation_ft)


def both(flag):
    """Whether a flag `[..., N]` holds for both aircraft of each pair, `[..., D, N]`."""
    first, second = pairs.both_sides(flag)
    return first & second


def _difference(value):
    first, second = pairs.both_sides(value)
    return second - first


def past_crossing(dx, dy, tracks):
    """Whether one of a pair has passed the point where their tracks cross.

    (dx, dy): from the first aircraft of each pair to the second. tracks: (sine, cosine) of the first's track
    and of the second's. A quotient's sign is that of numerator times denominator.
    """
    (ax, ay), (bx, by) = tracks
    determinant = bx * ay - by * ax
    first = (dy * bx - dx * by) * determinant
    second = (dy * ax - dx * ay) * determinant
    return (first < 0) | (second < 0)


def diverging(cosine, tracks, dx, dy, on_sid):
    """Whether the game exempts a pair: headings far enough apart, and one is past the crossing point.

    cosine: of the angle between the headings. Angles are compared by their cosines.
    """
    least = jnp.where(on_sid, np.cos(DIVERGING_SID_RAD), np.cos(DIVERGING_RAD))
    return (cosine <= least) & (cosine >= np.cos(OPPOSITE_RAD)) & past_crossing(dx, dy, tracks)


def _directions(angle_rad):
    """(sine, cosine) of an angle `[..., N]` for the first and for the second aircraft of every pair."""
    return tuple(zip(*(pairs.both_sides(f(angle_rad)) for f in (jnp.sin, jnp.cos)), strict=True))


@struct.dataclass
class Compared:
    """What the game's rule compares of pairs `[..., D, N]`: a violation is a `pair` that is `subject` to it
    with less than the minimum between the two."""

    pair: jax.Array  # bool: both fly, one of them is controllable, less than 1,000 ft between their altitudes
    lateral2: jax.Array  # nm^2
    minimum2: jax.Array  # nm^2
    vertical_ft: jax.Array
    subject: jax.Array  # bool: none of the game's exemptions applies


def compare(s: SubSteps, airborne_s, rule: PairRule) -> Compared:
    """Compare the aircraft of frames `[..., N]` pair by pair, with the game's exemptions as executed.

    These are: parallel approaches, converging courses past their crossing, the first 90 s, below 990 ft. Its
    opposite-course exemption never fires: the distance change it tests is always zero.
    """
    dx, dy = _difference(s.x_nm), _difference(s.y_nm)
    lateral2 = dx * dx + dy * dy
    vertical = jnp.abs(_difference(s.altitude_ft))
    controllable, other = pairs.both_sides(s.controllable)
    pair = both(s.present & (s.phase > tr.WAITING)) & (controllable | other) & (vertical < VERTICAL_FT)
    pair = pair & pairs.once(s.x_nm.shape[-1])

    lined_up = approach.on_course(s.x_nm, s.y_nm, s.ground_track_rad, rule.course)
    minimum2 = jnp.where(both(lined_up), rule.parallel_nm2, LATERAL_NM**2)
    counted = (s.altitude_ft - rule.elevation_ft >= LOW_FT) & (airborne_s >= YOUNG_S)
    tracks, headings = _directions(s.ground_track_rad), _directions(s.heading_rad)
    (own_east, own_north), (other_east, other_north) = headings
    cosine = own_east * other_east + own_north * other_north
    exempt = diverging(cosine, tracks, dx, dy, both(rule.on_sid))
    return Compared(pair, lateral2, minimum2, vertical, both(counted) & ~exempt)


def judge(s: SubSteps, airborne_s, rule: PairRule):
    """Return (game, raw) violating pairs `[..., D, N]` of frames `[..., N]`.

    raw is 3 nm and 1000 ft with no exemption; game adds the game's exemptions, see `compare`.
    """
    found = compare(s, airborne_s, rule)
    return violates(found), found.pair & (found.lateral2 < LATERAL_NM**2)


def violates(found: Compared):
    """Pairs `[..., D, N]` that violate the game's rule."""
    return found.pair & (found.lateral2 < found.minimum2) & found.subject


def count_frame(apart, losses, violating):
    """Advance pair timers `apart` and loss counts by one frame; all `[D, N]`, the first two uint8.

    A loss is one pair from entry until it has been separated for 30 s.
    """
    new = violating & (apart >= SEPARATED_FRAMES)
    apart = jnp.where(violating, 0, jnp.minimum(apart + 1, SEPARATED_FRAMES)).astype(jnp.uint8)
    return apart, losses + new.astype(jnp.uint8)


def forget_changed(timers: PairTimers, same) -> PairTimers:
    """Timers without those of pairs in which a slot has a new aircraft; `same [N]` bool."""
    same_pair = both(same)
    return jax.tree.map(lambda apart: jnp.where(same_pair, apart, SEPARATED_FRAMES), timers)
