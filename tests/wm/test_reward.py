"""Reward: the game's separation rule against a re-derivation pair by pair, and the ledger by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm import reward as rw
from wm import traffic as tr

PLACE = scenes.airport()
FIELD_FT = 2000.0
judge_pairs = jax.jit(rw.violations)
count_losses = jax.jit(rw.count_losses)
step_reward = jax.jit(rw.step_reward)

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
    apart, total = rw.empty_ledger(2).apart_game, 0.0
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
    new, apart = count_losses(rw.empty_ledger(3).apart_game, jnp.asarray(violating))
    assert new == 3
    np.testing.assert_array_equal(apart, [[0, 4, 0]])
    again, _ = count_losses(apart, jnp.asarray(violating))
    assert again == 0


# The ledger. Everything here has four slots, so that it compiles once; two arrivals 40 nm apart
# lose nothing unless a test moves them.
SLOTS = 4


def two_arrivals(**columns) -> tr.Traffic:
    return scenes.traffic(SLOTS, **({"x_nm": 40.0, "y_nm": [0.0, 40.0], "id": [7, 8]} | columns))


def events_of(*which: tuple[int, str]):
    table = np.zeros((SLOTS, len(tr.EVENT_NAMES)), bool)
    for slot, name in which:
        table[slot, tr.EVENT_NAMES.index(name)] = True
    return jnp.asarray(table)


def step(ledger, before, after=None, events=(), remaining_s=10000.0, unassigned=0.0, sub=None):
    after = before if after is None else after
    sub = scenes.hold(before) if sub is None else sub
    table = events_of(*events)
    return step_reward(ledger, before, after, sub, table, unassigned, remaining_s, PLACE)


def gone(aircraft: tr.Traffic, slot: int) -> tr.Traffic:
    """The traffic with one slot emptied."""
    blank = tr.empty(tr.Traffic, (SLOTS,))
    keep = jnp.arange(SLOTS) != slot
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), aircraft, blank)


def test_an_event_is_paid_once_per_aircraft():
    aircraft, ledger = two_arrivals(), rw.empty_ledger(SLOTS)
    terms, _, ledger = step(ledger, aircraft, events=[(0, "AIRSPACE_BUST")])
    assert terms["score"] == -200
    terms, _, ledger = step(ledger, aircraft, events=[(0, "AIRSPACE_BUST"), (1, "AIRSPACE_BUST")])
    assert terms["score"] == -200  # only the second aircraft's
    terms, _, ledger = step(ledger, aircraft, events=[(0, "ARRIVAL"), (0, "AIRSPACE_BUST")])
    assert terms["score"] == 10  # another kind of event is paid
    terms, _, ledger = step(ledger, aircraft)
    assert terms["score"] == 0


def test_a_new_aircraft_in_a_slot_owes_nothing_of_the_last():
    first, second = two_arrivals(), two_arrivals(id=[9, 8])
    _, _, ledger = step(rw.empty_ledger(SLOTS), first, gone(first, 0), events=[(0, "ARRIVAL")])
    _, _, ledger = step(ledger, gone(first, 0), second, sub=scenes.hold(second))
    terms, metrics, ledger = step(ledger, second, gone(second, 0), events=[(0, "ARRIVAL")])
    assert terms["score"] == 10
    assert metrics["landed_due"] == 1
    assert ledger.id[:2].tolist() == [9, 8]


def test_an_aircraft_that_appears_and_scores_within_the_step_is_paid():
    full = two_arrivals()
    terms, metrics, _ = step(
        rw.empty_ledger(SLOTS), gone(full, 0), full, events=[(0, "COLLISION")], sub=scenes.hold(full)
    )
    assert terms["score"] == -1000
    assert metrics["collision"] == 1


def test_pair_timers_start_anew_with_a_new_aircraft():
    first = two_arrivals(y_nm=[0.0, 2.0])
    terms, metrics, ledger = step(rw.empty_ledger(SLOTS), first)
    assert terms["loss"] == -200
    assert (metrics["loss_game"], metrics["loss_raw"]) == (1, 1)
    terms, _, ledger = step(ledger, first)
    assert terms["loss"] == 0
    second = two_arrivals(y_nm=[0.0, 2.0], id=[9, 8])
    terms, _, ledger = step(ledger, second)
    assert terms["loss"] == -200


def test_age_counts_within_the_step():
    """90 s are reached on the last of ten frames from 85 s, and not from 84.5 s."""
    for airborne_s, expected in ((85.0, 1), (84.5, 0), (-1.0, 0)):
        aircraft = two_arrivals(y_nm=[0.0, 2.0], airborne_s=airborne_s)
        _, metrics, _ = step(rw.empty_ledger(SLOTS), aircraft)
        assert (metrics["loss_game"], metrics["loss_raw"]) == (expected, 1)


# Unimpeded: 10 nm to the first fix, 20 nm along the route, 15 nm of vectoring, at 210 kt.
ARRIVAL_S = 45 / 210 * 3600


def test_unimpeded_times_by_hand():
    aircraft = scenes.traffic(
        SLOTS,
        x_nm=40.0,
        leg=[0, 1, 2, 0],
        category=[tr.ARRIVAL, tr.ARRIVAL, tr.ARRIVAL, tr.DEPARTURE],
    )
    expected = np.asarray([45.0, 20 + 10 + 15, 30 + 15, 60]) / 210 * 3600
    np.testing.assert_allclose(jax.jit(rw.unimpeded_s)(aircraft, PLACE), expected, rtol=1e-6)


@pytest.mark.parametrize(("remaining_s", "due"), [(1.5 * ARRIVAL_S + 1, 1), (1.5 * ARRIVAL_S - 1, 0)])
def test_due_is_decided_once_at_first_contact(remaining_s, due):
    aircraft = two_arrivals(controllable=[True, False])
    _, metrics, ledger = step(rw.empty_ledger(SLOTS), aircraft, remaining_s=remaining_s)
    assert metrics["arrivals_due"] == due
    assert ledger.due[:2].tolist() == [bool(due), False]
    assert ledger.unimpeded_s[0] == pytest.approx(ARRIVAL_S)
    assert ledger.unimpeded_s[1] == 0.0  # not yet spoken to
    near = two_arrivals(x_nm=[15.0, 40.0], leg=[2, 0], controllable=[True, False])
    _, metrics, ledger = step(ledger, near, remaining_s=remaining_s - 5)
    assert metrics["arrivals_due"] == 0
    assert ledger.due[:2].tolist() == [bool(due), False]
    assert ledger.unimpeded_s[0] == pytest.approx(ARRIVAL_S)
    _, metrics, ledger = step(ledger, two_arrivals(), remaining_s=10000.0)
    assert metrics["arrivals_due"] == 1  # the other one's contact


def test_a_departure_is_due_from_its_take_off():
    waiting = scenes.traffic(SLOTS, category=[tr.DEPARTURE], phase=tr.WAITING)
    _, metrics, ledger = step(rw.empty_ledger(SLOTS), waiting)
    assert metrics["departures_due"] == 0
    _, metrics, ledger = step(ledger, waiting.replace(phase=waiting.phase.at[0].set(tr.TAKEOFF)))
    assert metrics["departures_due"] == 1
    assert metrics["arrivals_due"] == 0
    assert ledger.unimpeded_s[0] == pytest.approx(60 / 210 * 3600)


def test_stranded_at_the_end_only_and_only_when_due():
    aircraft, ledger = two_arrivals(), rw.empty_ledger(SLOTS)
    _, _, ledger = step(ledger, two_arrivals(controllable=[True, False]), remaining_s=5000.0)
    terms, metrics, ledger = step(ledger, aircraft, remaining_s=5.0)  # the second has no time to land
    assert terms["stranded"] == 0
    terms, metrics, _ = step(ledger, aircraft, remaining_s=0.0)
    assert terms["stranded"] == -200
    assert metrics["stranded"] == 1
    terms, _, _ = step(ledger, aircraft, gone(aircraft, 0), events=[(0, "ARRIVAL")], remaining_s=0.0)
    assert terms["stranded"] == 0  # landed on the last step
    above = [(0, "LOCALIZER_INTERCEPT_ABOVE_GLIDESLOPE")]
    terms, _, _ = step(ledger, aircraft, events=above, remaining_s=0.0)
    assert terms["stranded"] == -200  # some other event is no landing
    left = two_arrivals(controllable=[False, True])
    terms, _, _ = step(ledger, aircraft, left, events=[(0, "AIRSPACE_BUST")], remaining_s=0.0)
    assert (terms["score"], terms["stranded"]) == (-200, 0)  # it has paid once


def test_a_departure_is_never_stranded():
    aircraft = scenes.traffic(SLOTS, category=[tr.DEPARTURE, tr.OVERFLIGHT], y_nm=[0.0, 40.0])
    _, _, ledger = step(rw.empty_ledger(SLOTS), aircraft)
    assert ledger.due[:2].tolist() == [True, True]
    terms, _, _ = step(ledger, aircraft, remaining_s=0.0)
    assert terms["stranded"] == 0


def test_terms_are_the_sum_of_what_is_reported():
    rng = np.random.default_rng(3)
    aircraft = scenes.random_traffic(rng, SLOTS)
    ledger, total = rw.empty_ledger(SLOTS), 0.0
    for remaining in (4000.0, 3995.0, 0.0):
        table = jnp.asarray(rng.random((SLOTS, len(tr.EVENT_NAMES))) < 0.3) & aircraft.valid[:, None]
        terms, metrics, ledger = step_reward(
            ledger, aircraft, aircraft, scenes.hold(aircraft), table, -35.0, remaining, PLACE
        )
        counted = sum(points * metrics[name.lower()] for name, points in tr.EVENTS.items())
        assert terms["score"] == pytest.approx(float(counted) - 35.0)
        assert terms["loss"] == -200.0 * metrics["loss_game"]
        assert terms["stranded"] == -200.0 * metrics["stranded"]
        assert set(terms) == {"score", "loss", "stranded"}
        total += float(sum(terms.values()))
    assert np.isfinite(total)


def test_flight_hours_count_controllable_aircraft_in_the_air():
    aircraft = scenes.traffic(
        4, y_nm=[0.0, 10.0, 20.0, 30.0], controllable=[True, True, False, True], phase=[7, 4, 7, tr.WAITING]
    )
    _, metrics, _ = step(rw.empty_ledger(SLOTS), aircraft)
    assert metrics["flight_hours"] == pytest.approx(2 * 5.0 / 3600.0)


def test_the_potential_grows_on_the_way_to_the_runway():
    """Far out, at the gate, cleared at the gate, established below the glideslope, landing."""
    stages = [
        {"x_nm": 45.0},
        {"x_nm": 13.0},
        {"x_nm": 13.0, "approach_clearance": True, "ground_track_rad": np.deg2rad(300.0)},
        {"x_nm": 13.0, "approach_clearance": True},
        {"x_nm": 3.0, "approach_clearance": True, "phase": tr.LANDING},
    ]
    potential = jax.jit(rw.potential)
    base = {"altitude_ft": 3600.0, "id": [7]}
    values = [float(potential(scenes.traffic(SLOTS, **(base | s)), PLACE)) for s in stages]
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    assert values[-1] == 19.0
    assert potential(scenes.traffic(SLOTS, controllable=False), PLACE) == 0.0
    assert potential(tr.empty(tr.Traffic, (SLOTS,)), PLACE) == 0.0
