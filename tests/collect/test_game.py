"""The real page repeats exactly, accounts for every point, and says what is wrong."""

import hashlib
import json
import os
import re
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

import collect
from collect import GameError
from collect.browser import Browser, BrowserLost
from collect.game import Game, PlainGame, traffic_rates, wind_setting
from collect.page import Page
from collect.pictures import View
from collect.server import Server
from launch.shared.processes import family, kind
from wm.sector import traffic as tr

DATA = Path(collect.__file__).parent / "data"
DECISIONS = 60  # five minutes; launch.check_game repeats full hours


def scripted_commands(game: Game):
    """A command to some controllable aircraft every third decision."""
    verbs = ("fh 180", "d 80", "sp 220", "dct nowhere", "fh 090", "i {}", "d 70")
    for step in range(DECISIONS):
        traffic = tr.from_table(tr.Traffic, game.snapshot.aircraft)
        reachable = traffic.id[traffic.controllable]
        if step % 3 or not len(reachable):
            yield None
            continue
        callsign = game.snapshot.callsigns[int(reachable[step % len(reachable)])]
        verb = verbs[step // 3 % len(verbs)].format(game.static["arrival_runway"])
        yield f"{callsign} {verb}"


def digest(game: Game, change: bool = False) -> str:
    """Hash of every field, event and log line of a short episode."""
    state = hashlib.sha256()
    for step, command in enumerate(scripted_commands(game)):
        snapshot = game.step("" if change and step == DECISIONS // 2 else command)
        state.update(repr(snapshot.digests()).encode())
    return state.hexdigest()


@pytest.mark.openscope
@pytest.mark.slow
def test_equal_seeds_and_commands_repeat_in_fresh_browsers(browser):
    with Game(airport="klas", seed=5) as game:
        first = digest(game)
    # A second page is open in the same browser and is played at the same time.
    with Game(airport="kabq", seed=1, browser=browser) as other:
        other.step()
        with Game(airport="klas", seed=5, browser=browser, view=View(256)) as game:
            other.step()
            assert digest(game) == first
            game.reset(seed=5)
            assert digest(game, change=True) != first
            game.reset(seed=6)
            assert digest(game) != first


@pytest.mark.openscope
@pytest.mark.slow
def test_what_idles_changes_nothing_that_counts(browser):
    """The same with the game's own getters, strips, clock and drawing; launch.check_game plays full hours."""
    with PlainGame(airport="klas", seed=5, browser=browser) as plain:
        with pytest.raises(GameError, match="no picture"):
            plain.step(pictures=1)
        expected = digest(plain)
    with Game(airport="klas", seed=5, browser=browser) as game:
        assert digest(game) == expected


def test_a_plain_game_takes_no_pictures():
    with pytest.raises(GameError, match="plain game takes no pictures"):
        PlainGame(view=View(64))


@pytest.mark.openscope
def test_points_of_the_events_sum_to_the_page_s_score(browser):
    with Game(airport="ksea", seed=2, browser=browser) as game:
        total, kinds = 0.0, set()
        for _ in range(150):
            snapshot = game.step()
            total += snapshot.points
            kinds |= set(snapshot.events[:, 1].tolist())
            assert total == snapshot.score
            assert (snapshot.events[:, 0] >= 0).all()
    assert total != 0
    assert len(kinds) >= 2


@pytest.mark.openscope
def test_clock_traffic_and_wind(browser):
    with Game(airport="kabq", seed=3, traffic={"arrival": 2.0}, wind=(180, 20), browser=browser) as game:
        assert game.snapshot.wind_speed_kt == 20
        assert game.snapshot.wind_from_rad == pytest.approx(np.pi)
        before = tr.from_table(tr.Traffic, game.snapshot.aircraft)
        after = tr.from_table(tr.Traffic, game.step().aircraft)
        assert game.snapshot.time_s == tr.STEP_S
        steady = (before.speed_kt == after.speed_kt) & (before.phase == tr.CRUISE)
        assert steady.sum() > 2
        moved = np.hypot(after.x_nm - before.x_nm, after.y_nm - before.y_nm)
        flown = (before.ground_speed_kt + after.ground_speed_kt) / 2 * tr.STEP_S / 3600
        np.testing.assert_allclose(moved[steady], flown[steady], rtol=0.03)
        np.testing.assert_allclose(after.since_spawn_s - before.since_spawn_s, tr.STEP_S)


@pytest.mark.openscope
def test_a_command_acts_and_a_refused_one_is_reported(browser):
    with Game(airport="klas", seed=4, browser=browser) as game:
        while True:
            traffic = tr.from_table(tr.Traffic, game.step().aircraft)
            flying = traffic.controllable & (traffic.phase > tr.TAKEOFF)
            if flying.any():
                break
        index = int(np.flatnonzero(flying)[0])
        callsign = game.snapshot.callsigns[int(traffic.id[index])]
        snapshot = game.step(f"{callsign} fh 123")
        assert snapshot.refusals == ()
        traffic = tr.from_table(tr.Traffic, snapshot.aircraft)
        assert traffic.heading_mode[index] == tr.MODE_HOLD
        assert np.rad2deg(traffic.assigned_heading_rad[index]) == pytest.approx(123)
        assert game.step(f"{callsign} sp 900").refusals
        assert game.step("NOBODY1 fh 123").refusals


@pytest.mark.openscope
def test_picture_is_a_square_png_and_shows_motion(browser):
    def decode(data):
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

    with Game(airport="kabq", seed=1, view=View(300), browser=browser) as game:
        first = decode(game.step(pictures=1).picture)
        for _ in range(5):
            game.step()
        assert game.snapshot.picture is None
        later = decode(game.step(pictures=1).picture)
    assert first.shape == (300, 300, 3)
    assert 0 < (first != later).any(-1).mean() < 0.3
    assert first.std() > 5


@pytest.mark.openscope
def test_stored_answers_are_those_of_this_game(browser, stored_answer):
    with Game(airport="kabq", seed=11, browser=browser) as game:
        header = json.loads(stored_answer("kabq_start").split("\n")[0])
        assert list(game.snapshot.aircraft.shape) == header["aircraft"]
        assert game.static == json.loads((DATA / "kabq_static.json").read_text())


@pytest.mark.openscope
def test_unknown_and_disabled_airports_are_named(browser):
    with pytest.raises(GameError, match=r'"zzzz" is unknown .* choose one of .*kabq'):
        Game(airport="zzzz", browser=browser).__enter__()
    with pytest.raises(GameError, match='"egll" is disabled'):
        Game(airport="egll", browser=browser).__enter__()


@pytest.mark.openscope
def test_other_pages_and_dead_addresses_are_refused(browser):
    with pytest.raises(GameError, match=r"not reachable .* set OPENSCOPE_URL"):
        Game("http://127.0.0.1:9/", browser=browser).__enter__()
    with pytest.raises(GameError, match=r'game within 2 s \(".*localStorage.*"\): set OPENSCOPE_URL'):
        # such a page has no storage, which is an error
        Game(Server("data:text/html,<p>hello", wait_s=2), seed=7, browser=browser).__enter__()
    asset = f"{os.environ['OPENSCOPE_URL']}/assets/changelog.json"
    with pytest.raises(GameError, match=r"did not become an openScope game within 1 s: set OPENSCOPE_URL"):
        Game(Server(asset, wait_s=1), browser=browser).__enter__()


@pytest.mark.openscope
def test_a_game_that_lacks_a_field_is_refused_by_name(browser, monkeypatch):
    schema = tr.schema

    def renamed(struct_class):
        fields = schema(struct_class)
        if struct_class is tr.Traffic:
            fields["speed_kt"] = {**fields["speed_kt"], "source": "a.airspeed"}
        return fields

    monkeypatch.setattr(tr, "schema", renamed)
    with pytest.raises(GameError, match=r"lacks speed_kt \(a\.airspeed\)"):
        Game(browser=browser).__enter__()


@pytest.mark.openscope
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("delete window.aircraftController._stripViewController", "controller._stripViewController.update"),
        ("document.getElementById('score-log').remove()", "#score-log"),
        ("delete prop.aircraft.list[0].fms._routeModel", "aircraft.fms._routeModel.getFullRouteString"),
        ("prop.aircraft.list[0].positionModel._magneticNorth = undefined", "positionModel._magneticNorth"),
    ],
)
def test_a_game_of_another_shape_is_refused_by_name(browser, monkeypatch, change, missing):
    until_ready = Page._until_ready

    async def changed(page, episode):
        await until_ready(page, episode)
        await page.evaluate(f"() => {{ {change} }}")

    monkeypatch.setattr(Page, "_until_ready", changed)
    with pytest.raises(GameError, match=f"this version of the game lacks .*{re.escape(missing)}"):
        Game(browser=browser).__enter__()


@pytest.mark.openscope
def test_a_killed_browser_is_reported_and_the_game_opens_again():
    with Browser() as own:
        with Game(browser=own) as game:
            own.kill()
            with pytest.raises(GameError, match="open the game again"):
                game.step()
        with pytest.raises(GameError):
            Game(browser=own).__enter__()
    with Game() as game:
        assert game.step().time_s == tr.STEP_S


@pytest.mark.openscope
def test_a_page_that_hangs_is_ended():
    with Game() as game:
        game.step_timeout_s = 1.0
        game._run(game.page.evaluate("() => { openscopeBridge.step = () => { for (;;); } }"), 5.0)
        with pytest.raises(GameError, match="did not answer within 1 s"):
            game.step()
        assert game._browser.lost


@pytest.mark.openscope
def test_a_page_that_crashes_is_reported():
    with Game() as game:
        pages = [folder for folder in family(game._browser.pid) if kind(folder) == "page"]
        for folder in pages:
            os.kill(int(folder.name), signal.SIGKILL)
        with pytest.raises(BrowserLost, match="has crashed"):
            game.step()
        assert game._browser.lost


@pytest.mark.parametrize("traffic", [1.3, -1, 11, {"gliders": 1.0}])
def test_traffic_the_sliders_do_not_have(traffic):
    with pytest.raises(GameError, match="must be"):
        traffic_rates(traffic)


@pytest.mark.parametrize("wind", [(0, 5), (15, 5), (180, 26), (180, 2.5)])
def test_wind_the_sliders_do_not_have(wind):
    with pytest.raises(GameError, match="must be"):
        wind_setting(wind)


def test_unchanged_traffic_leaves_the_sliders_alone():
    assert traffic_rates(1.0) is None
    assert traffic_rates(1.5) == dict.fromkeys(tr.CATEGORIES, 1.5)
    assert wind_setting(None) is None


def test_frames_must_divide_the_decision():
    with pytest.raises(GameError, match="divide 5 s"):
        Game(frame_s=0.3)
    assert Game(frame_s=0.25).frames == 20
