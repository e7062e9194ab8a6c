"""Scripted policies: legal always, and the expert's reactions on scenes built by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.wm.scenes as scenes
from rl import expert, scripted, sequence
from wm import commands, observe
from wm import traffic as tr
from wm.commands import ALTITUDE, DIRECT, HEADING, ILS, SPEED

SLOTS = 6
PLACE = scenes.airport()
LEVELS_FT = np.asarray(PLACE.levels_ft)
WEST_DEG = 270.0
observed = jax.jit(lambda traffic: observe.observe(scenes.scene(traffic, PLACE), PLACE))
is_legal = jax.jit(commands.is_legal)
POLICIES = {
    "noop": (scripted.noop(), None),
    "random": (scripted.random_legal(), scripted.RandomParams()),
    "busy": (scripted.random_legal(), scripted.RandomParams(noop_share=0.0)),
    "expert": (expert.expert(SLOTS), expert.ExpertParams()),
    "perturbed": (
        scripted.perturbed(expert.expert(SLOTS)),
        scripted.PerturbedParams(expert.ExpertParams(), epsilon=0.5),
    ),
}
ACT = {name: jax.jit(policy.act) for name, (policy, _) in POLICIES.items()}


def play(name: str, obs: dict, seed: int = 0, carry=None):
    """Action of a policy on one observation, from its first carry unless one is given."""
    policy, params = POLICIES[name]
    start, key = jax.random.split(jax.random.key(seed))
    carry = policy.init(start) if carry is None else carry
    return ACT[name](params, carry, obs, key)


def one(**columns) -> dict:
    """Observation of a single aircraft, or of as many as the columns' lists are long; steady flight."""
    filled = {name: value if np.ndim(value) else [value] for name, value in columns.items()}
    steady = {
        "target_altitude_ft": "altitude_ft",
        "target_heading_rad": "heading_rad",
        "target_speed_kt": "speed_kt",
        "assigned_heading_rad": "heading_rad",
        "ground_track_rad": "heading_rad",
        "ground_speed_kt": "speed_kt",
    }
    common = {"x_nm": [0.0], "climb_fpm": 2500.0, "descent_fpm": 3000.0, "decelerate_kt_s": 1.5}
    filled = common | filled
    filled |= {into: filled[of] for into, of in steady.items() if of in filled and into not in filled}
    return observed(scenes.traffic(SLOTS, **filled))


def verb_of(action) -> int:
    """The verb, or -1 for a no-op."""
    return -1 if int(action[0]) == SLOTS else int(action[1])


@pytest.mark.parametrize("name", POLICIES)
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_actions_are_legal_whatever_the_scene(name, seed):
    obs = observed(scenes.random_traffic(np.random.default_rng(seed), SLOTS))
    action, _ = play(name, obs, seed)
    assert action.shape == (5,)
    assert action.dtype == jnp.int32
    assert bool(is_legal(action, obs["action_mask"]))
    assert (np.asarray(action) < np.asarray(commands.space_sizes(SLOTS))).all()


@pytest.mark.parametrize("name", POLICIES)
def test_without_aircraft_nothing_is_commanded(name):
    empty = observed(tr.empty(tr.Traffic, (SLOTS,)))
    for seed in range(5):
        assert np.asarray(play(name, empty, seed)[0]).tolist() == [SLOTS, 0, 0, 0, 0]


def test_noop_never_commands():
    obs = observed(scenes.random_traffic(np.random.default_rng(3), SLOTS))
    assert obs["action_mask"]["aircraft"][:SLOTS].any()
    assert verb_of(play("noop", obs)[0]) == -1


def draws(params, obs, count: int = 4000) -> np.ndarray:
    keys = jax.random.split(jax.random.key(5), count)
    return np.asarray(jax.vmap(lambda key: scripted.random_legal().act(params, (), obs, key)[0])(keys))


def test_random_covers_every_aircraft_verb_and_legal_value():
    obs = observed(scenes.traffic(SLOTS, x_nm=[0.0, 5.0, 10.0], assigned_altitude_ft=5000.0))
    mask = jax.tree.map(np.asarray, obs["action_mask"])
    actions = draws(scripted.RandomParams(), obs)
    shares = np.bincount(actions[:, 0], minlength=SLOTS + 1) / len(actions)
    np.testing.assert_allclose(shares[[0, 1, 2, SLOTS]], 0.25, atol=0.03)
    commanded = actions[actions[:, 0] < SLOTS]
    assert set(commanded[:, 1]) == {ALTITUDE, HEADING, SPEED, ILS, DIRECT}
    for verb, name in enumerate(scripted.VALUES):
        used = commanded[commanded[:, 1] == verb]
        assert set(used[:, 2 + verb]) == set(np.flatnonzero(mask[name][0]))
        assert not used[:, [2 + v for v in range(3) if v != verb]].any()


def test_share_of_no_commands_is_as_asked():
    obs = observed(scenes.traffic(SLOTS, x_nm=[0.0, 5.0]))
    idle = draws(scripted.RandomParams(noop_share=0.8), obs)[:, 0] == SLOTS
    assert idle.mean() == pytest.approx(0.8, abs=0.03)
    assert not (draws(scripted.RandomParams(noop_share=0.0), obs)[:, 0] == SLOTS).any()


def test_perturbation_follows_epsilon():
    obs = one(x_nm=30.0, altitude_ft=9000.0, phase=tr.CLIMB, category=tr.DEPARTURE)
    right = np.asarray(play("expert", obs)[0])
    policy, _ = POLICIES["perturbed"]
    carry = policy.init(jax.random.key(0))

    def wrong(epsilon):
        params = scripted.PerturbedParams(expert.ExpertParams(), epsilon)
        keys = jax.random.split(jax.random.key(2), 500)
        actions = jax.vmap(lambda key: policy.act(params, carry, obs, key)[0])(keys)
        return (np.asarray(actions) != right).any(-1).mean()

    assert wrong(0.0) == 0.0
    assert wrong(0.5) == pytest.approx(0.5, abs=0.1)


def test_expert_descends_an_arrival_that_is_high():
    action, _ = play(
        "expert",
        one(
            x_nm=22.0,
            y_nm=9.0,
            altitude_ft=12000.0,
            speed_kt=180.0,
            speed_mode=tr.MODE_HOLD,
            assigned_speed_kt=180.0,
        ),
    )
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] < 9000.0


INTERCEPT = {
    "x_nm": 13.0,
    "y_nm": -1.5,  # left of a westerly runway's centreline, met from there on a north-westerly heading
    "altitude_ft": 3600.0,
    "assigned_altitude_ft": 3600.0,
    "heading_rad": np.deg2rad(WEST_DEG + 30.0),
    "heading_mode": tr.MODE_HOLD,
    "speed_kt": 180.0,
    "speed_mode": tr.MODE_HOLD,
    "assigned_speed_kt": 180.0,
}


def test_expert_clears_the_approach_in_the_window():
    action, _ = play("expert", one(**INTERCEPT))
    assert np.asarray(action)[:2].tolist() == [0, ILS]


@pytest.mark.parametrize(
    "change",
    [
        {"altitude_ft": 9000.0, "assigned_altitude_ft": 9000.0},  # would meet the glideslope from above
        {"heading_rad": np.deg2rad(WEST_DEG - 30.0)},  # flies away from the localiser
        {"x_nm": 5.0},  # too close to settle before the final approach fix
    ],
)
def test_expert_does_not_clear_an_approach_that_would_fail(change):
    assert verb_of(play("expert", one(**(INTERCEPT | change)))[0]) != ILS


@pytest.mark.parametrize(("other_nm", "verb"), [(14.5, HEADING), (20.0, ILS)])
def test_expert_clears_no_approach_beside_one_under_way(other_nm, verb):
    pair = INTERCEPT | {
        "x_nm": [13.0, other_nm],
        "y_nm": [-1.5, 0.0],
        "altitude_ft": [3600.0, 2600.0],
        "assigned_altitude_ft": [3600.0, 2600.0],
        "heading_rad": np.deg2rad([WEST_DEG + 30.0, WEST_DEG]),
        "heading_mode": [tr.MODE_HOLD, tr.HEADING_LOCALIZER],
        "approach_clearance": [False, True],
        "phase": tr.DESCENT,
    }
    assert verb_of(play("expert", one(**pair))[0]) == verb


@pytest.mark.parametrize(("others", "turns"), [(0, True), (1, False)])
def test_expert_lets_an_arrival_that_has_to_wait_fly_on(others, turns):
    downwind = INTERCEPT | {
        "x_nm": [14.0, 18.0][: 1 + others],
        "y_nm": [-6.0, 3.0][: 1 + others],
        "altitude_ft": [4600.0, 3600.0][: 1 + others],
        "assigned_altitude_ft": [4600.0, 3600.0][: 1 + others],
        "heading_rad": np.deg2rad([90.0, 240.0])[: 1 + others],
    }
    params = expert.ExpertParams()
    price, _, _ = expert.prices(params, sequence.remember(SLOTS), one(**downwind))
    heading = price[0, expert.HEADING_0 : expert.SPEED_0].min()
    assert (price[0, 0] - heading > params.command) == turns


def test_expert_raises_an_arrival_to_where_an_approach_can_be_cleared():
    low = {"altitude_ft": LEVELS_FT[0], "assigned_altitude_ft": LEVELS_FT[0]}
    obs = one(**(INTERCEPT | low))
    assert not obs["action_mask"]["verb"][0, ILS]
    action, _ = play("expert", obs)
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] >= INTERCEPT["altitude_ft"]


def test_expert_leaves_an_established_approach_alone():
    on_final = {
        "x_nm": 8.0,
        "y_nm": 0.0,
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": tr.HEADING_LOCALIZER,
        "altitude_mode": tr.ALTITUDE_APPROACH,
        "approach_clearance": True,
        "phase": tr.APPROACH,
    }
    assert verb_of(play("expert", one(**(INTERCEPT | on_final)))[0]) == -1


def test_expert_climbs_a_departure_that_was_held_down():
    action, _ = play(
        "expert",
        one(
            x_nm=-15.0,
            altitude_ft=7000.0,
            assigned_altitude_ft=7000.0,
            route=1,
            category=tr.DEPARTURE,
            phase=tr.CLIMB,
            airborne_s=300.0,
        ),
    )
    assert verb_of(action) == ALTITUDE
    assert LEVELS_FT[int(action[2])] > 7000.0


def test_expert_sends_a_departure_back_to_its_route():
    action, _ = play(
        "expert",
        one(
            x_nm=-15.0,
            altitude_ft=19000.0,
            assigned_altitude_ft=19000.0,
            route=1,
            leg=1,
            heading_mode=tr.MODE_HOLD,
            category=tr.DEPARTURE,
            phase=tr.CLIMB,
        ),
    )
    assert verb_of(action) == DIRECT


def test_expert_separates_a_head_on_pair():
    level = {"altitude_ft": [10000.0] * 2, "assigned_altitude_ft": [10000.0] * 2, "speed_kt": [250.0] * 2}
    pair = level | {
        "x_nm": [-5.0, 5.0],
        "y_nm": [20.0, 20.0],
        "heading_rad": [np.deg2rad(90.0), np.deg2rad(270.0)],
        "heading_mode": tr.MODE_HOLD,
        "category": tr.OVERFLIGHT,
        "phase": tr.CRUISE,
        "route": -1,
        "since_phase_s": 900.0,
    }
    obs = one(**pair)
    params = expert.ExpertParams()
    price, _, _ = expert.prices(params, sequence.remember(SLOTS), obs)
    assert price[0, 0] > 30.0  # doing nothing is expensive
    action, _ = play("expert", obs)
    assert verb_of(action) in (ALTITUDE, HEADING)
    apart = one(**(pair | {"y_nm": [20.0, 35.0]}))
    assert expert.prices(params, sequence.remember(SLOTS), apart)[0][0, 0] < 10.0


def test_two_arrivals_to_one_final_may_be_closer_than_others():
    trail = INTERCEPT | {
        "x_nm": [9.0, 12.7],
        "y_nm": [0.0, 0.0],
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": [tr.HEADING_LOCALIZER, tr.MODE_HOLD],
        "approach_clearance": [True, False],
        "phase": tr.DESCENT,
    }

    def worst(**change):
        obs = one(**(trail | change))
        view = expert.view(obs)
        return float(expert.severity(view, expert.fly(view), jnp.arange(SLOTS))[1, 0])

    assert worst() < worst(approach_clearance=False, heading_mode=tr.MODE_HOLD)
    assert worst(x_nm=[9.0, 11.8]) > 0.9  # but not closer than the separation minimum


def test_expert_spaces_the_later_of_two_arrivals():
    both = one(x_nm=[24.0, 25.0], y_nm=[9.0, -9.0], altitude_ft=[5000.0, 7000.0], heading_rad=[4.71, 4.71])
    view = expert.view(both)
    arrival, memory = expert.arrivals(expert.ExpertParams(), view, sequence.remember(SLOTS))
    first, second = np.asarray(arrival.place.due_s)[:2]
    assert first < second < sequence.FAR_S
    assert arrival.excess[0] <= 0.0 < arrival.excess[1]
    again, _ = expert.arrivals(expert.ExpertParams(), view, memory)
    np.testing.assert_array_equal(again.place.due_s, arrival.place.due_s)  # the place in the sequence is kept


def test_an_approach_cleared_far_out_does_not_go_before_the_first():
    pair = INTERCEPT | {
        "x_nm": [15.0, 19.0],
        "y_nm": [5.0, 0.0],
        "heading_rad": np.deg2rad(WEST_DEG),
        "heading_mode": [tr.MODE_HOLD, tr.HEADING_LOCALIZER],
        "approach_clearance": [False, True],
        "phase": tr.DESCENT,
    }
    params, memory = expert.ExpertParams(), sequence.remember(SLOTS)
    arrival, _ = expert.arrivals(params, expert.view(one(**pair)), memory)
    assert arrival.to_go[0] < arrival.to_go[1]
    assert arrival.place.wait_nm[0] <= 0.0 < arrival.place.wait_nm[1]
    close = one(**(pair | {"x_nm": [15.0, 12.0]}))
    arrival, _ = expert.arrivals(params, expert.view(close), memory)
    assert arrival.place.wait_nm[1] <= 0.0
    assert arrival.place.due_s[1] < 0.0 < arrival.place.due_s[0]


def test_arrivals_are_not_sent_out_through_the_ceiling():
    obs = one(x_nm=24.0, y_nm=9.0, altitude_ft=9000.0)
    price, _, _ = expert.prices(expert.ExpertParams(), sequence.remember(SLOTS), obs)
    top = expert.ALTITUDE_0 + int(np.argmax(LEVELS_FT))
    assert LEVELS_FT.max() == PLACE.ceiling_ft
    assert price[0, top] > price[0, 0] + 20.0


def test_expert_forgets_the_aircraft_that_left_a_slot():
    _, memory = play("expert", one(x_nm=24.0, y_nm=9.0))
    _, moved = play("expert", one(x_nm=-40.0, y_nm=9.0), carry=memory)
    assert memory.due_s[0] < sequence.FAR_S
    assert moved.due_s[0] > memory.due_s[0] + 60.0  # another aircraft, farther away


def test_inward_direction_is_found_from_two_margins():
    view = expert.view(one(x_nm=45.0, y_nm=30.0, heading_rad=0.0))
    at = jnp.full(SLOTS, 45.0), jnp.full(SLOTS, 29.7)
    memory = sequence.remember(SLOTS).replace(x=at[0], y=at[1], margin=jnp.full(SLOTS, 5.0))
    inward = expert._inward(view, memory)  # flying along the eastern edge: the margin stays
    np.testing.assert_allclose(np.asarray(inward)[0], [-1.0, 0.0], atol=0.02)


def test_policies_run_batched_and_repeat_themselves():
    rng = np.random.default_rng(11)
    scenes_ = [observed(scenes.random_traffic(rng, SLOTS)) for _ in range(4)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *scenes_)
    for name, (policy, params) in POLICIES.items():
        act = jax.jit(jax.vmap(policy.act, in_axes=(None, 0, 0, 0)))

        def run(seed, policy=policy, act=act, params=params):
            start, key = jax.random.split(jax.random.key(seed))
            carry = jax.vmap(policy.init)(jax.random.split(start, 4))
            return np.asarray(act(params, carry, batch, jax.random.split(key, 4))[0])

        np.testing.assert_array_equal(run(7), run(7), err_msg=name)
        assert run(7).shape == (4, 5)
