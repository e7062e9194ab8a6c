"""Losses of separation: the game's rule against a re-derivation pair by pair, and losses counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector import separation as sn
from wm.sector import traffic as tr

PLACE = scenes.airport()
FIELD_FT = 2000.0


@jax.jit
def judge_pairs(sub, traffic, airborne_s, airport):
    """The rule's (game, raw) on all sub-steps at once, `[K, D, N]` each."""
    frames = jax.tree.map(lambda v: v[..., None, :], traffic)
    return sn.judge(sub, airborne_s, sn.pair_rule(frames, airport))


@jax.jit
def count_losses(apart, violating):
    """(new losses, timers) of a rule's timers `[D, N]` over `violating [K, D, N]`."""

    def frame(carry, now):
        return sn.count_frame(*carry, now), None

    (apart, losses), _ = jax.lax.scan(frame, (apart, jnp.zeros_like(apart)), violating)
    return jnp.sum(losses.astype(jnp.float32)), apart


RUNWAY_NAMES = ("27L", "27R", "36")
PARALLEL_NM = {("27L", "27R"): 1.5, ("27R", "27L"): 1.5}
SID_LEGS = {(scenes.SID_ROUTE, 0), (scenes.SID_ROUTE, 1), (scenes.VECTOR_ROUTE, 0), (scenes.VECTOR_ROUTE, 1)}
BORDERLINE = 1e-4  # float32 may decide the other way closer to a threshold than this


def offset_angle(a, b):
    """Smallest angle between two headings (rad), signed."""
    return (a - b + np.pi) % (2 * np.pi) - np.pi


def violations(*arguments):
    """The violating pairs as tables `[K, N, N]`, upper triangle."""
    return tuple(table(np.asarray(found)) for found in judge_pairs(*arguments))


def table(per_pair):
    """Pair values `[K, D, N]` in the upper triangles of `[K, N, N]`; no pair may hold two."""
    count, _, slots = per_pair.shape
    out = np.zeros((count, slots, slots), int)
    for d, i in np.argwhere(per_pair.any(0)):
        pair = sorted((i, (i + d + 1) % slots))
        out[:, pair[0], pair[1]] += per_pair[:, d, i]
    assert out.max(initial=0) <= 1  # each pair is counted once
    return out


class Craft:
    """One aircraft on one frame, in float64, with what the game asks of it."""

    def __init__(self, traffic, sub, airborne, k, n):
        for name in ("category", "runway", "route", "leg"):
            setattr(self, name, int(traffic[name][n]))
        for name, values in sub.items():
            setattr(self, name, values[k, n].item())
        self.airborne_s = float(airborne[k, n])
        self.taxiing = self.phase in (tr.APRON, tr.TAXI, tr.WAITING) or not self.present

    def on_course(self):
        """(established, how far the nearest test is from its limit)."""
        if self.category != tr.ARRIVAL or self.runway < 0:
            return False, np.inf
        runway = scenes.static()["runways"][self.runway]
        dx, dy = runway["x_nm"] - self.x_nm, runway["y_nm"] - self.y_nm
        off = runway["heading_rad"] - np.arctan2(dx, dy)
        lateral, ahead = abs(np.hypot(dx, dy) * np.sin(off)), np.hypot(dx, dy) * np.cos(off)
        angle = abs(offset_angle(self.ground_track_rad, runway["heading_rad"]))
        tests = (0.0822894 - lateral, ahead, 0.0872665 - angle)
        return all(t > 0 for t in tests), min(map(abs, tests))


def game_rule(a: Craft, b: Craft):
    """What the game decides of a pair: (violation, raw violation, margin, branch taken)."""
    if a.taxiing or b.taxiing or not (a.controllable or b.controllable):
        return False, False, np.inf, "not a pair"
    vertical, lateral = abs(a.altitude_ft - b.altitude_ft), np.hypot(a.x_nm - b.x_nm, a.y_nm - b.y_nm)
    margin = abs(lateral - 3.0)
    raw = bool(vertical < 1000.0 and lateral < 3.0)
    if min(a.altitude_ft, b.altitude_ft) - FIELD_FT < 990.0:
        return False, raw, margin, "low"
    if min(a.airborne_s, b.airborne_s) < 90.0:
        return False, raw, margin, "young"
    if vertical >= 1000.0:
        return False, raw, margin, "vertical"
    minimum, branch = 3.0, "plain"
    (established_a, margin_a), (established_b, margin_b) = a.on_course(), b.on_course()
    margin = min(margin, margin_a, margin_b)
    if established_a and established_b:
        pair = RUNWAY_NAMES[a.runway], RUNWAY_NAMES[b.runway]
        if pair in PARALLEL_NM:
            minimum, branch = PARALLEL_NM[pair], "parallel"
    margin = min(margin, abs(lateral - minimum))
    violation = bool(lateral < minimum)
    difference = abs(offset_angle(a.heading_rad, b.heading_rad))
    both_sid = (a.route, a.leg) in SID_LEGS and (b.route, b.leg) in SID_LEGS
    diverging = np.deg2rad(10.0 if both_sid else 15.0)
    margin = min(margin, abs(difference - diverging), abs(difference - np.deg2rad(135.0)))
    if not violation or difference < diverging:
        return violation, raw, margin, branch if violation or lateral < 3.0 else "apart"
    if difference > np.deg2rad(135.0):
        return violation, raw, margin, "opposite"  # the game tests a change that is always zero
    away_a = np.asarray([np.sin(a.ground_track_rad), np.cos(a.ground_track_rad)])
    away_b = np.asarray([np.sin(b.ground_track_rad), np.cos(b.ground_track_rad)])
    # a + u away_a = b + v away_b: where the tracks cross
    system = np.stack([away_a, -away_b], axis=1)
    if abs(np.linalg.det(system)) < 1e-3:
        return violation, raw, 0.0, "along"
    u, v = np.linalg.solve(system, np.asarray([b.x_nm - a.x_nm, b.y_nm - a.y_nm]))
    passed = u < 0 or v < 0
    branch = ("sid " if both_sid else "") + ("passed" if passed else "converging")
    return violation and not passed, raw, min(margin, abs(u), abs(v)), branch


def crowd(rng: np.random.Generator, slots: int, categories: tuple[int, ...], frames: int = 10):
    """Sub-steps of a crowd within a few miles; altitudes and ages are exactly at the limits or well clear."""
    aircraft = scenes.traffic(
        slots,
        category=rng.choice(categories, slots),
        runway=rng.choice([-1, 0, 1, 2], slots, p=[0.1, 0.4, 0.4, 0.1]),
        route=rng.integers(-1, 3, slots),
        leg=rng.integers(0, 3, slots),
    )
    shape = (frames, slots)
    runways, runway = scenes.static()["runways"], np.asarray(aircraft.runway)
    course = np.asarray([runways[r]["heading_rad"] for r in runway])
    ahead, right = (
        np.stack([np.sin(course), np.cos(course)], -1),
        np.stack([np.cos(course), -np.sin(course)], -1),
    )
    thresholds = np.asarray([(runways[r]["x_nm"], runways[r]["y_nm"]) for r in runway])
    along, cross = rng.uniform(-0.3, 3, (*shape, 1)), rng.normal(0, 0.05, (*shape, 1))
    final = rng.random(shape) < 0.7  # lined up with its runway, more or less
    lined = thresholds - along * ahead + cross * right
    xy = np.where(final[..., None], lined, rng.uniform(-2.5, 4, (*shape, 2)))
    track = np.where(final, course + rng.normal(0, 0.05, shape), rng.uniform(0, 2 * np.pi, shape))
    drift = rng.normal(0, 0.05, shape)
    columns = {
        "x_nm": xy[..., 0],
        "y_nm": xy[..., 1],
        "altitude_ft": rng.choice([2989.0, 2990.0, 3400.0, 3989.0, 3990.0], shape),
        "heading_rad": np.mod(track + drift, 2 * np.pi),
        "ground_track_rad": np.mod(track, 2 * np.pi),
    }
    flags = {
        "phase": rng.integers(tr.WAITING, tr.LANDING + 1, shape),
        "controllable": rng.random(shape) < 0.8,
        "present": rng.random(shape) < 0.95,
    }
    arrays = {n: jnp.asarray(v, jnp.float32) for n, v in columns.items()}
    arrays |= {n: jnp.asarray(v) for n, v in flags.items()}
    return (
        aircraft,
        scenes.hold(aircraft, frames, **arrays),
        rng.choice([89.5, 90.0, 500.0], shape, p=[0.1, 0.4, 0.5]),
    )


BRANCHES = {
    ("not a pair", False),
    ("low", False),
    ("young", False),
    ("vertical", False),
    ("apart", False),
    ("plain", True),
    ("parallel", True),
    ("parallel", False),
    ("opposite", True),
    ("converging", True),
    ("passed", False),
    ("sid converging", True),
    ("sid passed", False),
}


def test_the_games_rule_on_thousands_of_pairs():
    seen, left_out, slots = {}, 0, 16
    kinds = [(tr.ARRIVAL,), (tr.DEPARTURE,), (tr.ARRIVAL, tr.DEPARTURE, tr.OVERFLIGHT)]
    for seed in range(9):
        aircraft, sub, airborne = crowd(np.random.default_rng(seed), slots, kinds[seed % 3])
        game, raw = violations(sub, aircraft, jnp.asarray(airborne, jnp.float32), PLACE)
        traffic = {n: np.asarray(getattr(aircraft, n)) for n in tr.schema(tr.Traffic)}
        frames = {n: np.asarray(getattr(sub, n)) for n in tr.schema(tr.SubSteps)}
        game, raw = np.asarray(game), np.asarray(raw)
        count = game.shape[0]
        crafts = [[Craft(traffic, frames, airborne, k, n) for n in range(slots)] for k in range(count)]
        for k, i, j in np.argwhere(np.triu(np.ones((count, slots, slots)), 1)):
            violation, raw_violation, margin, branch = game_rule(crafts[k][i], crafts[k][j])
            if margin < BORDERLINE:
                left_out += 1
                continue
            assert game[k, i, j] == violation, (seed, k, i, j, branch)
            assert raw[k, i, j] == raw_violation, (seed, k, i, j, branch)
            seen[branch, violation] = seen.get((branch, violation), 0) + 1
    assert sum(seen.values()) > 10000
    assert left_out < 200
    assert {branch for branch, n in seen.items() if n >= 20} >= BRANCHES


def pair(**columns) -> tuple[tr.Traffic, tr.SubSteps]:
    """Two aircraft 2 nm abeam of each other, level, on the same heading; columns change them."""
    aircraft = scenes.traffic(2, **({"y_nm": [0.0, 2.0], "x_nm": 20.0} | columns))
    return aircraft, scenes.hold(aircraft, 1)


def judged(aircraft, sub, airborne_s=600.0) -> tuple[bool, bool]:
    ages = jnp.full(sub.x_nm.shape, airborne_s)
    game, raw = violations(sub, aircraft, ages, PLACE)
    return bool(game[0, 0, 1]), bool(raw[0, 0, 1])


@pytest.mark.parametrize(
    ("columns", "game", "raw"),
    [
        ({}, True, True),
        ({"y_nm": [0.0, 3.0]}, False, False),  # 3 nm are enough
        ({"altitude_ft": [10000.0, 9000.0]}, False, False),  # 1000 ft are enough
        ({"altitude_ft": [10000.0, 9001.0]}, True, True),
        ({"altitude_ft": [2990.0, 3500.0]}, True, True),  # 990 ft above the field
        ({"altitude_ft": [2989.5, 3500.0]}, False, True),  # below
        ({"phase": [tr.WAITING, tr.CLIMB]}, False, False),
        ({"phase": [tr.TAKEOFF, tr.CLIMB]}, True, True),
        ({"controllable": [False, True]}, True, True),
        ({"controllable": [False, False]}, False, False),
        ({"category": tr.OVERFLIGHT, "runway": -1, "route": -1}, True, True),
    ],
)
def test_a_pair_by_hand(columns, game, raw):
    assert judged(*pair(**columns)) == (game, raw)


def test_an_aircraft_in_its_first_90_seconds_is_ignored_by_the_game_only():
    aircraft, sub = pair()
    assert judged(aircraft, sub, 90.0) == (True, True)
    assert judged(aircraft, sub, 89.5) == (False, True)


@pytest.mark.parametrize(
    ("headings_deg", "violation"),
    [
        ((265, 279), True),  # 14 degrees apart and past each other: still together
        ((265, 281), False),  # 16 degrees
        ((285, 265), True),  # 20 degrees, towards each other
        ((250, 24), False),  # 134 degrees, both past the crossing
        ((240, 20), True),  # 140 degrees: the opposite-course exemption never fires
        ((180, 0), True),  # flying straight apart
    ],
)
def test_diverging_courses_by_hand(headings_deg, violation):
    """The second aircraft is 2 nm north of the first: westward courses that open are past their crossing."""
    courses = np.deg2rad(headings_deg)
    aircraft, sub = pair(heading_rad=courses, ground_track_rad=courses)
    assert judged(aircraft, sub) == (violation, True)


@pytest.mark.parametrize(
    ("legs", "angle_deg", "violation"), [((0, 1), 9, True), ((0, 1), 11, False), ((1, 2), 11, True)]
)
def test_on_sids_ten_degrees_are_enough(legs, angle_deg, violation):
    courses = np.deg2rad([270.0, 270.0 + angle_deg])
    aircraft, sub = pair(heading_rad=courses, ground_track_rad=courses, route=scenes.SID_ROUTE, leg=legs)
    assert judged(aircraft, sub) == (violation, True)


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"x_nm": [11.0, 12.2]}, False),  # 1.56 nm apart, 1 nm of it across
        ({"x_nm": [11.0, 12.0]}, True),  # 1.41 nm
        ({"x_nm": [11.0, 12.2], "y_nm": [0.09, 1.0]}, True),  # off the centreline by more than 500 ft
        ({"x_nm": [0.5, 1.7]}, True),  # one is past its threshold
        ({"x_nm": [11.0, 12.2], "runway": scenes.RUNWAY_27L}, True),  # the same runway
        ({"x_nm": [11.0, 12.2], "category": [tr.ARRIVAL, tr.DEPARTURE]}, True),
        ({"x_nm": [11.0, 12.2], "ground_track_rad": np.deg2rad([270.0, 276.0])}, True),
        ({"x_nm": [11.0, 12.2], "ground_track_rad": np.deg2rad([270.0, 274.0])}, False),
    ],
)
def test_established_on_parallel_approaches(changes, violation):
    runways = [scenes.RUNWAY_27L, scenes.RUNWAY_27R]
    aircraft, sub = pair(**({"y_nm": [0.0, 1.0], "runway": runways, "altitude_ft": 4000.0} | changes))
    assert judged(aircraft, sub) == (violation, True)


def losses_of(frames: np.ndarray, split: int = 1) -> int:
    """Losses of one pair over a series of frames, counted in `split` consecutive calls."""
    apart, total = sn.separated(2).game, 0.0
    for part in np.split(frames, split):
        violating = jnp.zeros((len(part), 1, 2), bool).at[:, 0, 0].set(jnp.asarray(part))
        new, apart = count_losses(apart, violating)
        total += float(new)
    return int(total)


def series(*runs: tuple[bool, int], length: int = 400) -> np.ndarray:
    values = np.concatenate([np.full(n, v) for v, n in runs])
    return np.concatenate([values, np.zeros(length - len(values), bool)])


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(False, 40)], 0),
        ([(True, 1)], 1),
        ([(True, 300)], 1),  # one loss however long
        ([(True, 3), (False, 59), (True, 3)], 1),  # separated for 29.5 s: the same loss
        ([(True, 3), (False, 60), (True, 3)], 2),  # for 30 s: a new one
        ([(True, 1), (False, 59), (True, 1), (False, 59), (True, 1)], 1),
        ([(True, 1), (False, 60), (True, 1), (False, 30), (True, 1), (False, 60), (True, 1)], 3),
    ],
)
def test_a_loss_lasts_until_30_seconds_of_separation(runs, expected):
    frames = series(*runs)
    assert losses_of(frames) == expected
    assert losses_of(frames, split=40) == expected  # however the frames are cut into decisions


def test_three_aircraft_are_three_pairs():
    violating = np.zeros((10, 1, 3), bool)  # slots 0 and 1, 1 and 2, 2 and 0
    violating[2:, 0, 0] = violating[5, 0, 1] = violating[9, 0, 2] = True
    new, apart = count_losses(sn.separated(3).game, jnp.asarray(violating))
    assert new == 3
    np.testing.assert_array_equal(apart, [[0, 4, 0]])
    again, _ = count_losses(apart, jnp.asarray(violating))
    assert again == 0
