"""The schema: every field described, tables that come back as they went, defaults for empty slots."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import tests.wm.scenes as scenes
from collect import dataset
from wm.sector import traffic as tr

STRUCTS = (tr.Traffic, tr.SubSteps, tr.Runways)
UNITS = ("_nm", "_ft", "_rad", "_kt", "_s", "_fpm", "_kt_s")


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_names_its_place_in_the_game(struct):
    fields = tr.schema(struct)
    assert list(fields) == [f.name for f in dataclasses.fields(struct)]
    for name, spec in fields.items():
        assert isinstance(spec["source"], str), name
        assert spec["source"].strip(), name
        assert spec["source"].count("(") == spec["source"].count(")"), name


@pytest.mark.parametrize("struct", STRUCTS)
def test_real_numbers_carry_their_unit_and_nothing_else_does(struct):
    for name, spec in tr.schema(struct).items():
        assert spec["dtype"] in ("float32", "int32", "bool"), name
        assert name.endswith(UNITS) == (spec["dtype"] == "float32"), name


def test_lengths_are_converted_from_the_games_kilometres():
    for struct in (tr.Traffic, tr.SubSteps):
        for name in ("x_nm", "y_nm"):
            assert tr.schema(struct)[name]["source"].endswith(f"/ {tr.KM_PER_NM}")


@pytest.mark.parametrize("struct", STRUCTS)
def test_empty_holds_the_defaults(struct):
    value = tr.empty(struct, (3, 2), np)
    for name, spec in tr.schema(struct).items():
        column = getattr(value, name)
        assert column.shape == (3, 2)
        assert column.dtype == np.dtype(spec["dtype"])
        assert np.all(column == np.asarray(spec["default"], spec["dtype"]))


def test_an_empty_slot_is_nobody():
    slot = tr.empty(tr.Traffic, ())
    assert not slot.valid
    assert not slot.controllable
    for name in ("id", "category", "phase", "runway", "route", "leg", "stream"):
        assert getattr(slot, name) == -1, name
    for name in ("assigned_altitude_ft", "assigned_heading_rad", "assigned_speed_kt", "airborne_s"):
        assert getattr(slot, name) == -1.0, name


@pytest.mark.parametrize("xp", [np, jnp])
def test_tables_come_back_as_they_went(xp):
    before = scenes.random_traffic(np.random.default_rng(0), 12)
    table = tr.to_table(before, xp)
    assert table.shape == (12, len(tr.schema(tr.Traffic)))
    assert table.dtype == np.float32
    after = tr.from_table(tr.Traffic, np.asarray(table))
    for name in tr.schema(tr.Traffic):
        old, new = np.asarray(getattr(before, name)), getattr(after, name)
        assert old.dtype == new.dtype, name
        np.testing.assert_array_equal(old, new, err_msg=name)


@pytest.mark.parametrize("struct", STRUCTS)
@pytest.mark.parametrize("more", [-1, 1])
def test_a_table_of_another_width_is_refused(struct, more):
    width = len(tr.schema(struct))
    with pytest.raises(ValueError, match=rf"has {width} fields, the table {width + more} columns") as error:
        tr.from_table(struct, np.zeros((4, width + more), np.float32))
    assert str(error.value).endswith("make it again with this one")
    fits = tr.from_table(struct, np.zeros((4, width), np.float32))
    assert {getattr(fits, name).shape for name in tr.schema(struct)} == {(4,)}


def test_an_older_recording_gets_the_defaults_of_the_fields_that_were_added_since():
    """Columns by name, the last field unknown to the recorder, another one of a field since removed."""
    known = scenes.random_traffic(np.random.default_rng(0), 12)
    *names, added = tr.schema(tr.Traffic)
    stored = {name: np.asarray(getattr(known, name)) for name in names} | {"gone": np.zeros(12)}
    read = dataset._struct(tr.Traffic, stored, 12)
    for name in names:
        np.testing.assert_array_equal(getattr(read, name), stored[name], err_msg=name)
    np.testing.assert_array_equal(getattr(read, added), tr.schema(tr.Traffic)[added]["default"])


def test_codes_follow_the_names():
    assert tr.CATEGORIES[tr.OVERFLIGHT] == "overflight"
    assert [tr.PHASES[p] for p in (tr.WAITING, tr.TAKEOFF, tr.HOLDING, tr.LANDING)] == [
        "WAITING",
        "TAKEOFF",
        "HOLD",
        "LANDING",
    ]
    assert tr.ALTITUDE_MODES[tr.ALTITUDE_APPROACH] == "APPROACH"
    assert tr.ALTITUDE_MODES[tr.ALTITUDE_VNAV] == "VNAV"
    assert tr.HEADING_MODES[tr.HEADING_LNAV] == "LNAV"
    assert tr.HEADING_MODES[tr.HEADING_LOCALIZER] == "VOR_LOC"
    assert tr.SPEED_MODES[tr.SPEED_N1] == "N1"
    assert tr.SPEED_MODES[tr.SPEED_VNAV] == "VNAV"
    for modes in (tr.ALTITUDE_MODES, tr.HEADING_MODES, tr.SPEED_MODES):
        assert modes[tr.MODE_OFF] == "OFF"
        assert modes[tr.MODE_HOLD] == "HOLD"


def test_points_stand_beside_their_events():
    points = dict(zip(tr.EVENT_NAMES, tr.EVENT_POINTS, strict=True))
    assert points["ARRIVAL"] == points["DEPARTURE"] == 10
    assert points["COLLISION"] == -1000
    assert points["AIRSPACE_BUST"] == points["SEPARATION_LOSS"] == -200
    assert points["NOT_CLEARED_ON_ROUTE"] == -25


def test_a_decision_is_ten_frames_of_half_a_second():
    assert (tr.FRAME_S, tr.FRAMES_PER_STEP, tr.STEP_S) == (0.5, 10, 5.0)
