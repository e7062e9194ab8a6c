"""Aircraft keep their slots; states land in them, and events with them."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collect import slots as sl
from collect.snapshot import parse
from wm.sector import reward, separation
from wm.sector import traffic as tr


def table(*ids):
    return np.asarray(ids, np.int64)


def test_an_aircraft_keeps_its_slot_and_new_ones_take_the_lowest_free():
    slots, overflow = sl.assign(table(4, 5, sl.FREE, 6, sl.FREE), table(4, 6, 7, 8))
    assert slots.tolist() == [4, sl.FREE, 7, 6, 8]
    assert overflow == 0


def test_a_slot_is_not_reused_in_the_step_that_frees_it():
    slots, overflow = sl.assign(table(4, 5), table(5, 6))
    assert slots.tolist() == [sl.FREE, 5]
    assert overflow == 1
    slots, overflow = sl.assign(slots, table(5, 6))
    assert slots.tolist() == [6, 5]
    assert overflow == 0


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sets(st.integers(0, 30), max_size=8), min_size=1, max_size=12))
def test_slots_stay_consistent_over_any_traffic(history):
    slots = np.full(12, sl.FREE, np.int64)
    for present in history:
        before = slots
        slots, overflow = sl.assign(slots, table(*sorted(present)))
        placed = slots[slots != sl.FREE]
        assert len(set(placed)) == len(placed)
        assert set(placed) <= present
        assert len(placed) + overflow == len(present)
        stayed = (before != sl.FREE) & (slots != sl.FREE)
        assert (before[stayed] == slots[stayed]).all()


def test_a_scene_holds_the_table_s_rows_and_defaults_elsewhere(stored_answer):
    snapshot = parse(stored_answer("kabq_start"))
    ids = sl.aircraft_ids(snapshot)
    slots = np.full(16, sl.FREE, np.int64)
    slots[[3, 9]] = ids[[5, 2]]
    traffic = sl.scene_of(snapshot, slots).traffic
    rows = tr.from_table(tr.Traffic, snapshot.aircraft)
    empty = tr.empty(tr.Traffic, (16,), np)
    for name in tr.schema(tr.Traffic):
        expected = getattr(empty, name)
        expected[[3, 9]] = getattr(rows, name)[[5, 2]]
        np.testing.assert_array_equal(getattr(traffic, name), expected)


def test_substeps_end_where_the_scene_is(stored_answer):
    snapshot = parse(stored_answer("kabq_event"))
    slots, _ = sl.assign(np.full(20, sl.FREE), sl.aircraft_ids(snapshot))
    traffic = sl.scene_of(snapshot, slots).traffic
    substeps = sl.substeps_of(snapshot, slots)
    assert substeps.x_nm.shape == (tr.FRAMES_PER_STEP, 20)
    np.testing.assert_array_equal(substeps.x_nm[-1], traffic.x_nm)
    np.testing.assert_array_equal(substeps.present[-1], traffic.valid)


def test_events_go_to_the_column_at_the_start_or_of_the_newcomer(stored_answer):
    snapshot = parse(stored_answer("kabq_event"))
    aircraft, code, _ = snapshot.events[0]
    for before, after in (([3, aircraft], [3, sl.FREE]), ([3, sl.FREE], [3, aircraft])):
        flags, stray = sl.events_of(snapshot, table(*before), table(*after))
        assert np.argwhere(flags).tolist() == [[1, code]]
        assert stray == []
    flags, stray = sl.events_of(snapshot, table(3, sl.FREE), table(3, sl.FREE))
    assert not flags.any()
    assert stray == [(aircraft, code)]


@pytest.mark.parametrize("known", [1, sl.ROUTES - 1, sl.ROUTES + 5])
def test_airport_tables_have_room_for_routes_to_come(stored_answer, static, known):
    route = parse(stored_answer("kabq_start")).routes[0]
    airport = sl.padded_airport(static, [route] * known)
    assert airport.route_xy_nm.shape[0] > known
    assert airport.route_xy_nm.shape[1] == sl.LEGS
    assert (airport.route_legs[:known] == len(route["waypoints"])).all()


def test_short_frames_are_read_at_lock_step_s_times(stored_answer):
    snapshot = parse(stored_answer("kabq_event"))
    ids = sl.aircraft_ids(snapshot)
    expected = sl.substeps_of(snapshot, ids)
    smooth = np.repeat(snapshot.substeps, 30, axis=0)
    smooth[np.arange(len(smooth)) % 30 != 29, :, 1:] = np.nan  # between lock-step's times
    found = sl.substeps_of(dataclasses.replace(snapshot, substeps=smooth), ids)
    for name in tr.schema(tr.SubSteps):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_table_of_columns_is_as_wide_as_it_must_be():
    assert [sl.width_for(n) for n in (0, 64, 65, 128, 129)] == [64, 64, 128, 128, 128]


def test_a_loss_that_goes_on_is_not_counted_again_in_a_wider_table():
    ledger = jax.tree.map(np.array, reward.empty_ledger(4))
    ledger.id[:] = [7, 8, 9, sl.FREE]
    ledger.scored[1], ledger.due[1], ledger.unimpeded_s[1] = 4, True, 600.0
    violating = np.zeros((2, 4), bool)
    violating[0, 1] = True  # columns 1 and 2
    timers = ledger.timers
    ledger = ledger.replace(timers=timers.replace(game=separation.count_frame(timers.game, 0, violating)[0]))
    wide = sl.widen(ledger, 8)
    assert wide.id.tolist() == [7, 8, 9] + [sl.FREE] * 5
    assert (wide.scored[1], wide.due[1], wide.unimpeded_s[1]) == (4, True, 600.0)
    assert np.argwhere(np.asarray(wide.timers.game) != separation.SEPARATED_FRAMES).tolist() == [[0, 1]]
    same = jax.tree.map(np.shape, reward.empty_ledger(8))
    assert jax.tree.map(np.shape, wide) == same
