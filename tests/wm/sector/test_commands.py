"""Actions against the game's handling of the same commands (Pilot.js, AircraftModel.js), worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from wm.sector import commands
from wm.sector import traffic as tr
from wm.sector.commands import ALTITUDE, DIRECT, HEADING, ILS, SPEED
from wm.sector.route import next_fix

PLACE = scenes.airport()
LEVELS_FT = np.asarray(PLACE.levels_ft)
INTERCEPT_FT = 3600.0
apply = jax.jit(commands.apply)
decode = jax.jit(commands.decode)
legal_mask = jax.jit(commands.legal_mask)
are_legal = jax.jit(jax.vmap(commands.is_legal, (0, None)))
apply_each = jax.jit(jax.vmap(commands.apply, (None, 0, None)))


def action(slot: int, verb: int = 0, altitude: int = 0, heading: int = 0, speed: int = 0):
    return jnp.asarray([slot, verb, altitude, heading, speed], jnp.int32)


def changed(before: tr.Traffic, after: tr.Traffic) -> dict[str, np.ndarray]:
    """Fields that differ and, for each, which slots."""
    differ = {n: np.asarray(getattr(before, n) != getattr(after, n)) for n in tr.schema(tr.Traffic)}
    return {name: where for name, where in differ.items() if where.any()}


def one_slot_changed(before: tr.Traffic, after: tr.Traffic, slot: int) -> dict[str, float]:
    """New values of what changed, after checking that nothing else moved."""
    differ = changed(before, after)
    for name, where in differ.items():
        assert np.flatnonzero(where).tolist() == [slot], name
    return {name: np.asarray(getattr(after, name))[slot].item() for name in differ}


def test_sizes_of_the_space():
    assert commands.space_sizes(32) == (33, 5, 9, 7, 4)


def test_decode_reads_each_entry():
    aircraft = scenes.traffic(3, heading_rad=np.deg2rad([100.0, 30.0, 359.8]))
    command = decode(action(1, SPEED, 4, 0, 2), aircraft, PLACE)
    assert (command.slot, command.verb) == (1, SPEED)
    assert command.altitude_ft == 7000.0
    assert command.heading_deg == 300.0  # 30 - 90
    assert command.speed_kt == 260.0
    assert decode(action(3, SPEED), aircraft, PLACE).verb == -1


@pytest.mark.parametrize(
    ("heading_deg", "index", "expected_deg"),
    [
        (90.0, 0, 360),
        (90.4, 0, 360),
        (359.8, 3, 360),
        (0.0, 3, 360),
        (350.0, 5, 35),
        (10.0, 1, 325),
        (269.6, 6, 360),
    ],
)
def test_headings_are_whole_degrees_from_1_to_360(heading_deg, index, expected_deg):
    aircraft = scenes.traffic(1, heading_rad=np.deg2rad([heading_deg]))
    assert decode(action(0, HEADING, heading=index), aircraft, PLACE).heading_deg == expected_deg


def test_heading_0_is_held_as_0_radians():
    aircraft = scenes.traffic(1, heading_rad=np.deg2rad([90.0]))
    after = apply(aircraft, action(0, HEADING, heading=0), PLACE)
    assert abs(float(after.assigned_heading_rad[0])) < 1e-6


def test_altitude_command():
    aircraft = scenes.traffic(3, altitude_mode=tr.ALTITUDE_VNAV, expedite=True)
    after = apply(aircraft, action(1, ALTITUDE, altitude=3), PLACE)
    expected = {"assigned_altitude_ft": 6000.0, "altitude_mode": tr.MODE_HOLD, "expedite": False}
    assert one_slot_changed(aircraft, after, 1) == expected


def test_the_ceiling_is_left_through_the_top():
    after = apply(scenes.traffic(1), action(0, ALTITUDE, altitude=8), PLACE)
    assert after.assigned_altitude_ft[0] == 19001.0


def test_heading_command():
    aircraft = scenes.traffic(2, heading_rad=np.deg2rad([123.4, 200.0]), turn=1)
    after = apply(aircraft, action(0, HEADING, heading=4), PLACE)
    new = one_slot_changed(aircraft, after, 0)
    assert new.pop("assigned_heading_rad") == pytest.approx(np.deg2rad(143.0), abs=1e-5)
    assert new == {"heading_mode": tr.MODE_HOLD, "turn": 0}


def test_speed_command():
    aircraft = scenes.traffic(2, approach_clearance=True)
    after = apply(aircraft, action(1, SPEED, speed=0), PLACE)
    expected = {"assigned_speed_kt": 180.0, "speed_mode": tr.MODE_HOLD}
    assert one_slot_changed(aircraft, after, 1) == expected  # the approach clearance stays


def test_ils_command():
    aircraft = scenes.traffic(2)
    after = apply(aircraft, action(0, ILS), PLACE)
    expected = {
        "altitude_mode": tr.ALTITUDE_APPROACH,
        "heading_mode": tr.HEADING_LOCALIZER,
        "approach_clearance": True,
    }
    assert one_slot_changed(aircraft, after, 0) == expected


def test_direct_command_keeps_an_approach_clearance():
    aircraft = scenes.traffic(2, heading_mode=tr.MODE_HOLD, approach_clearance=True, leg=1, turn=-1)
    after = apply(aircraft, action(0, DIRECT), PLACE)
    assert one_slot_changed(aircraft, after, 0) == {"heading_mode": tr.HEADING_LNAV, "turn": 0}


def test_direct_skips_vectors():
    aircraft = scenes.traffic(1, route=scenes.VECTOR_ROUTE, leg=0, heading_mode=tr.MODE_HOLD)
    after = apply(aircraft, action(0, DIRECT), PLACE)
    assert one_slot_changed(aircraft, after, 0) == {"heading_mode": tr.HEADING_LNAV, "leg": 1}


def on_approach(altitude_ft: float, assigned_ft: float) -> tr.Traffic:
    return scenes.traffic(
        2,
        altitude_ft=altitude_ft,
        assigned_altitude_ft=assigned_ft,
        altitude_mode=tr.ALTITUDE_APPROACH,
        heading_mode=tr.HEADING_LOCALIZER,
        heading_rad=np.deg2rad(260.0),
        approach_clearance=True,
    )


@pytest.mark.parametrize(
    ("altitude_ft", "assigned_ft", "held_ft"),
    [
        (4399.0, 5000.0, 4300.0),  # below what was assigned: present altitude, down to 100 ft
        (4300.0, 5000.0, 4300.0),
        (5600.0, 5000.0, 5000.0),  # above it: what was assigned
        (2500.0, 5000.0, 3000.0),  # never below the lowest assignable altitude
    ],
)
def test_a_heading_cancels_the_approach(altitude_ft, assigned_ft, held_ft):
    aircraft = on_approach(altitude_ft, assigned_ft)
    after = apply(aircraft, action(0, HEADING, heading=3), PLACE)
    new = one_slot_changed(aircraft, after, 0)
    assert new.pop("assigned_heading_rad") == pytest.approx(np.deg2rad(260.0), abs=1e-5)
    expected = {
        "altitude_mode": tr.MODE_HOLD,
        "heading_mode": tr.MODE_HOLD,
        "speed_mode": tr.MODE_HOLD,
        "approach_clearance": False,
    }
    if held_ft != assigned_ft:
        expected["assigned_altitude_ft"] = held_ft
    assert new == expected


def test_an_altitude_cancels_the_approach_and_holds_the_present_heading():
    aircraft = on_approach(4399.0, 5000.0)
    after = apply(aircraft, action(1, ALTITUDE, altitude=3), PLACE)
    new = one_slot_changed(aircraft, after, 1)
    assert new.pop("assigned_heading_rad") == pytest.approx(np.deg2rad(260.0), abs=1e-5)
    assert new == {
        "assigned_altitude_ft": 6000.0,
        "altitude_mode": tr.MODE_HOLD,
        "heading_mode": tr.MODE_HOLD,
        "speed_mode": tr.MODE_HOLD,
        "approach_clearance": False,
    }


@pytest.mark.parametrize(("assigned_ft", "accepted"), [(3599.0, False), (3600.0, True), (19001.0, True)])
def test_ils_is_refused_below_the_intercept_altitude(assigned_ft, accepted):
    assert PLACE.runway_intercept_ft[scenes.RUNWAY_27L] == INTERCEPT_FT
    aircraft = scenes.traffic(1, assigned_altitude_ft=assigned_ft)
    assert bool(legal_mask(aircraft, PLACE)["verb"][0, ILS]) == accepted
    assert bool(changed(aircraft, apply(aircraft, action(0, ILS), PLACE))) == accepted


def test_ils_looks_at_the_aircrafts_own_runway():
    aircraft = scenes.traffic(
        3, runway=[scenes.RUNWAY_27L, scenes.RUNWAY_27R, -1], assigned_altitude_ft=3600.0
    )
    legal = legal_mask(aircraft, PLACE)["verb"][:, ILS]
    np.testing.assert_array_equal(legal, [True, False, False])  # 27R lies 50 ft higher: 3700 ft


def test_ils_is_for_arrivals():
    aircraft = scenes.traffic(3, category=[tr.ARRIVAL, tr.DEPARTURE, tr.OVERFLIGHT])
    np.testing.assert_array_equal(legal_mask(aircraft, PLACE)["verb"][:, ILS], [True, False, False])


def test_altitudes_stop_at_the_types_ceiling():
    aircraft = scenes.traffic(3, ceiling_ft=[10000.0, 9999.0, 2000.0])
    mask = legal_mask(aircraft, PLACE)
    np.testing.assert_array_equal(mask["altitude"][0], LEVELS_FT <= 10000)
    np.testing.assert_array_equal(mask["altitude"][1], LEVELS_FT <= 7000)
    assert not mask["altitude"][2].any()
    np.testing.assert_array_equal(mask["verb"][:, ALTITUDE], [True, True, False])


def test_speeds_stay_within_the_types_limits():
    aircraft = scenes.traffic(
        3, minimum_speed_kt=[180.0, 180.5, 34.0], maximum_speed_kt=[300.0, 299.5, 145.0]
    )
    mask = legal_mask(aircraft, PLACE)
    np.testing.assert_array_equal(mask["speed"][0], [True] * 4)
    np.testing.assert_array_equal(mask["speed"][1], [False, True, True, False])
    np.testing.assert_array_equal(mask["speed"][2], [False] * 4)
    np.testing.assert_array_equal(mask["verb"][:, SPEED], [True, True, False])


def test_direct_needs_a_fix_to_come():
    aircraft = scenes.traffic(5, route=[0, 0, 0, -1, 0], leg=[0, 2, 3, 0, -1])
    np.testing.assert_array_equal(next_fix(aircraft, PLACE), [0, 2, -1, -1, -1])
    expected = [True, True, False, False, False]
    np.testing.assert_array_equal(legal_mask(aircraft, PLACE)["verb"][:, DIRECT], expected)


def test_nobody_listens_before_contact():
    aircraft = scenes.traffic(4, controllable=[True, False])
    mask = legal_mask(aircraft, PLACE)
    np.testing.assert_array_equal(mask["aircraft"], [True, False, False, False, True])
    for name in ("verb", "altitude", "heading", "speed"):
        assert not np.asarray(mask[name])[1:].any(), name
    assert not changed(aircraft, apply(aircraft, action(1, HEADING), PLACE))
    assert not changed(aircraft, apply(aircraft, action(3, HEADING), PLACE))


@pytest.mark.parametrize("verb", range(5))
def test_the_noop_is_legal_and_changes_nothing(verb):
    aircraft = scenes.traffic(3, controllable=False)
    assert commands.is_legal(action(3, verb), legal_mask(aircraft, PLACE))
    aircraft = scenes.traffic(3)
    assert not changed(aircraft, apply(aircraft, action(3, verb), PLACE))


@pytest.fixture(scope="module")
def every_action():
    """All actions on four slots that differ in an entry which matters."""
    sizes = commands.space_sizes(4)
    return jnp.asarray(list(itertools.product(*(range(n) for n in sizes))), jnp.int32)


@pytest.mark.parametrize("seed", range(3))
def test_enumerated_actions_agree_with_the_mask(every_action, seed):
    """Legality worked out action by action from the game's rules, and illegal actions change nothing."""
    aircraft = scenes.random_traffic(np.random.default_rng(seed), 4)
    mask = legal_mask(aircraft, PLACE)
    legal = np.asarray(are_legal(every_action, mask))
    column = {name: np.asarray(getattr(aircraft, name)) for name in tr.schema(tr.Traffic)}

    def accepts(slot, verb, altitude, heading, speed):
        if slot == 4:
            return True
        a = {name: value[slot] for name, value in column.items()}
        if not (a["valid"] and a["controllable"]):
            return False
        if verb == ALTITUDE:
            return 3000 <= LEVELS_FT[altitude] <= a["ceiling_ft"]
        if verb == SPEED:
            kt = commands.SPEED_LEVELS_KT[speed]
            return a["minimum_speed_kt"] <= kt <= a["maximum_speed_kt"]
        if verb == ILS:
            intercept = {0: 3600, 1: 3700, 2: 3600}.get(int(a["runway"]), np.inf)
            return a["category"] == tr.ARRIVAL and a["assigned_altitude_ft"] >= intercept
        if verb == DIRECT:
            fixes = {0: [0, 1, 2], 1: [0, 1, 2], 2: [1]}.get(int(a["route"]), [])
            return a["leg"] >= 0 and any(f >= a["leg"] for f in fixes)
        return True

    expected = np.asarray([accepts(*map(int, a)) for a in every_action])
    np.testing.assert_array_equal(legal, expected)
    assert 0 < legal.mean() < 1
    after = apply_each(aircraft, every_action, PLACE)
    for name in tr.schema(tr.Traffic):
        moved = np.asarray(getattr(after, name)) != column[name]
        assert not moved[~legal].any(), name
        assert not moved[np.asarray(every_action)[:, 0] == 4].any(), name


def test_masks_agree_among_themselves():
    aircraft = scenes.random_traffic(np.random.default_rng(5), 32)
    mask = {name: np.asarray(value) for name, value in legal_mask(aircraft, PLACE).items()}
    np.testing.assert_array_equal(mask["aircraft"][:-1], mask["verb"].any(-1))
    for name, verb in (("altitude", ALTITUDE), ("heading", HEADING), ("speed", SPEED)):
        np.testing.assert_array_equal(mask[name].any(-1), mask["verb"][:, verb], err_msg=name)


def test_masks_and_decoding_are_batched_by_leading_dimensions():
    rng = np.random.default_rng(6)
    several = [scenes.random_traffic(rng, 6) for _ in range(3)]
    batch = jax.tree.map(lambda *xs: jnp.stack(xs), *several)
    actions = jnp.asarray(rng.integers(0, commands.space_sizes(6), (3, 5)), jnp.int32)
    masks, decoded = legal_mask(batch, PLACE), decode(actions, batch, PLACE)
    for i, aircraft in enumerate(several):
        alone = (legal_mask(aircraft, PLACE), decode(actions[i], aircraft, PLACE))
        among = jax.tree.map(lambda x, i=i: x[i], (masks, decoded))
        jax.tree.map(np.testing.assert_array_equal, alone, among)
