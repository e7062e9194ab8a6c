"""The kernel's loop over frames against jax.lax.scan, in Pallas' interpreter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm.recordings import decision
from wm.state import fused
from wm.state import kinematics as kn

FRAMES = 3
SLOTS = 8


def body(carry, constants, frame):
    """Every kind of column: floats, integers, flags, a scalar and the frame's number."""
    moving = jnp.where(carry["up"], carry["x"] + constants["rate"], carry["x"] - constants["shared"])
    carry = {"x": moving, "up": (frame + constants["step"]) % 2 == 0, "n": carry["n"] + frame}
    return carry, {"x": moving, "up": carry["up"]}


def columns(shape):
    keys = jax.random.split(jax.random.key(0), 4)
    carry = {
        "x": jax.random.normal(keys[0], shape),
        "up": jax.random.bernoulli(keys[1], shape=shape),
        "n": jnp.arange(np.prod(shape)).reshape(shape),
    }
    constants = {
        "rate": jax.random.normal(keys[2], shape),
        "step": jax.random.randint(keys[3], shape, 0, 5),
    }
    return carry, constants


def both(carry, constants):
    constants = jax.tree.map(lambda x: jnp.broadcast_to(x, carry["x"].shape), constants)
    return (
        fused.scan_in_kernel(body, carry, constants, FRAMES, interpret=True),
        fused.scan_frames(body, carry, constants, FRAMES),
    )


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("slots", [32, 5, fused.BLOCK + 1])
def test_the_kernel_equals_the_scan_for_any_number_of_aircraft(slots):
    carry, constants = columns((slots,))
    assert_same(*both(carry, constants | {"shared": jnp.float32(0.25)}))


def test_a_batch_of_sectors_becomes_one_launch_and_equals_the_scan():
    carry, constants = columns((6, 48))
    constants["shared"] = jnp.broadcast_to(jnp.arange(6.0)[:, None], (6, 48))
    one, other = jax.vmap(both)(carry, constants)
    assert_same(one, other)
    kernel = partial(fused.scan_in_kernel, body, frames=FRAMES)
    jaxpr = str(jax.make_jaxpr(jax.vmap(kernel))(carry, constants))
    assert jaxpr.count("pallas_call[") == 1
    assert "grid=(3,)" in jaxpr  # 288 aircraft in blocks of 128


def test_the_gpu_kernel_moves_aircraft_as_the_scan_does(monkeypatch):
    rng, place = np.random.default_rng(8), scenes.airport()
    sectors = [scenes.random_traffic(rng, SLOTS) for _ in range(4)]
    guides = [
        decision(
            t,
            heading=rng.integers(len(kn.HEADING_GUIDES), size=SLOTS),
            altitude=rng.integers(len(kn.ALTITUDE_GUIDES), size=SLOTS),
            speed=rng.integers(len(kn.SPEED_GUIDES), size=SLOTS),
            leg_frame=rng.integers(11, size=SLOTS),
        ).guidance
        for t in sectors
    ]
    winds = [scenes.scene(t, place, wind_speed_kt=jnp.float32(5.0 * i)) for i, t in enumerate(sectors)]
    scene, guide = (jax.tree.map(lambda *x: jnp.stack(x), *parts) for parts in (winds, guides))
    batched = jax.vmap(kn.advance, (0, 0, None))
    scanned = jax.jit(batched)(scene, guide, place)

    def in_kernel(body, carry, constants, frames):
        constants = jax.tree.map(lambda x: jnp.broadcast_to(x, (SLOTS,)), constants)
        return fused.scan_in_kernel(body, carry, constants, frames, interpret=True)

    monkeypatch.setattr(fused, "scan_frames", in_kernel)
    launched = jax.jit(lambda *x: batched(*x))(scene, guide, place)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), launched, scanned)
