"""Recorded departures: what steers them from their release on needs no earlier target."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collect import dataset
from wm.sector import traffic as tr
from wm.state import kinematics as kn
from wm.state import labels
from wm.state import network as net

SHIPPED = Path(dataset.__file__).parent / "data" / "shipped" / "test"
ROLL_STEPS = 3  # decisions of a take-off run that are looked at, from the release on


@pytest.fixture(scope="module")
def release():
    """(recording cut to a departure's release and run, airport, the departure's column)."""
    recording = next(e for e in dataset.load([SHIPPED], "test") if e.icao == "klas")
    t = recording.scene.traffic
    starts = (t.phase[:-1] == tr.WAITING) & (t.phase[1:] == tr.TAKEOFF) & (t.id[:-1] == t.id[1:])
    step, column = (int(found[0]) for found in np.nonzero(starts))
    scene = jax.tree.map(lambda x: x[step : step + ROLL_STEPS + 1], recording.scene)
    cut = slice(step, step + ROLL_STEPS)
    short = dataclasses.replace(
        recording, scene=scene, action=recording.action[cut], events=recording.events[cut]
    )
    airport, (short,) = labels.airport_of([short])
    return short, airport, column


@pytest.fixture(scope="module")
def guides(release):
    """Label `[T]` of each axis for the departure."""
    recording, airport, column = release
    rows, _ = labels._episode_rows(recording.scene, recording.action, recording.events, airport)
    return {axis: np.asarray(rows.labels[axis])[:, column] for axis in net.GUIDES}


def test_no_step_of_the_run_keeps_a_target(guides):
    named = {axis: {net.GUIDES[axis][i] for i in guide} for axis, guide in guides.items()}
    assert named == {"heading": {"straight"}, "altitude": {"level"}, "speed": {"lowest"}}


def test_a_departure_with_wrong_targets_runs_as_the_recorded_one(release, guides):
    recording, airport, column = release
    before, after = (jax.tree.map(lambda x, i=i: x[i], recording.scene) for i in (1, 2))
    t = before.traffic
    wrong = {"target_heading_rad": 1.0, "target_altitude_ft": 0.0, "target_speed_kt": 0.0}
    columns = {name: jnp.asarray(getattr(t, name)).at[column].set(value) for name, value in wrong.items()}
    zero = jnp.zeros(t.valid.shape, jnp.int32)
    chosen = {axis: kn.Axis(zero, zero + int(guide[1]), zero) for axis, guide in guides.items()}
    guidance = kn.Guidance(
        **chosen,
        free_altitude_ft=t.altitude_ft,
        free_speed_kt=t.speed_kt,
        leg_frame=zero + net.NEVER,
        phase=t.phase,
        phase_frame=zero + net.NEVER,
    )
    moved = kn.advance(before.replace(traffic=t.replace(**columns)), guidance, airport)[0].traffic
    assert after.traffic.speed_kt[column] > t.speed_kt[column] + 5.0
    for name, tolerance in {"speed_kt": 0.01, "altitude_ft": 0.1, "x_nm": 2e-4, "y_nm": 2e-4}.items():
        off = getattr(moved, name)[column] - getattr(after.traffic, name)[column]
        assert abs(float(off)) < tolerance, name
