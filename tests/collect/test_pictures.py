"""Pictures of the recorder's palette: small, whole, and as the page drew them."""

import base64

import cv2
import numpy as np
import pytest

from collect import GameError
from collect.game import Game
from collect.pictures import ALTITUDE_PAGE, TYPE_PAGE, Canvas, View, palette, palette_indices, palette_png
from wm.sector import traffic as tr


def read(png: bytes) -> np.ndarray:
    """As RGB."""
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def changed(runs, colours) -> str:
    """What the page sends for runs [(start, length), ...] of pixels."""
    numbers = np.asarray([len(runs), *np.ravel(runs)], np.uint32)
    return base64.b64encode(numbers.tobytes() + np.asarray(colours, np.uint8).tobytes()).decode()


def test_a_png_gives_back_its_indices_and_colours():
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    png = palette_png(indices)
    np.testing.assert_array_equal(palette_indices(png), indices)
    np.testing.assert_array_equal(read(png), palette()[indices])


def test_a_png_of_other_colours_is_refused():
    other = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="other colours"):
        palette_indices(other)


def test_a_canvas_keeps_what_did_not_change():
    canvas = Canvas(4)
    canvas.paint(changed([(0, 16)], [7] * 16))
    png = canvas.paint(changed([(1, 2), (15, 1)], [1, 2, 3]))
    assert palette_indices(png).ravel().tolist() == [7, 1, 2, *[7] * 12, 3]
    assert palette_indices(canvas.paint(changed([], []))).ravel().tolist() == [7, 1, 2, *[7] * 12, 3]


@pytest.mark.parametrize(("runs", "colours"), [([(0, 3)], [1, 2]), ([(15, 2)], [1, 2])])
def test_changes_that_do_not_fit_are_refused(runs, colours):
    with pytest.raises(GameError, match="open the game again"):
        Canvas(4).paint(changed(runs, colours))


@pytest.mark.openscope
@pytest.mark.parametrize("airport", ["kbos", "ltba"])  # neither was used to choose the colours
def test_the_palette_hardly_changes_what_the_game_draws(browser, airport):
    shown = []
    for with_palette in (False, True):
        with Game(airport=airport, seed=5, view=View(512, palette=with_palette), browser=browser) as game:
            for _ in range(60):
                game.step()
            game.step(pictures=1)  # the second one is painted over this
            shown.append(read(game.step(pictures=1).picture).astype(int))
    difference = np.abs(shown[0] - shown[1]).max(-1)
    assert shown[0].std() > 5
    assert difference.mean() < 0.5
    assert (difference > 8).mean() < 2e-3


@pytest.mark.openscope
def test_a_picture_is_of_its_moment_and_a_second_apart_of_the_next(browser):
    with Game(airport="kabq", seed=1, view=View(256), browser=browser) as game:
        five = game.step(pictures=5)
        assert len(five.pictures) == 5
        assert game.step(pictures=1).pictures != five.pictures[-1:]
        game.reset(seed=1)
        one = game.step(pictures=1)
    assert one.pictures == five.pictures[-1:]
    assert len(set(five.pictures)) == 5
    assert set(five.picture_pages) == {ALTITUDE_PAGE, TYPE_PAGE}


@pytest.mark.openscope
def test_an_aircraft_is_where_the_scale_says_and_the_control_area_fits(browser):
    """Where an aircraft moved, pixels changed; corners of the airspace are inside the picture."""
    with Game(airport="rjtt", seed=3, view=View(512), browser=browser) as game:
        scale = game.static["picture_px_per_nm"]
        corners = np.concatenate([volume["polygon_nm"] for volume in game.static["airspace"]])
        assert 0.9 * 256 < np.abs(corners).max() * scale < 256
        for _ in range(40):
            game.step()
        images = [read(game.step(pictures=1).picture).astype(int) for _ in range(2)]
        traffic = tr.from_table(tr.Traffic, game.snapshot.aircraft)
    flying = traffic.controllable & (traffic.phase > tr.TAKEOFF)
    columns = np.round(256 + traffic.x_nm[flying] * scale).astype(int)
    rows = np.round(256 - traffic.y_nm[flying] * scale).astype(int)
    inside = (columns > 3) & (columns < 508) & (rows > 3) & (rows < 508)
    assert inside.sum() >= 3
    for x, y in zip(columns[inside], rows[inside], strict=True):
        assert images[1][y - 1 : y + 2, x - 1 : x + 2].max() > 150  # a target is white
