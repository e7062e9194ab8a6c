"""Reward: the ledger by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector import reward as rw
from wm.sector import traffic as tr

PLACE = scenes.airport()
step_reward = jax.jit(rw.step_reward)

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
