"""Commands go to aircraft and to nothing else, and the game's clock goes as lock-step does."""

import numpy as np
import pytest

from collect import GameError
from collect.game import Game, PlainGame
from wm.sector import traffic as tr

# Every command of the game to itself, in its own spellings, and ways to hide one.
TO_THE_GAME = (
    *("timewarp 5", "tw 5", "tw", "pause", "clear", "airport klas", "rate 2", "auto", "tutorial", "airac"),
    *("  TimeWarp 5", "time\nwarp 5", "pause AAL1", "* d 40", "   ", "moo", "version"),
)

pytestmark = pytest.mark.openscope


def flown(game: Game, decisions: int) -> tuple[np.ndarray, float]:
    """Where every aircraft is after so many decisions, and the time."""
    for _ in range(decisions):
        game.step()
    return game.snapshot.aircraft, game.snapshot.time_s


def callsign(game: Game) -> str:
    """An aircraft that listens."""
    traffic = tr.from_table(tr.Traffic, game.snapshot.aircraft)
    return game.snapshot.callsigns[int(traffic.id[traffic.controllable][0])]


def test_the_game_s_own_commands_are_refused_and_leave_no_trace(browser):
    with Game(airport="kabq", seed=3, browser=browser) as game:
        expected, time_s = flown(game, 3)
        game.reset()
        for text in TO_THE_GAME:
            with pytest.raises(
                GameError, match="is no command to an aircraft: begin with a callsign"
            ) as caught:
                game.step(text)
            assert "\n" not in str(caught.value)
        aircraft, now_s = flown(game, 3)
    assert now_s == time_s == 3 * tr.STEP_S
    np.testing.assert_array_equal(aircraft, expected)


def test_what_is_no_text_is_refused(browser):
    with (
        Game(airport="kabq", seed=3, browser=browser) as game,
        pytest.raises(GameError, match="5 is no command"),
    ):
        game.step(5)


@pytest.mark.parametrize("word", ["del", "DELETE", "kill"])
def test_aircraft_are_not_taken_out_of_the_game(browser, word):
    with Game(airport="kabq", seed=3, browser=browser) as game:
        flown(game, 24)
        with pytest.raises(GameError, match="would take the aircraft out of the game"):
            game.step(f"{callsign(game)} d 80 {word}")


def test_aircraft_are_named_in_any_way_that_the_game_knows(browser):
    """In small letters too; a callsign that nobody has is the game's to refuse."""
    with Game(airport="kabq", seed=3, browser=browser) as game:
        flown(game, 24)
        name = callsign(game)
        for spelling in (name, name.lower(), f"  {name}  "):
            assert game.step(f"{spelling} d 80").refusals == ()
        assert game.step("NOBODY1 d 80").refusals == ("no such aircraft, say again",)


CLICK = "document.querySelectorAll('{}').forEach((button) => button.click())"


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (CLICK.format(".fast-forwards"), r"shows 20\.00 s where 15 s have passed"),
        (CLICK.format(".toggle-pause"), r"shows 10\.00 s where 15 s have passed"),
    ],
)
@pytest.mark.parametrize("game_class", [Game, PlainGame])
def test_a_clock_that_the_page_itself_changes_is_noticed(browser, script, text, game_class):
    with game_class(airport="kabq", seed=3, browser=browser) as game:
        flown(game, 2)
        game._run(game.page.evaluate(f"() => {{ {script} }}"), 5.0)
        with pytest.raises(
            GameError, match=f"{text}, so it was paused, sped up or begun again: reset the game"
        ):
            game.step()
        game.reset()
        assert flown(game, 2)[1] == 2 * tr.STEP_S


@pytest.mark.parametrize("frame_s", [1 / 60, 0.05])
def test_short_frames_keep_the_clocks_together(browser, frame_s):
    with Game(airport="kabq", seed=3, browser=browser, frame_s=frame_s) as game:
        assert flown(game, 60)[1] == 60 * tr.STEP_S
