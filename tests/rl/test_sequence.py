"""The landing sequence: times worked out by hand, who overtakes whom, runways apart."""

import jax.numpy as jnp
import numpy as np
import pytest

from rl import sequence as seq

EVERYBODY = jnp.ones((4, 4), bool)
ORDER = jnp.arange(4)


def test_landings_are_a_spacing_apart_unless_one_comes_later():
    landing, free = seq._land(ORDER, jnp.asarray([100.0, 110.0, 300.0, 310.0]), EVERYBODY, 70.0)
    np.testing.assert_allclose(landing, [100.0, 170.0, 300.0, 370.0])
    np.testing.assert_allclose(free[1:], [170.0, 240.0, 370.0])


def test_runways_have_sequences_of_their_own():
    same = jnp.kron(jnp.eye(2), jnp.ones((2, 2))) > 0  # aircraft 0 and 1 here, 2 and 3 there
    landing, _ = seq._land(ORDER, jnp.asarray([100.0, 110.0, 105.0, 106.0]), same, 70.0)
    np.testing.assert_allclose(landing, [100.0, 170.0, 105.0, 175.0])


@pytest.mark.parametrize(
    ("eta", "due"),
    [
        ([100.0, 400.0, 310.0, 200.0], [0.0, 10.0, 9.5, 30.0]),  # 1 is late: 2, the next, goes before
        ([100.0, 400.0, 375.0, 200.0], [0.0, 10.0, 20.0, 9.5]),  # ... and where 2 gains too little, 3
        ([100.0, 195.0, 160.0, 150.0], [0.0, 10.0, 20.0, 30.0]),  # the runway idles for 25 s only
        ([100.0, 400.0, 500.0, 600.0], [0.0, 10.0, 20.0, 30.0]),  # nobody fills the gap
    ],
)
def test_the_next_that_can_land_in_an_idle_gap_overtakes(eta, due):
    eta, first = jnp.asarray(eta), jnp.asarray([0.0, 10.0, 20.0, 30.0])
    _, free = seq._land(ORDER, eta, EVERYBODY, 70.0)
    np.testing.assert_allclose(seq._fill_gap(ORDER, eta, free, first, EVERYBODY), due)


def test_who_may_not_be_overtaken_is_not():
    eta, first = jnp.asarray([100.0, 400.0, 310.0, 200.0]), jnp.asarray([0.0, 10.0, 20.0, 30.0])
    _, free = seq._land(ORDER, eta, EVERYBODY, 70.0)
    may_fill = EVERYBODY & (np.arange(4) != 1)[:, None]
    np.testing.assert_allclose(seq._fill_gap(ORDER, eta, free, first, may_fill), first)
