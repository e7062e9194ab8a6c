"""Losses: what is drawn, what is weighed, and that they vanish for a network that is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wm.cosmos.training import edm, flow, shortcut
from wm.cosmos.training.edm import PREDICT1, PREDICT2
from wm.cosmos.training.flow import FlowConfig
from wm.cosmos.training.shortcut import ShortcutConfig

SHAPE = (4, 3, 2, 4, 5)
GIVEN = jnp.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], jnp.float32)
CLIP = 0.8  # every clip of these tests is this everywhere, so that the right velocity follows from the state


def clips():
    return jnp.full(SHAPE, CLIP)


def keys(seed, count=SHAPE[0]):
    return jax.random.split(jax.random.key(seed), count)


def right(noisy, times, condition_mask, steps=None):
    """Velocity of the straight line that a state lies on; elsewhere nonsense where frames are given."""
    t = times[:, None, None, None, None]
    return jnp.where(condition_mask[:, :, None, None, None] > 0, 1e3, (noisy - CLIP) / t)


def test_times_are_logit_normal_and_shifted():
    config = FlowConfig(high_noise_share=0.0)
    times = flow.draw_times(keys(0, 20_000), config)
    # The median of a logit-normal is 1/2; shift 5 moves it to 5/6.
    assert jnp.median(times) == pytest.approx(5 / 6, abs=0.01)
    normal = jnp.log(times / 5 / (1 - times))
    assert jnp.std(normal) == pytest.approx(1.0, abs=0.03)


def test_a_share_of_the_times_is_from_the_highest_noise():
    share = 0.3
    config = FlowConfig(shift=1.0, high_noise_share=share, high_noise_from=0.98)
    times = flow.draw_times(keys(0, 20_000), config)
    usual = 1 - 0.99995  # of the others, next to none are so high
    assert (times >= 0.98).mean() == pytest.approx(share, abs=0.01 + usual)
    high = times[times >= 0.98]
    assert high.mean() == pytest.approx(0.99, abs=0.001)


def test_loss_vanishes_for_the_right_velocity_and_ignores_given_frames():
    losses = flow.losses(right, clips(), GIVEN, keys(1), FlowConfig())
    assert losses.shape == (SHAPE[0],)
    assert (losses < 1e-6).all()


def test_loss_is_the_squared_error_of_the_velocity():
    off = lambda *arguments: right(*arguments) + 0.5  # noqa: E731
    np.testing.assert_allclose(flow.losses(off, clips(), GIVEN, keys(1), FlowConfig()), 0.25, rtol=1e-3)


def test_a_sample_does_not_depend_on_the_others_in_its_batch():
    wrong = lambda noisy, times, mask: jnp.sin(3 * noisy) * times[:, None, None, None, None]  # noqa: E731
    whole = flow.losses(wrong, clips(), GIVEN, keys(2), FlowConfig())
    half = flow.losses(wrong, clips()[2:], GIVEN[2:], keys(2)[2:], FlowConfig())
    np.testing.assert_allclose(whole[2:], half, rtol=1e-5)


def test_the_network_sees_given_frames_clean_and_their_own_time():
    seen = {}

    def network(noisy, times, condition_mask):
        seen.update(noisy=noisy, times=times)
        return noisy

    flow.losses(network, clips(), GIVEN, keys(3), FlowConfig(condition_time=0.125))
    assert (seen["noisy"][0, 0] == CLIP).all()
    assert (seen["noisy"][0, 1] != CLIP).any()
    np.testing.assert_array_equal(seen["times"] == 0.125, GIVEN > 0)
    flow.losses(network, clips(), GIVEN, keys(3), FlowConfig())
    assert seen["times"].shape == (SHAPE[0],)


@pytest.mark.parametrize("config", [PREDICT1, PREDICT2])
def test_edm_scales_keep_input_and_target_of_unit_size(config):
    sigma = jnp.geomspace(0.01, 80.0, 20)
    skip, out, into, time = edm.scales(config.kind, sigma)
    assert jnp.isfinite(time).all()
    # The best guess of pure noise and of a clean clip: x nothing, and x itself.
    assert skip[0] == pytest.approx(1.0, abs=0.02)
    assert skip[-1] == pytest.approx(0.0, abs=0.02)
    assert (into * jnp.sqrt(sigma**2 + config.sigma_data**2) <= 1.0 + 1e-5).all()
    assert (jnp.abs(out) <= 1.0).all()


@pytest.mark.parametrize("config", [PREDICT1, PREDICT2])
def test_edm_loss_vanishes_for_the_right_answer_and_is_even_over_noise(config):
    known = CLIP * config.sigma_data

    def answer(error):
        def network(scaled, times, condition_mask):
            times = times if times.ndim == 2 else jnp.broadcast_to(times[:, None], condition_mask.shape)
            time = times[:, :, None, None, None]
            sigma = time / (1 - time) if config.kind == "rectified" else jnp.exp(4 * time)
            skip, out, into, _ = edm.scales(config.kind, sigma)
            return (known - skip * scaled / into) / out + error

        return network

    losses = edm.losses(answer(0.0), clips(), GIVEN, keys(4), config)
    assert (losses < 1e-4).all()
    np.testing.assert_allclose(
        edm.losses(answer(0.5), clips(), GIVEN, keys(4), config), 0.25, rtol=0.02, atol=1e-4
    )


def test_sigma_grows_with_the_length_of_clips():
    short, long = (edm.draw_sigmas(keys(5, 100), frames, PREDICT2) for frames in (4, 16))
    np.testing.assert_allclose(long, 2 * short, rtol=1e-5)
    assert jnp.median(edm.draw_sigmas(keys(6, 20_000), 1, PREDICT2)) == pytest.approx(4.0, rel=0.05)


def test_steps_lie_on_their_grid():
    config = ShortcutConfig(doublings=4)
    steps, times = shortcut.draw_steps(keys(7, 2000), config)
    assert set(np.unique(steps)) == {1.0, 0.5, 0.25, 0.125}
    np.testing.assert_array_equal(times / steps, jnp.round(times / steps))
    assert (times >= steps).all()
    assert (times <= 1).all()


def test_shortcut_loss_vanishes_for_straight_lines():
    # One clip: every path is a straight line, and one step of any size is right.
    losses = shortcut.losses(right, right, clips(), GIVEN, keys(8), ShortcutConfig(share=0.5))
    assert (losses < 1e-6).all()


def test_shortcut_target_is_the_mean_of_two_halves():
    target = lambda noisy, times, mask, steps: (  # noqa: E731
        jnp.ones_like(noisy) * (times + 10 * steps)[:, None, None, None, None]
    )
    noisy, times, steps = jnp.zeros(SHAPE), jnp.full(4, 0.5), jnp.full(4, 0.25)
    halves = shortcut._two_halves(target, noisy, times, GIVEN, steps, ShortcutConfig())
    np.testing.assert_allclose(halves, ((0.5 + 1.25) + (0.375 + 1.25)) / 2, rtol=1e-6)
    smallest = shortcut._two_halves(target, noisy, times, GIVEN, steps, ShortcutConfig(doublings=3))
    np.testing.assert_allclose(smallest, (0.5 + 0.375) / 2, rtol=1e-6)  # halves of the flow itself


def test_no_gradient_flows_into_the_target():
    def loss(own, other):
        network = lambda x, t, mask, steps: own * right(x, t, mask)  # noqa: E731
        target = lambda x, t, mask, steps: other * right(x, t, mask)  # noqa: E731
        return shortcut.losses(network, target, clips(), GIVEN, keys(9), ShortcutConfig(share=0.9)).sum()

    own, other = jax.grad(loss, (0, 1))(1.1, 0.9)
    assert own != 0
    assert other == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FlowConfig(shift=0.0), "shift is"),
        (lambda: FlowConfig(high_noise_share=1.5), "high_noise_share is"),
        (lambda: ShortcutConfig(share=1.0), "share is"),
        (lambda: ShortcutConfig(doublings=0), "doublings is"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
