"""Solvers on a problem whose answer is known: Gaussian data, where the ideal denoiser has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wm.cosmos.sampling import solvers

MEAN, DEVIATION = 1.5, 0.6
NOISE = np.linspace(-2.5, 2.5, 11, dtype=np.float32)[:, None]


def ideal(rectified):
    """Mean of the clean x given a noisy one."""

    def denoise(x, level, fall, key):
        del fall, key
        signal = 1 - level if rectified else 1.0
        total = (signal * DEVIATION) ** 2 + level**2
        return MEAN + signal * DEVIATION**2 / total * (x - signal * MEAN)

    return denoise


def answer(levels, rectified):
    """Where the sampling equation leads: the state keeps its distance from the mean in deviations."""
    top = levels[0]
    signal = 1 - top if rectified else 1.0
    start = NOISE if rectified else NOISE * np.float32(top)
    deviations = (start - signal * MEAN) / np.sqrt((signal * DEVIATION) ** 2 + top**2)
    return start, MEAN + DEVIATION * deviations


def error(levels, solver, rectified=True):
    start, wanted = answer(levels, rectified)
    drawn = solvers.solve(ideal(rectified), jnp.asarray(start), levels, jax.random.key(0), solver, rectified)
    return float(np.abs(drawn - wanted).max())


@pytest.mark.parametrize(("solver", "allowed"), [("euler", 0.03), ("unipc", 0.003)])
def test_solvers_come_as_near_as_their_steps_allow(solver, allowed):
    assert error(solvers.shifted_levels(200, 3.0), solver) < allowed
    assert error(solvers.karras_levels(200), solver, rectified=False) < allowed


def test_euler_is_of_first_and_unipc_of_higher_order():
    euler = [error(solvers.even_levels(steps), "euler") for steps in (40, 80)]
    unipc = [error(solvers.even_levels(steps), "unipc") for steps in (40, 80)]
    assert euler[0] / euler[1] == pytest.approx(2.0, rel=0.15)
    assert unipc[0] / unipc[1] > 3.0
    assert unipc[0] < euler[0] / 10


def test_one_step_is_the_denoised_clip():
    start, _ = answer(solvers.even_levels(1), True)
    for solver in ("euler", "unipc"):
        drawn = solvers.solve(
            ideal(True), jnp.asarray(start), solvers.even_levels(1), jax.random.key(0), solver
        )
        np.testing.assert_allclose(drawn, MEAN, atol=1e-6)


def test_denoisers_are_told_level_and_step():
    seen = []

    def denoise(x, level, fall, key):
        jax.debug.callback(lambda *pair: seen.append(tuple(map(float, pair))), level, fall, ordered=True)
        return x

    solvers.solve(denoise, jnp.zeros(1), np.array([1.0, 0.7, 0.1, 0.0]), jax.random.key(0), "euler")
    jax.effects_barrier()
    np.testing.assert_allclose(seen, [(1.0, 0.3), (0.7, 0.6), (0.1, 0.1)], rtol=1e-5)


@pytest.mark.parametrize(
    "levels",
    [
        solvers.shifted_levels(10, 5.0),
        solvers.even_levels(4),
        solvers.karras_levels(10),
        solvers.to_flow(solvers.karras_levels(10, 0.01, 200.0)),
    ],
)
def test_schedules_fall_to_zero(levels):
    assert (np.diff(levels) < 0).all()
    assert levels[-1] == 0.0


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_a_state_that_is_clean_stays(solver):
    levels = solvers.shifted_levels(7, 5.0)
    rows = (
        solvers.euler_coefficients(levels) if solver == "euler" else solvers.unipc_coefficients(levels, True)
    )
    # With every denoised clip equal to c and no noise, x = (1 - s) c at every level.
    for i, (correct, predict) in enumerate(rows):
        now = 1 - levels[i]
        before = 1 - levels[max(i - 1, 0)]
        clean = np.ones(3)
        assert correct @ [now, before, *clean] == pytest.approx(now, abs=1e-5)
        assert predict @ [now, now, *clean] == pytest.approx(1 - levels[i + 1], abs=1e-5)
