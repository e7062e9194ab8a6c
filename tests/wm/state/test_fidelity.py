"""Fidelity: windows cut and judged by hand, a model against itself, and skill that is in the weights."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from configs.world_model import WorldModelConfig
from launch.shared import parallel
from tests.wm import recordings as rc
from wm.sector import commands
from wm.sector import traffic as tr
from wm.state import fidelity, fit, labels
from wm.state import network as net

PLACE = rc.airport()
STEPS = 12  # one minute


def windows_of(x, y, playing, **start):
    """Hand-made windows `[1, T, N]` of aircraft that start at their first position."""
    t = rc.rated(x.shape[2], **start)
    scene = rc.scenes.scene(jax.tree.map(lambda v: v[None], t), PLACE)
    everyone = np.ones((1, x.shape[2]), bool)
    return fidelity.Windows(
        start=scene, action=np.tile(rc.NOOP, (*x.shape[:2], 1)), x_nm=x, y_nm=y, altitude_ft=0 * x,
        playing=playing, considered=everyone,
    )  # fmt: skip


def test_constant_velocity_is_exact_for_straight_flight():
    speed, track = np.asarray([360.0, 240.0, 180.0]), np.deg2rad([90.0, 0.0, 225.0])
    seconds = tr.STEP_S * np.arange(1, STEPS + 1)[:, None]
    x = (np.asarray([1.0, 2.0, 3.0]) + speed / 3600 * seconds * np.sin(track))[None]
    y = (np.asarray([0.0, 5.0, -4.0]) + speed / 3600 * seconds * np.cos(track))[None]
    windows = windows_of(
        x, y, np.ones(x.shape, bool), x_nm=[1.0, 2.0, 3.0], y_nm=[0.0, 5.0, -4.0],
        ground_speed_kt=speed, ground_track_rad=track,
    )  # fmt: skip
    error = fidelity.errors_nm(windows, fidelity.constant_velocity(windows), STEPS)
    np.testing.assert_allclose(error, 0.0, atol=1e-5)
    # The first one flew 6 nm in the minute; a model that stands still is that far off.
    still = (np.broadcast_to(x[:, :1], x.shape), y, 0 * x, np.ones(x.shape, bool))
    np.testing.assert_allclose(fidelity.errors_nm(windows, still, STEPS)[0, 0], 5.5, atol=1e-5)


def test_leaving_more_than_ten_seconds_early_or_late_scores_ten_miles():
    real, model = (np.ones((1, STEPS, 6), bool) for _ in range(2))
    real[0, 4:, 1] = False  # leaves after 4 steps, and so it does in the model
    model[0, 4:, 1] = False
    real[0, 4:, 2], model[0, 6:, 2] = False, False  # 10 s late: in time
    real[0, 4:, 3], model[0, 7:, 3] = False, False  # 15 s late
    model[0, 4:, 4] = False  # the real one stays
    real[0, 9:, 5] = False  # the model's stays
    x = np.zeros((1, STEPS, 6))
    windows = windows_of(x, x, real)
    tracks = (x + 0.3, x + 0.4, x, model)
    error = fidelity.errors_nm(windows, tracks, STEPS)[0]
    np.testing.assert_allclose(error, [0.5, np.nan, np.nan, 10.0, 10.0, 10.0])
    # After 4 steps everybody is still there; what happens later does not matter.
    np.testing.assert_allclose(fidelity.errors_nm(windows, tracks, 4)[0], 0.5)
    summary = fidelity.summarise(error)
    assert summary["n"] == 4
    assert summary["removals_off"] == 0.75
    assert summary["over_1nm"] == 0.75
    np.testing.assert_allclose(summary["rmse"], np.sqrt((3 * 100 + 0.25) / 4))
    assert fidelity.summarise(np.asarray([np.nan]))["n"] == 0


def test_windows_hold_who_was_inside_and_who_was_commanded():
    actions = rc.idle(10)
    actions[1] = (2, commands.HEADING, 0, 4, 0)
    actions[6] = (4, commands.ALTITUDE, 3, 0, 0)
    recording = rc.fly(rc.on_route(np.random.default_rng(0), PLACE), PLACE, actions)
    traffic = jax.tree.map(np.copy, recording.scene.traffic)
    traffic.controllable[0, 5] = False
    traffic.valid[8:, 0] = False
    traffic.id[7:, 1] = 777  # the slot is another aircraft's from then on
    recording = dataclasses.replace(recording, scene=recording.scene.replace(traffic=traffic))
    windows = fidelity.cut_windows([recording], 4, 3)
    assert windows.action.shape == (3, 4, 5)  # from 0, 3 and 6
    np.testing.assert_array_equal(windows.considered[:, 5], [False, True, True])
    assert windows.considered[:, :5].all()
    np.testing.assert_array_equal(windows.commanded(4)[0], np.arange(6) == 2)
    np.testing.assert_array_equal(windows.commanded(4)[1], np.arange(6) == 4)
    assert not windows.commanded(3)[1].any()  # the command came in the fourth step
    np.testing.assert_array_equal(windows.x_nm[1], traffic.x_nm[4:8])
    np.testing.assert_array_equal(windows.playing[2, :, 0], [True, False, False, False])
    np.testing.assert_array_equal(windows.playing[1, :, 1], [True, True, True, False])
    np.testing.assert_array_equal(windows.start.time_s, [0.0, 15.0, 30.0])


CONFIG = WorldModelConfig(members=2, width=32, blocks=1, steps=900, inner=300, batch=192, learning_rate=4e-3)


@pytest.fixture(scope="module")
def trained():
    """(trained state, fresh state) of a small network on twelve minutes of six aircraft on zigzag routes."""
    flown = rc.cruise(24, steps=24, seed=100)
    parts = [labels.rows_of(r, PLACE) for r in flown]
    rows = fit.compact(labels.concatenate(parts))
    data = fit.Data(rows, np.zeros(len(rows.features), np.int32), np.ones((2, 1), np.float32))
    optimizer = fit.make_optimizer(CONFIG)
    init = jax.jit(lambda key: fit.initial_state(CONFIG, rows.features.shape[1], optimizer, key))
    update = partial(fit.update, config=CONFIG, optimizer=optimizer, axis_name=parallel.AXIS)
    run, state = parallel.wrap(update, "pmap", 1), parallel.replicate(init(jax.random.key(0)), 1)
    data = jax.tree.map(lambda x: np.asarray(x)[None], data)
    for call in range(CONFIG.steps // CONFIG.inner):
        state, data, _ = run(state, data, jax.random.split(jax.random.key(call + 1), 1), None)
    return jax.tree.map(np.asarray, (state.weights, init(jax.random.key(99)).weights))


def first_member(weights):
    return jax.tree.map(lambda w: np.stack([w[0], w[0]]), weights)


def test_a_model_that_made_the_recording_has_no_error(trained):
    weights = first_member(trained[0])
    rng = np.random.default_rng(5)
    actions = rc.idle(STEPS)
    actions[2] = (1, commands.HEADING, 0, 5, 0)
    starts = [rc.on_route(rng, PLACE) for _ in range(8)]
    flown = [rc.fly(s, PLACE, actions, decide=rc.by_network, weights=weights) for s in starts]
    windows = fidelity.cut_windows(flown, STEPS, STEPS)
    tracks = fidelity.imagine(weights, PLACE, windows.start, windows.action)
    error = fidelity.errors_nm(windows, tracks, STEPS)
    assert np.isfinite(error).mean() > 0.9
    np.testing.assert_allclose(error[np.isfinite(error)], 0.0, atol=2e-3)
    # One window as whole scenes: its start, then the same course.
    start = jax.tree.map(lambda leaf: leaf[3], windows.start)
    whole = fidelity.replay(weights, PLACE, start, windows.action[3]).traffic
    np.testing.assert_array_equal(whole.x_nm[0], start.traffic.x_nm)
    for moved, kept in zip((whole.x_nm, whole.y_nm, whole.altitude_ft), tracks, strict=False):
        np.testing.assert_allclose(np.where(whole.valid, moved, 0.0)[1:], kept[3], atol=0.05)


def test_the_skill_of_following_routes_is_in_the_weights(trained):
    weights, fresh = trained
    flown = rc.cruise(8, steps=STEPS, seed=900)
    windows = fidelity.cut_windows(flown, STEPS, STEPS)

    def error(tracks):
        errors = fidelity.errors_nm(windows, tracks, STEPS)[windows.considered]
        return float(np.nanmean(errors))

    yardstick = error(fidelity.constant_velocity(windows))
    model = error(fidelity.imagine(weights, PLACE, windows.start, windows.action))
    reinitialised = error(fidelity.imagine(fresh, PLACE, windows.start, windows.action))
    gain, left = yardstick - model, yardstick - reinitialised
    assert yardstick > 0.5  # nm in a minute: the routes do turn
    assert model < 0.3 * yardstick, (model, yardstick)
    assert left < 0.1 * gain, (reinitialised, model, yardstick)
    assert net.network_of(weights).width == CONFIG.width
