"""Answers of the real page, stored once, are read exactly; damaged ones are refused."""

import dataclasses

import numpy as np
import pytest

from collect import GameError
from collect.snapshot import parse
from wm.sector import traffic as tr


def test_first_answer_holds_the_whole_scene(stored_answer):
    snapshot = parse(stored_answer("kabq_start"))
    traffic = tr.from_table(tr.Traffic, snapshot.aircraft)
    assert snapshot.time_s == 0.0
    assert snapshot.score == 0
    assert snapshot.substeps.shape == (0, 0, 1 + len(tr.schema(tr.SubSteps)))
    assert sorted(snapshot.callsigns) == sorted(traffic.id.tolist())
    assert traffic.valid.all()
    assert np.isfinite(snapshot.aircraft).all()
    assert set(traffic.category) <= {tr.ARRIVAL, tr.DEPARTURE, tr.OVERFLIGHT}
    assert ((traffic.heading_rad >= 0) & (traffic.heading_rad < 2 * np.pi)).all()
    rolling = traffic.phase == tr.TAKEOFF
    assert rolling.any()
    assert (traffic.speed_kt[rolling] < 40).all()
    assert (traffic.queue_position == -1).all()
    assert (traffic.airborne_s == 0).all()


def test_routes_cover_every_aircraft(stored_answer):
    snapshot = parse(stored_answer("kabq_start"))
    traffic = tr.from_table(tr.Traffic, snapshot.aircraft)
    for route, leg in zip(traffic.route, traffic.leg, strict=True):
        assert leg < len(snapshot.routes[route]["waypoints"])
    fixes = [w for r in snapshot.routes for w in r["waypoints"] if w["vector_rad"] is None]
    assert fixes
    assert all(np.isfinite([w["x_nm"], w["y_nm"]]).all() for w in fixes)


def test_event_is_attributed_to_its_aircraft(stored_answer):
    first = parse(stored_answer("kabq_start"))
    snapshot = parse(stored_answer("kabq_event"), first.callsigns, first.routes)
    aircraft, code, frame = snapshot.events[0]
    traffic = tr.from_table(tr.Traffic, snapshot.aircraft)
    leaver = traffic.id.tolist().index(aircraft)
    assert tr.EVENT_NAMES[code] == "DEPARTURE"
    assert snapshot.points == snapshot.score == tr.EVENTS["DEPARTURE"]
    assert traffic.category[leaver] == tr.DEPARTURE
    assert traffic.removable[leaver]
    assert not traffic.controllable[leaver]
    # On the sub-steps it is controllable up to the frame of the event, and not from there on.
    row = np.flatnonzero(snapshot.substeps[0, :, 0] == aircraft)[0]
    controllable = 1 + list(tr.schema(tr.SubSteps)).index("controllable")
    seen = snapshot.substeps[:, row, controllable].astype(bool)
    assert seen.tolist() == [f < frame for f in range(tr.FRAMES_PER_STEP)]


def test_substeps_end_at_the_state(stored_answer):
    snapshot = parse(stored_answer("kabq_event"))
    traffic = tr.from_table(tr.Traffic, snapshot.aircraft)
    last = tr.from_table(tr.SubSteps, snapshot.substeps[-1, :, 1:])
    assert last.present.all()
    for name in ("x_nm", "y_nm", "altitude_ft", "heading_rad", "ground_track_rad", "phase"):
        np.testing.assert_array_equal(getattr(last, name), getattr(traffic, name))


def test_known_callsigns_and_routes_are_kept(stored_answer):
    first = parse(stored_answer("kabq_start"))
    later = parse(stored_answer("kabq_event"), first.callsigns, first.routes)
    assert first.callsigns.items() <= later.callsigns.items()
    assert later.routes[: len(first.routes)] == first.routes


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw.replace("\n", "", 1),
        lambda raw: raw.replace('"substeps":[0,0', '"substeps":[1,1'),
        lambda raw: "",
    ],
    ids=["cut", "joined", "wrong shape", "empty"],
)
def test_damaged_answers_are_refused(stored_answer, damage):
    with pytest.raises(GameError, match="open the game again"):
        parse(damage(stored_answer("kabq_start")))


def test_digests_tell_every_part_apart(stored_answer):
    snapshot = parse(stored_answer("kabq_event"))
    digests = snapshot.digests()
    assert digests == parse(stored_answer("kabq_event")).digests()
    names = {field.name for field in dataclasses.fields(snapshot)} - {"pictures", "picture_pages"}
    assert set(digests) == names
    table = snapshot.aircraft.copy()
    table[-1, -1] = np.nextafter(table[-1, -1], np.float32(np.inf))
    changes = {"aircraft": table, "log": (*snapshot.log, ("late", True)), "score": snapshot.score + 1}
    for name, value in changes.items():
        other = dataclasses.replace(snapshot, **{name: value}).digests()
        assert {part for part in digests if digests[part] != other[part]} == {name}
    assert dataclasses.replace(snapshot, pictures=(b"PNG",)).digests() == digests
