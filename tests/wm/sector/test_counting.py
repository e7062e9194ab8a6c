"""Losses of a step: the kernel in Pallas' interpreter against the loop over frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm import lowered
from wm.sector import counting, pair_kernel
from wm.sector import separation as sn
from wm.sector import traffic as tr

FRAMES = 10


def step_of(seed: int, slots: int, squeeze: float):
    """One sector's step of random flights, brought closer by `squeeze`: what `counting` counts."""
    rng, place = np.random.default_rng(seed), scenes.airport()
    t = scenes.random_traffic(rng, slots)
    t = t.replace(airborne_s=jnp.asarray(rng.uniform(0.0, 400.0, slots), jnp.float32))
    later = np.arange(1, FRAMES + 1)[:, None] * rng.uniform(0.01, 0.05)

    def moving(start, angle):
        place = np.asarray(start) + later * angle(np.asarray(t.ground_track_rad))
        return jnp.asarray(squeeze * place, jnp.float32)

    wide = lambda column: jnp.broadcast_to(column, (FRAMES, slots))  # noqa: E731
    sub = tr.SubSteps(
        x_nm=moving(t.x_nm, np.sin),
        y_nm=moving(t.y_nm, np.cos),
        altitude_ft=wide(4000.0 + squeeze * t.altitude_ft),
        heading_rad=wide(t.heading_rad),
        ground_track_rad=wide(t.ground_track_rad),
        phase=wide(jnp.asarray(rng.choice([tr.WAITING, *range(tr.WAITING + 1, len(tr.PHASES))], slots))),
        controllable=wide(jnp.asarray(rng.random(slots) < 0.7)),
        present=wide(jnp.asarray(rng.random(slots) < 0.9)),
    )
    apart = jnp.asarray(rng.integers(0, sn.SEPARATED_FRAMES + 1, (2, slots // 2, slots)), jnp.uint8)
    timers = sn.PairTimers(game=apart[0], raw=apart[1])
    return timers, jnp.asarray(rng.random(slots) < 0.9), t.airborne_s, sub, sn.pair_rule(t, place)


@pytest.mark.parametrize("slots", [32, 20, 5])
def test_the_kernel_counts_as_the_loop_over_frames(slots):
    """Sectors far apart, where nobody is near, and ever closer ones with many losses by both rules."""
    sectors = [step_of(seed, slots, squeeze) for seed, squeeze in enumerate((30.0, 1.0, 0.2, 0.1, 0.05))]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sectors)
    plain = jax.jit(jax.vmap(counting.count_frames))(*batch)
    kernel = pair_kernel.count(*batch, interpret=True)
    for one, other in zip(jax.tree.leaves(kernel), jax.tree.leaves(plain), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    game, raw = np.asarray(plain[0]), np.asarray(plain[1])
    assert raw[0] == 0
    if slots == 32:
        assert 0 < game.sum() < raw.sum()


def test_the_kernel_is_made_for_a_gpu():
    batch = jax.tree.map(lambda leaf: leaf[None], step_of(0, 32, 1.0))
    assert "triton" in lowered.for_a_gpu(pair_kernel.count, *batch)
