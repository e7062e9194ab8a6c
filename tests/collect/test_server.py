"""Servers that are merely unusual are played; of the others the error says what is wrong with them."""

import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from relays import serve

from collect import GameError, airports, page
from collect.browser import Browser, BrowserLost
from collect.game import Game
from collect.server import Server, host
from launch.shared.processes import family, kind
from wm.sector import traffic as tr

LIST = b'[{"icao": "KABQ", "name": "Albuquerque", "level": "easy"}]'


@pytest.fixture
def game_url():
    """Address of the real game."""
    return os.environ["OPENSCOPE_URL"]


@pytest.fixture
def certificate(tmp_path):
    """A key and a certificate for this machine that it signed itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    path = tmp_path / "server.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key -out server.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "key").read_text())
    return path


def play(server, browser) -> Game:
    """One decision of the game at a server; returns the game, which is closed."""
    with Game(server, seed=3, browser=browser) as game:
        assert game.step().time_s == tr.STEP_S
        game.address, game.moved = game.page.address, game.page.moved
    return game


@pytest.mark.openscope
@pytest.mark.parametrize("spelling", ["LOCALHOST", "127.1"])
def test_an_address_in_another_spelling_is_the_same(browser, game_url, spelling):
    with serve(game=game_url) as relay:
        played = play(relay.address(spelling), browser)
    assert not played.moved


@pytest.mark.openscope
@pytest.mark.parametrize("how", ["by the server", "by the page"])
def test_a_redirect_to_another_host_is_followed_and_told(browser, game_url, how):
    with serve(game=game_url) as there:
        goal = f"{there.address('localhost')}/"
        leave = f'<meta http-equiv="refresh" content="0; url={goal}">'.encode()
        way = {"leads_to": goal} if how == "by the server" else {"pages": {"/": leave}}
        with serve(**way) as here:
            played = play(here.address(), browser)
    assert played.moved
    assert played.address == goal


@pytest.mark.openscope
def test_a_game_below_a_path_is_played(browser, game_url):
    with serve(game=game_url, prefix="/openscope") as relay:
        played = play(relay.address(), browser)
        assert len(airports.enabled(relay.address())) > 60
    assert not played.moved
    assert played.address.endswith("/openscope/")


@pytest.mark.openscope
def test_other_hosts_are_asked_for_nothing(browser, game_url):
    with serve() as other, serve(game=game_url) as relay:
        whole = relay.answer("/")[2]
        relay.pages["/"] = whole.replace(b"<body", f'<img src="{other.address()}/x"><body'.encode(), 1)
        assert b"/x" in relay.pages["/"]
        play(relay.address(), browser)
    assert other.asked == []


@pytest.mark.openscope
def test_a_redirect_to_what_is_no_game_names_both_addresses(browser):
    with serve(pages={"/login": b"<p>Who are you?"}) as other:
        goal = f"{other.address('localhost')}/login"
        with (
            serve(leads_to=goal) as relay,
            pytest.raises(GameError, match=f"{relay.address()}, which leads to {goal}, did not become"),
        ):
            play(Server(relay.address(), wait_s=1), browser)


@pytest.mark.openscope
def test_a_slow_line_is_waited_for_as_long_as_asked(browser, game_url):
    with serve(game=game_url) as relay:
        relay.before = lambda path: time.sleep(20.0 if path != "/" else 0.0)
        with pytest.raises(GameError, match=r"still loading after 5 s \(\d+ files arrived\): .*--wait-s"):
            play(Server(relay.address(), wait_s=5), browser)
        assert not browser.lost
        relay.before = lambda path: time.sleep(0.5)
        play(Server(relay.address(), wait_s=300), browser)


@pytest.mark.openscope
def test_a_page_that_hangs_while_it_loads_is_ended(game_url, monkeypatch):
    """Its browser is lost, so a recorder begins the episode again in another one."""
    monkeypatch.setattr(page, "ANSWER_S", 5.0)
    with Browser() as own, serve(game=game_url) as relay:

        def stop_the_pages(path: str) -> None:
            for folder in family(own.pid):
                if kind(folder) == "page":
                    os.kill(int(folder.name), signal.SIGSTOP)

        relay.before = stop_the_pages
        with pytest.raises(BrowserLost, match=r"did not load within 5 s and was ended"):
            play(Server(relay.address(), wait_s=5), own)
        assert own.lost


@pytest.mark.openscope
def test_a_server_that_does_not_answer_is_told_from_a_slow_one(browser):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GameError, match=r"the server at .* has not answered within 1 s: .*--wait-s"):
            play(Server(address, wait_s=1), browser)
    assert not browser.lost


@pytest.mark.openscope
def test_a_page_that_is_already_there_is_not_waited_for(browser):
    """Nothing is under way and nothing will come, so the whole wait would be in vain."""
    with (
        serve(pages={"/": b"<script>throw new Error('not a game')</script>"}) as relay,
        pytest.raises(GameError, match=r'within \d\d s \("not a game"\)'),
    ):
        play(Server(relay.address(), wait_s=600), browser)


@pytest.mark.openscope
def test_a_certificate_that_the_server_signed_is_accepted_where_asked(browser, game_url, certificate):
    with serve(game=game_url, certificate=certificate) as relay:
        address = relay.address("localhost")
        with pytest.raises(GameError, match=r"certificate is not trusted .*give --insecure"):
            play(address, browser)
        with pytest.raises(GameError, match=r"has no list of airports .*certificate"):
            airports.enabled(address)
        play(Server(address, insecure=True), browser)
        assert len(airports.enabled(Server(address, insecure=True))) > 60


def test_the_list_of_airports_is_read_where_the_page_is():
    pages = {"/game/index.html": b"", "/game/assets/airports/airportLoadList.json": LIST}
    with serve(pages=pages) as there, serve(leads_to=f"{there.address()}/game/index.html") as here:
        assert airports.enabled(here.address()) == [airports.Entry("kabq", "Albuquerque", "easy")]


@pytest.mark.parametrize("found", [b"<p>hello", b'["kabq"]', b'[{"icao": "A", "name": "", "level": 5}]'])
def test_another_list_is_refused(found):
    with (
        serve(pages={"/": b"", "/assets/airports/airportLoadList.json": found}) as relay,
        pytest.raises(GameError, match=r"has no list of airports .*set OPENSCOPE_URL"),
    ):
        airports.enabled(relay.address())


def test_hosts_are_compared_without_who_logs_in():
    assert host("https://me:secret@example.org:8080/a?b") == host("https://example.org:8080") != ""
    assert host("data:text/html,x") == host("blob:null/1") == ""


def test_the_address_comes_from_the_caller_the_environment_or_is_public(monkeypatch):
    monkeypatch.setenv("OPENSCOPE_URL", "http://there:3003")
    assert Server("http://here").address == "http://here"
    assert Server().address == "http://there:3003"
    monkeypatch.delenv("OPENSCOPE_URL")
    assert Server().address == "https://www.openscope.co"
