"""Running statistics against NumPy over all samples at once."""

import jax
import jax.numpy as jnp
import numpy as np

from rl.normalize import CLIP, Moments, Stats, merge, normalise


def test_merging_batches_gives_the_statistics_of_all_samples():
    rng = np.random.default_rng(0)
    batches = [
        rng.normal(loc=[3.0, -500.0], scale=[0.5, 40.0], size=(200, 2)).astype(np.float32) for _ in range(5)
    ]
    stats = Stats.init((2,))
    for batch in batches:
        stats = merge(stats, Moments.of(stats.apply(jnp.asarray(batch))))
    everything = np.concatenate(batches)
    np.testing.assert_allclose(stats.mean, everything.mean(0), rtol=1e-3)
    np.testing.assert_allclose(stats.var, everything.var(0), rtol=2e-2)
    assert float(stats.count) > 999


def test_absent_aircraft_do_not_count_and_come_out_as_zero():
    rows = jnp.array([[1.0], [3.0], [1e6]])
    observation = {
        "aircraft": rows,
        "aircraft_mask": jnp.array([True, True, False]),
        "global_state": jnp.zeros(1),
    }
    stats = {"aircraft": Stats.init((1,)), "global_state": Stats.init((1,))}
    seen, moments = normalise(stats, observation)
    assert float(seen["aircraft"][2, 0]) == 0.0
    np.testing.assert_allclose(merge(stats["aircraft"], moments["aircraft"]).mean, [2.0], rtol=1e-3)
    assert float(moments["aircraft"].count) == 2.0


def test_no_samples_change_nothing():
    stats = Stats(mean=jnp.array([2.0]), var=jnp.array([5.0]), count=jnp.array(7.0))
    merged = merge(stats, Moments.of(jnp.ones((3, 1)), jnp.zeros(3, bool)))
    assert jax.tree.map(float, jax.tree.map(jnp.sum, merged)) == jax.tree.map(
        float, jax.tree.map(jnp.sum, stats)
    )


def test_features_are_clipped_and_cast_but_the_statistics_see_everything():
    stats = {"flat": Stats.init((1,))}
    seen, moments = normalise(stats, jnp.array([[50.0]]), jnp.bfloat16)
    assert seen.dtype == jnp.bfloat16
    assert float(seen[0, 0]) == CLIP
    np.testing.assert_allclose(moments["flat"].first, [50.0], rtol=1e-4)
