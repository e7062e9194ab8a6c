"""Pairs: every two aircraft meet exactly once, whatever the number of slots."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from wm.sector import pairs

SLOTS = (1, 2, 3, 4, 5, 8, 9, 32)


@pytest.mark.parametrize("slots", SLOTS)
def test_every_two_aircraft_meet_once(slots):
    first, second = pairs.both_sides(jnp.arange(slots))
    first = np.broadcast_to(first, second.shape)
    both = np.stack([first, second])[:, pairs.once(slots)].T
    met = [tuple(sorted(pair)) for pair in both.tolist()]
    assert sorted(met) == list(itertools.combinations(range(slots), 2))


def test_batches_lead():
    first, second = pairs.both_sides(jnp.arange(10).reshape(2, 5))
    assert first.shape == (2, 1, 5)
    assert second.shape == (2, 2, 5)
    np.testing.assert_array_equal(second[1, 1], [7, 8, 9, 5, 6])


@pytest.mark.parametrize(("slots", "more"), [(1, 4), (4, 4), (4, 9), (5, 8), (8, 16)])
def test_a_wider_table_says_the_same_of_the_same_pairs(slots, more):
    def entries(table):
        count = table.shape[1]
        first, second = np.broadcast_to(np.arange(count), table.shape), pairs.second_slot(count)
        keep = pairs.once(count)
        met = zip(first[keep].tolist(), second[keep].tolist(), table[keep].tolist(), strict=True)
        return {frozenset(pair[:2]): pair[2] for pair in met}

    table = np.arange(100, 100 + slots * (slots // 2), dtype=np.uint8).reshape(slots // 2, slots)
    wide = pairs.widen(table, more, 7)
    assert wide.dtype == table.dtype
    known, found = entries(table), entries(wide)
    assert found == dict.fromkeys(map(frozenset, itertools.combinations(range(more), 2)), 7) | known
