"""Foresight: scores by hand, windows with known events, a model asked about its own recording."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from tests.wm import recordings as rc
from wm.sector import commands, pairs
from wm.sector import traffic as tr
from wm.state import features, foresight
from wm.state import network as net

PLACE = rc.airport()


def test_area_under_the_curve_counts_ties_half():
    # Chances 0, 1/2, 1 (two plays): 3 quiet and 1 event at 0, 1 and 1 at 1/2, 0 and 2 at 1.
    counts = np.asarray([[3, 1], [1, 1], [0, 2]])
    # Of 16 pairs: events at 0 tie with three; at 1/2 beat three and tie with one; at 1 beat four each.
    assert foresight.auroc_of_counts(counts) == (1.5 + 3.5 + 8.0) / 16
    assert foresight.auroc_of_counts(np.stack([counts, counts])) == (1.5 + 3.5 + 8.0) / 16
    score = np.repeat([0.0, 0.0, 0.5, 0.5, 1.0], [3, 1, 1, 1, 2])
    label = np.repeat([False, True, False, True, True], [3, 1, 1, 1, 2])
    assert foresight.auroc(score, label) == (1.5 + 3.5 + 8.0) / 16
    assert np.isnan(foresight.auroc(score, np.ones(8, bool)))
    assert np.isnan(foresight.auroc_of_counts(np.asarray([[3, 0], [1, 0]])))


def test_calibration_leaves_out_what_nobody_foresaw_and_did_not_happen():
    counts = np.asarray([[1000, 2], [3, 1], [0, 4]])
    # At 0: 2 of 2 happened; at 1/2: 1 of 4; at 1: 4 of 4.
    np.testing.assert_allclose(foresight.calibration_error(counts), (2 * 1.0 + 4 * 0.25 + 0.0) / 10)
    assert foresight.calibration_error(np.asarray([[5, 0], [0, 0], [0, 5]])) == 0.0


def test_gaps_between_spawns_are_counted_in_mean_intervals():
    spawned = np.zeros((12, 2), bool)
    spawned[[1, 4, 11], 0] = True  # 15 s and 35 s
    spawned[[0, 10], 1] = True  # 50 s
    np.testing.assert_allclose(foresight.gaps(spawned, np.asarray([10.0, 100.0])), [1.5, 3.5, 0.5])


def test_a_pair_is_too_close_by_the_games_rule_only():
    old = {"airborne_s": [600.0] * 3, "phase": tr.CRUISE, "controllable": True}
    place = scenes.airport()
    t = scenes.traffic(
        4, x_nm=[20.0, 21.0, 20.0], y_nm=[20.0, 20.0, 22.0], altitude_ft=[9000.0, 9500.0, 11000.0],
        heading_rad=[0.0, 0.0, 0.0], ground_track_rad=[0.0, 0.0, 0.0], **old,
    )  # fmt: skip
    close = np.asarray(foresight.too_close(t, place))
    second = pairs.second_slot(4)
    found = {frozenset((n, int(second[d, n]))) for d, n in zip(*np.nonzero(close), strict=True)}
    assert found == {frozenset((0, 1))}  # 1 nm and 500 ft; the third is 1,500 ft above
    young = t.replace(airborne_s=jnp.full(4, 30.0))
    assert not np.any(foresight.too_close(young, place))


@pytest.fixture(scope="module")
def hour():
    """Three minutes of six aircraft; 2 lands after 100 s, 4 is handed off after 30 s; 5 is a departure."""
    actions = rc.idle(36)
    recording = rc.fly(rc.on_route(np.random.default_rng(0), PLACE), PLACE, actions)
    t = jax.tree.map(np.copy, recording.scene.traffic)
    events = np.copy(recording.events)
    t.category[:, 4:] = tr.DEPARTURE
    for column, step, name in ((2, 20, "ARRIVAL"), (4, 6, "DEPARTURE")):
        events[step, column, tr.EVENT_NAMES.index(name)] = True
        t.valid[step + 1 :, column] = False
        t.id[step + 1 :, column] = -1
    return dataclasses.replace(recording, scene=recording.scene.replace(traffic=t), events=events)


def test_questions_hold_what_happened_within_the_minute_after(hour):
    asked = foresight.questions(hour, PLACE, 12)
    np.testing.assert_array_equal(asked.start.time_s, hour.scene.time_s[[0, 12, 24]])
    np.testing.assert_array_equal(np.argwhere(asked.answer.landing), [[1, 2]])
    np.testing.assert_array_equal(np.argwhere(asked.answer.handoff), [[0, 4]])
    np.testing.assert_array_equal(asked.asked.landing[:, :6].sum(1), [4, 4, 3])
    np.testing.assert_array_equal(asked.asked.handoff[:, :6].sum(1), [2, 1, 1])
    # Pairs once each, of those in play: 15 of six, 10 of five, 6 of four.
    np.testing.assert_array_equal(asked.asked.loss.sum((1, 2)), [15, 10, 6])
    assert not asked.answer.loss.any()  # 1,500 ft apart


@pytest.fixture(scope="module")
def weights():
    """Two members that were never trained, but remove nobody."""
    scene = rc.on_route(np.random.default_rng(0), PLACE)
    seen = features.stack_features(features.dynamics_features(scene, PLACE))
    network = net.AutopilotNetwork(16, 1)
    weights = jax.vmap(lambda k: network.init(k, seen))(jax.random.split(jax.random.key(0), 2))
    heads = list(net.CATEGORICAL)
    stay = sum(net.CATEGORICAL[name] for name in heads[: heads.index("fate")]) + net.STAY
    bias = weights["params"]["heads"]["bias"]
    weights["params"]["heads"]["bias"] = bias.at[:, stay].set(50.0)
    return weights


def test_every_question_is_asked_once(hour, weights):
    asked = foresight.questions(hour, PLACE, 5)
    counts = foresight.foresee(weights, PLACE, asked, jax.random.key(1))
    for name, count in counts.items():
        assert count.shape == (2 * foresight.DRAWS + 1, 2)
        assert count.sum() == getattr(asked.asked, name).sum()
        happened = getattr(asked.answer, name) & getattr(asked.asked, name)
        assert count[:, 1].sum() == happened.sum()


def test_a_model_follows_its_own_recording_and_not_another(weights):
    actions = rc.idle(16)
    actions[2] = (1, commands.HEADING, 0, 5, 0)
    actions[4] = (3, commands.ALTITUDE, 1, 0, 0)
    one = jax.tree.map(lambda w: np.stack([w[0], w[0]]), weights)
    start = rc.on_route(np.random.default_rng(1), PLACE)
    own = rc.fly(start, PLACE, actions, decide=rc.by_network, weights=one)
    assert foresight.followed(one, PLACE, own).tolist() == [True, True]
    other = rc.fly(start, PLACE, actions)
    assert not foresight.followed(one, PLACE, other).all()


def test_members_that_are_alike_do_not_disagree(weights):
    recording = rc.fly(rc.on_route(np.random.default_rng(2), PLACE), PLACE, _all_commanded(16))
    same = jax.tree.map(lambda w: np.stack([w[0], w[0]]), weights)
    apart, error = foresight.disagreement(same, PLACE, recording, 12, 2)
    assert len(apart) == len(error) > 6
    np.testing.assert_allclose(apart, 0.0, atol=1e-5)
    different, _ = foresight.disagreement(weights, PLACE, recording, 12, 2)
    assert different.max() > 0.01


def _all_commanded(steps: int) -> np.ndarray:
    actions = rc.idle(steps)
    for step in range(6):
        actions[step] = (step, commands.HEADING, 0, 4, 0)
    return actions


def test_imagined_spawns_come_at_the_streams_rates():
    count = int(PLACE.stream_count)
    since = jnp.zeros(PLACE.stream_category.shape)
    spawned = foresight.imagined_spawns(PLACE, 1.0, since, 7200, 5, jax.random.key(2))
    assert spawned.shape == (5, 7200, len(since))
    assert not np.any(np.asarray(spawned)[..., count:])
    # 10 and 12 an hour; ten hours of five games give 500 and 600, with deviations of at most 14.
    counts = np.asarray(spawned).sum((0, 1))[:count]
    assert np.all(np.abs(counts - [500, 600]) < 4 * 14)
