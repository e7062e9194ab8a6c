"""Slopes of functions whose slope is known."""

import jax
import numpy as np

from rl import evolution

CENTRE = np.asarray([0.5, -1.0, 2.0])


def test_directions_come_in_opposite_pairs():
    directions = np.asarray(evolution.mirrored(jax.random.key(0), 4, 3))
    np.testing.assert_array_equal(directions[:4], -directions[4:])
    assert len(np.unique(directions)) == 24


def test_the_slope_of_a_plane_is_exact_and_a_bowl_adds_nothing():
    directions = np.asarray(evolution.mirrored(jax.random.key(1), 5, 3), np.float64)
    at = CENTRE + 0.2 * directions
    plane = at @ np.asarray([3.0, 0.0, -2.0]) + 7.0
    bowl = 100.0 * np.square(at - CENTRE).sum(-1)
    np.testing.assert_allclose(evolution.gradient(directions, plane + bowl, 0.2), [3.0, 0.0, -2.0], atol=1e-9)


def test_a_step_has_its_length_and_without_a_slope_there_is_none():
    moved = evolution.ascended(CENTRE, np.asarray([3.0, 0.0, -4.0]), 0.5)
    np.testing.assert_allclose(moved, [0.8, -1.0, 1.6])
    np.testing.assert_array_equal(evolution.ascended(CENTRE, np.zeros(3), 0.5), CENTRE)


def test_generations_climb_a_noisy_hill():
    rng, centre = np.random.default_rng(0), np.zeros(3)
    for generation in range(20):
        directions = np.asarray(evolution.mirrored(jax.random.key(generation), 8, 3))
        height = -np.square(centre + 0.25 * directions - CENTRE).sum(-1)
        noise = rng.normal(0.0, 0.2, len(height))
        centre = evolution.ascended(centre, evolution.gradient(directions, height + noise, 0.25), 0.2)
    assert np.linalg.norm(centre - CENTRE) < 0.35  # from 2.3 away
