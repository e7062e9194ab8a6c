"""Pairs: every two aircraft meet exactly once, whatever the number of slots."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from wm import pairs

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
