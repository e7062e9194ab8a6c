"""The viewer: its numbers are the recording's, what it shows in a browser, and that data never runs there."""

import base64
import dataclasses
import gzip
import itertools
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import tests.wm.scenes as scenes
from collect import GameError, dataset
from collect.browser import Browser
from configs.evaluation import EvaluationConfig
from configs.viewer import ViewerConfig
from launch import view
from launch.eval_wm import SHIPPED
from launch.shared import episodes, players
from launch.shared.records import RecordError
from launch.shared.viewer import flown, losses, page
from launch.shared.viewer.pack import pack
from wm.sector import traffic as tr

HOSTILE = "</script><img src=x onerror=document.title='run'>"
STEPS = 24
PLACE = scenes.airport()


@pytest.fixture(scope="module")
def recording():
    """An hour at KLAS, 22 aircraft at once in the mean."""
    return dataset.one(SHIPPED / "test", 1)


@pytest.fixture(scope="module")
def packed(recording):
    return pack(flown.of_recording(recording))


def decoded(packed: dict) -> dict[str, np.ndarray]:
    """The columns of a packed episode, as the format says and without the project's own code."""
    numbers = np.frombuffer(gzip.decompress(base64.b64decode(packed["block"])), "<u2")
    rows = numbers.reshape(len(packed["columns"]), packed["rows"]).astype(np.int64)
    spans = packed["columns"].items()
    return {
        name: low + step * (np.cumsum(row) % 65536)
        for (name, (low, step)), row in zip(spans, rows, strict=True)
    }


def test_the_size_on_record_is_of_a_whole_hour_with_many_aircraft(packed):
    with pytest.raises(RecordError, match=r"has 60 minutes and 2\d\.\d aircraft: choose"):
        view.figures(packed, 1)
    busy = packed | {"rows": 30 * (packed["steps"] + 1)}
    (figure,) = view.figures(busy, 212_345).values()
    assert (figure.value, figure.unit) == (0.212345, "MB")
    with pytest.raises(RecordError, match="has 55 minutes"):
        view.figures(busy | {"steps": 660}, 1)


def test_the_numbers_are_those_of_the_recording(recording, packed):
    columns, start = decoded(packed), 0
    traffic, places = recording.scene.traffic, {}
    for step, column in zip(*np.nonzero(traffic.valid), strict=True):
        places.setdefault(int(traffic.id[step, column]), []).append((step, column))
    assert {flight["id"] for flight in packed["flights"]} == set(places)
    for flight in packed["flights"]:
        step, column = np.asarray(places[flight["id"]]).T
        rows = slice(start, start + flight["count"])
        start += flight["count"]
        assert (flight["first"], flight["count"]) == (step[0], len(step))
        assert flight["callsign"] == recording.callsigns[flight["id"]]
        for name, within in {"x_nm": 0.005, "y_nm": 0.005, "altitude_ft": 0.5, "speed_kt": 0.05}.items():
            given = getattr(traffic, name)[step, column]
            np.testing.assert_allclose(columns[name][rows], given, rtol=0, atol=within + 1e-4)
        turned = np.deg2rad(columns["heading_deg"][rows]) - traffic.heading_rad[step, column]
        assert np.abs(np.sin(turned)).max() < 2e-4
        for name in ("phase", "runway", "leg"):
            np.testing.assert_array_equal(columns[name][rows], getattr(traffic, name)[step, column])
        np.testing.assert_array_equal(columns["flags"][rows] % 2, traffic.controllable[step, column])
    assert start == packed["rows"] == traffic.valid.sum()


def test_what_was_said_and_what_it_came_to_is_the_recording_s(recording, packed):
    assert [text for _, _, text in packed["commands"]] == [text for text in recording.command if text]
    names = recording.callsigns
    assert all(text.startswith(f"{names[who]} ") for _, who, text in packed["commands"])
    assert sum(points for *_, points in packed["events"]) == recording.score[-1] - recording.score[0]
    for name, values in recording.terms.items():
        assert sum(points for _, points in packed["terms"][name]) == values.sum()


def test_a_part_of_a_recording_begins_where_it_is_cut(recording, packed):
    part = pack(flown.of_recording(recording, first=300, steps=60))
    assert (part["steps"], part["begin_s"]) == (60, 1500.0)
    within = [[t - 300, *rest] for t, *rest in packed["commands"] if 300 <= t < 360]
    assert part["commands"] == within
    assert part["rows"] == recording.scene.traffic.valid[300:361].sum()


def meeting(altitude_ft: float):
    """Two aircraft 6.1 nm apart that fly towards each other at 250 kt each, the other one at an altitude."""
    times = np.arange(STEPS + 1)[:, None]
    empty = scenes.traffic(2, x_nm=[-3.05, 3.05], altitude_ft=[9000.0, altitude_ft], phase=tr.CRUISE)
    eastwards = np.deg2rad([90.0, 270.0]).astype(np.float32)
    still = empty.replace(heading_rad=eastwards, ground_track_rad=eastwards, controllable=np.ones(2, bool))
    rows = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], STEPS + 1, 0), still)
    flying = np.asarray(still.x_nm) + times * np.asarray([250.0, -250.0]) * tr.STEP_S / 3600.0
    age = np.broadcast_to(1000.0 + times * tr.STEP_S, flying.shape)
    return rows.replace(x_nm=flying.astype(np.float32), airborne_s=age.astype(np.float32))


def test_a_loss_begins_in_the_decision_in_which_three_miles_are_passed():
    # 3.1 nm at 500 kt are 22.3 s: the fifth decision, number 4. They meet after 43.9 s, 0.01 nm from a frame.
    (conflict,) = losses.conflicts(meeting(9000.0), PLACE)
    assert (conflict.first, conflict.one, conflict.other, conflict.exempt) == (4, 100, 101, False)
    assert conflict.nearest_nm == pytest.approx(0.01, abs=0.02)
    # 65.5 s after the start they are 3 nm apart again, in decision 13.
    assert conflict.last == 13
    assert losses.conflicts(meeting(10_000.0), PLACE) == []


def test_commands_of_the_model_are_read_off_the_panel():
    slots = scenes.traffic(2, phase=tr.CRUISE, controllable=True, assigned_altitude_ft=9000.0)
    changes = [
        {},
        {"assigned_altitude_ft": np.asarray([9000.0, 6000.0], np.float32)},
        {"assigned_speed_kt": np.asarray([180.0, -1.0], np.float32)},
        {"approach_clearance": np.asarray([False, True])},
    ]
    moments = [slots]
    for change in changes:
        moments.append(moments[-1].replace(**change))
    traffic = jax.tree.map(lambda *rows: np.stack([np.asarray(r) for r in rows]), *moments)
    ids = traffic.id[0].tolist()
    found = flown.commands_of(traffic, np.ones(len(changes), bool))
    assert found == [(1, ids[1], "a 60"), (2, ids[0], "sp 180"), (3, ids[1], "i")]
    assert flown.commands_of(traffic, np.zeros(len(changes), bool)) == []


def test_an_hour_of_thirty_aircraft_that_cannot_be_compressed_is_below_five_megabytes(recording):
    rng, shape = np.random.default_rng(0), (721, 30)
    noise = {name: rng.uniform(0, 300, shape).astype(np.float32) for name in ("x_nm", "y_nm", "speed_kt")}
    noise |= {name: rng.uniform(0, 6, shape).astype(np.float32) for name in ("heading_rad",)}
    noise |= {
        name: rng.uniform(0, 4e4, shape).astype(np.float32) for name in ("altitude_ft", "ground_speed_kt")
    }
    traffic = tr.empty(tr.Traffic, shape, np).replace(
        valid=np.ones(shape, bool), id=np.tile(np.arange(30, dtype=np.int32), (721, 1)),
        category=np.zeros(shape, np.int32), phase=np.zeros(shape, np.int32), **noise,
    )  # fmt: skip
    busy = dataclasses.replace(flown.of_recording(recording), traffic=traffic)
    assert len(page.page([pack(busy)])) < 5_000_000


@pytest.fixture(scope="module")
def made(recording, packed, tmp_path_factory):
    """A page of the hour beside itself, where one callsign is hostile and one altitude differs."""
    folder = tmp_path_factory.mktemp("view")
    names = {**recording.callsigns, 0: HOSTILE}
    hostile = dataclasses.replace(recording, callsigns=names)
    page.write([packed, pack(flown.of_recording(hostile, 0, 120))], folder / "page.html")
    return folder / "page.html"


def test_data_stays_inside_its_block(made):
    text = made.read_text()
    assert HOSTILE[:12] not in text.replace("</script>\n", "")
    assert text.count("<script") == text.count("</script>") == 2
    (held,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert json.loads(held)[1]["flights"][0]["callsign"] == HOSTILE


@pytest.fixture(scope="module")
def browser():
    try:
        found = Browser()
    except GameError as error:
        pytest.skip(str(error))
    yield found
    found.close()


class Opened:
    """A page in a file, opened in a browser; notes requests and whatever the console complains of."""

    def __init__(self, browser: Browser, path: Path, asked: str = ""):
        self.browser, self.requests, self.complaints = browser, [], []
        self.run(self._open(f"{path.as_uri()}{asked}"))

    async def _open(self, address: str):
        self.page = await self.browser.process.new_page(viewport={"width": 1200, "height": 800})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await self.page.goto(address)
        await self.page.wait_for_selector("body[data-ready]")

    def run(self, coroutine):
        return self.browser.run(coroutine, 30.0)

    def __getattr__(self, name):
        """Methods of Playwright's page, without the await."""
        return lambda *given, **options: self.run(getattr(self.page, name)(*given, **options))

    def press(self, *keys: str):
        for key in keys:
            self.run(self.page.keyboard.press(key))
        self.wait_for_timeout(60)  # some frames

    def clock_s(self) -> int:
        minutes, seconds = self.inner_text("#clock").split(":")[-2:]
        return 60 * int(minutes) + int(seconds)

    def fact(self, name: str) -> list[str]:
        rows = [row.split("\t") for row in self.inner_text("#facts").splitlines()]
        return next(cells for title, *cells in rows if title == name)


@pytest.fixture
def opened(browser, made):
    shown = Opened(browser, made)
    yield shown
    assert shown.requests == [made.as_uri()]
    assert shown.complaints == []
    shown.close()


def test_a_page_plays_scrubs_and_obeys_keys(opened):
    assert opened.clock_s() == 0
    opened.press(" ")
    opened.wait_for_timeout(600)  # at 20 times the game's speed
    opened.press(" ")
    reached = opened.clock_s()
    assert 2 <= reached < 600
    opened.wait_for_timeout(200)
    assert opened.clock_s() == reached
    opened.fill("#scrub", "1800")
    opened.press("ArrowRight", "Shift+ArrowRight", "ArrowLeft", "ArrowRight")
    assert opened.clock_s() == 1865
    assert opened.input_value("#speed") == "20"
    opened.press("+", "+", "-")
    assert opened.input_value("#speed") == "50"
    assert not opened.is_visible("#help")
    opened.press("?")
    assert opened.is_visible("#help")
    opened.press("Escape")
    assert not opened.is_visible("#help")
    opened.press("ArrowDown")
    first = opened.input_value("#pick")
    opened.press("ArrowDown")
    assert first
    assert opened.input_value("#pick") not in ("", first)
    opened.press("Home")
    assert opened.clock_s() == 0


def test_the_picked_aircraft_has_the_altitude_of_the_recording(opened, recording):
    traffic = recording.scene.traffic
    step = 100
    climbing = np.abs(traffic.altitude_ft[step + 1] - traffic.altitude_ft[step])
    column = int(np.argmax(np.where(traffic.valid[step] & traffic.valid[step + 1], climbing, 0)))
    assert climbing[column] > 50  # ft in a decision: another time would show
    name = recording.callsigns[int(traffic.id[step, column])]
    opened.select_option("#pick", name)
    opened.fill("#scrub", str(step * tr.STEP_S))
    opened.wait_for_timeout(60)
    altitude = f"{round(float(traffic.altitude_ft[step, column]))} ft"
    assert opened.fact("altitude") == [altitude, altitude]
    opened.fill("#scrub", str((step + 0.5) * tr.STEP_S))
    opened.wait_for_timeout(60)
    middle = traffic.altitude_ft[step : step + 2, column].mean()
    assert float(opened.fact("altitude")[0].split()[0]) == pytest.approx(middle, abs=1.0)
    opened.fill("#scrub", "3000")  # the shorter episode has ended
    opened.wait_for_timeout(60)
    assert opened.fact(name)[1] == "not there"


def test_a_click_on_the_timeline_goes_to_what_happened(opened, packed):
    step, who, event, _ = packed["events"][5]
    box = opened.eval_on_selector("canvas.timeline", "canvas => canvas.getBoundingClientRect().toJSON()")
    share = step * tr.STEP_S / 3600.0
    opened.run(opened.page.mouse.click(box["x"] + 66 + share * (box["width"] - 78), box["y"] + 20))
    opened.wait_for_timeout(60)
    assert opened.clock_s() == step * tr.STEP_S
    names = {flight["id"]: flight["callsign"] for flight in packed["flights"]}
    assert opened.input_value("#pick") == names[who]
    assert event.lower().replace("_", " ") in opened.inner_text("#log")


def test_a_hostile_callsign_is_shown_as_text(opened):
    opened.select_option("#pick", HOSTILE)
    opened.fill("#scrub", "600")
    opened.wait_for_timeout(60)
    assert HOSTILE in opened.inner_text("#facts")
    assert opened.query_selector("img") is None
    assert opened.title().startswith("KLAS real game")


def test_a_page_may_ask_nobody(browser, made):
    shown = Opened(browser, made)
    assert shown.evaluate("fetch('data:,x').then(() => 'went', () => 'refused')") == "refused"
    inserted = (
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
    )
    shown.evaluate(inserted)
    assert shown.evaluate("window.ran") is None
    shown.close()


def test_the_command_writes_a_page_and_a_picture(browser, tmp_path, capsys):
    data, out, picture = SHIPPED / "test", tmp_path / "new" / "view.html", tmp_path / "view.png"
    view.main(["--data", str(data), "--out", str(out), "--picture", str(picture), "--at", "900"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"{out}: 0." in capsys.readouterr().out
    assert "KABQ real game, expert, seed 600500" in out.read_text()


def test_a_moving_picture_moves(browser, made, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "FRAMES", 3)
    page.moving_picture(made, tmp_path / "new" / "view.gif", 900.0, 60.0, zoom=1.1)
    with Image.open(tmp_path / "new" / "view.gif") as moving:
        shown = []
        for frame in range(moving.n_frames):
            moving.seek(frame)
            shown.append(np.asarray(moving.convert("RGB")).astype(int))
    assert len(shown) == 3
    assert shown[0].shape == (page.PICTURE_PX[1] // 2, page.PICTURE_PX[0] // 2, 3)
    assert all(np.abs(b - a).max() > 50 for a, b in itertools.pairwise(shown))


def board(*titles: str) -> dict:
    """Episodes of two seeds, the first of which have kept something to show."""
    return {title: {7: {"view": {"title": title}}, 8: {"return": {}}} for title in titles}


@pytest.mark.parametrize(
    ("boards", "titles"),
    [
        ({"real": board("noop", "expert", "policy")}, ["expert", "policy"]),
        ({"real": board("noop", "expert"), "imagined": board("noop", "expert")}, ["expert", "expert"]),
        ({"real": board("noop")}, ["noop"]),
        ({"real": {"noop": {7: {"fault": "no such fleet"}}}}, None),
    ],
)
def test_an_evaluation_shows_one_policy_in_two_worlds_or_two_policies(boards, titles, tmp_path):
    assert page.compare(boards, 7, tmp_path / "view.html") == (titles is not None)
    if titles:
        (held,) = re.findall(r'id="data">(.*?)</script>', (tmp_path / "view.html").read_text(), re.S)
        assert [one["title"] for one in json.loads(held)] == titles
    assert not page.compare(boards, 8, tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


@pytest.mark.slow
def test_an_imagined_episode_keeps_its_tracks_and_the_model_s_doubts():
    config = EvaluationConfig(policies=("noop",), where="model", airport="klas", minutes=2)
    player = players.make("noop", 32)
    played = dict(episodes.model_world(config).play(player, [600_000, 600_001], lambda decisions: None))
    assert "view" not in played[600_001]
    kept = played[600_000]["view"]
    assert (kept["title"], kept["steps"]) == ("KLAS world model, noop, seed 600000", 24)
    columns, start = decoded(kept), np.cumsum([0, *(flight["count"] for flight in kept["flights"])])
    assert 0 < columns["disagreement"].max() < 2
    # The picture holds the same flights, every third decision.
    drawn = [flight for flight in played[600_000]["picture"]["flights"] if len(flight["step"]) > 5]
    assert len(drawn) > 2
    for flight in drawn:
        xy = np.asarray(flight["xy_nm"])
        near = [
            np.abs(columns["x_nm"][rows] - xy[:, 0]).max() + np.abs(columns["y_nm"][rows] - xy[:, 1]).max()
            for first, about in zip(start, kept["flights"], strict=False)
            if (rows := first + np.asarray(flight["step"]) - about["first"]).max() < first + about["count"]
            and rows.min() >= first
        ]
        assert min(near) < 0.03


def test_commands_to_aircraft_that_came_later_are_left_out():
    ids = np.asarray([[4, 5, -1], [4, 6, 7], [4, 6, 7]])
    actions = np.asarray([[1, 1, 0, 2, 0], [1, 0, 3, 0, 0]], np.int32)
    np.testing.assert_array_equal(view.to_known(actions, ids), [[1, 1, 0, 2, 0], [3, 0, 0, 0, 0]])
    idle = np.asarray([[3, 0, 0, 0, 0]] * 2, np.int32)
    np.testing.assert_array_equal(view.to_known(idle, ids), idle)


@pytest.mark.slow
def test_the_model_flies_a_recorded_minute_beside_it(recording):
    config = ViewerConfig(data=SHIPPED / "test", episode=1, imagine=20.0, minutes=1.0)
    real, model = view.imagined(config, recording)
    assert len(model.traffic.valid) == len(real.traffic.valid) == 13
    assert real.begin_s == model.begin_s == 1200.0
    both = real.traffic.valid & model.traffic.valid & (real.traffic.id == model.traffic.id)
    assert both[-1].sum() > 10
    apart = np.hypot(real.traffic.x_nm - model.traffic.x_nm, real.traffic.y_nm - model.traffic.y_nm)
    assert apart[0][both[0]].max() == 0
    assert np.median(apart[-1][both[-1]]) < 0.05
    assert 0 < model.disagreement.max() < 3
    assert pack(model)["map"]["routes"]


def test_an_evaluated_episode_is_shown_from_its_file(packed, tmp_path):
    cached = tmp_path / "600000.json"
    cached.write_text(json.dumps({"policy": "expert", "view": packed}))
    both = view.shown(ViewerConfig(data=cached, beside=SHIPPED / "test", beside_episode=0))
    assert both[0] == packed
    assert both[1]["title"] == "KABQ real game, expert, seed 600500"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nothing_here"], "nothing_here holds no recordings"),
        (["--data", str(SHIPPED / "test"), "--episode", "2"], "has 2 episodes, no episode 2: choose 0 to 1"),
        (["--data", "{cached}"], "cached.json holds no tracks"),
        (
            ["--data", str(SHIPPED / "test"), "--imagine", "60"],
            "imagine is 60, must be less than the episode's 60",
        ),
        (["--data", "a", "--beside", "b", "--imagine", "1"], "give beside or imagine, not both"),
        (["--data", "a", "--zoom", "0"], "zoom is 0.0, must be more than 0"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    (tmp_path / "cached.json").write_text("{}")
    arguments = [text.format(cached=tmp_path / "cached.json") for text in arguments]
    with pytest.raises(SystemExit):
        view.main([*arguments, "--out", str(tmp_path / "view.html")])
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
