"""The unmodified openScope at any address, one decision at a time.

    with Game(airport="kabq", seed=7) as game:
        snapshot = game.snapshot
        while snapshot.time_s < 3600:
            snapshot = game.step("AAL123 d 40")

The game runs in a headless Chromium. The bridge replaces the page's clock, timers and random numbers
(clock.js), so the game advances one decision per call and repeats exactly for the same seed and commands.
"""

import base64
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from collect import GameError, tables
from collect.browser import Browser
from collect.page import Page
from collect.pictures import Canvas, View, page_colours
from collect.server import Server, server_of
from collect.snapshot import Snapshot, fits, on_time, parse
from wm.sector import traffic as tr

EPOCH_MS = 1_600_000_000_000  # time of day at which the game begins; fixed so that runs repeat
# Files <name>.js of this folder, joined in this order in one scope.
BRIDGE_PARTS = ("clock", "idle", "aircraft", "events", "airport", "picture", "shape", "bridge")
STEP_TIMEOUT_S = 60.0  # longest wait for a step, which takes milliseconds
SPARE_S = 90.0  # beside the waits of the server, before a page that loads is given up
PLAIN_VIEW_PX = 512
RATE_STEP, RATE_MAXIMUM = 0.5, 10.0  # the game's traffic sliders
WIND_STEP_DEG, WIND_MAXIMUM_KT = 10, 25


def traffic_rates(traffic: float | Mapping[str, float]) -> dict[str, float] | None:
    """Rate factor per category for the game's sliders; None leaves the airport's own rates.

    Raises GameError where a factor is not one the sliders have.
    """
    rates = dict(traffic) if isinstance(traffic, Mapping) else dict.fromkeys(tr.CATEGORIES, traffic)
    for category, rate in rates.items():
        if category not in tr.CATEGORIES:
            raise GameError(f"traffic category {category!r} must be one of {', '.join(tr.CATEGORIES)}")
        if not 0 <= rate <= RATE_MAXIMUM or rate % RATE_STEP:
            raise GameError(
                f"traffic of {rate!r} times the airport's own must be 0 to {RATE_MAXIMUM:g} in "
                f"steps of {RATE_STEP:g}, as the game's sliders have it"
            )
    changed = {category: float(rate) for category, rate in rates.items() if rate != 1}
    return changed or None


def wind_setting(wind: tuple[float, float] | None) -> list[int] | None:
    """Wind (from, degrees; speed, kt) for the game's sliders; None leaves the airport's own."""
    if wind is None:
        return None
    degrees, speed = wind
    if not 10 <= degrees <= 360 or degrees % WIND_STEP_DEG:
        raise GameError(f"wind from {degrees!r} must be 10 to 360 degrees in steps of {WIND_STEP_DEG}")
    if not 0 <= speed <= WIND_MAXIMUM_KT or speed % 1:
        raise GameError(f"wind speed {speed!r} must be a whole number of 0 to {WIND_MAXIMUM_KT} kt")
    return [int(degrees), int(speed)]


def bridge_config(airport: str, seed: int, frame_s: float, plain: bool, view: dict) -> dict:
    """What the bridge needs to know, as JSON; `view` holds picture_px, palette and zoom."""

    def fields(struct_class):
        columns = tr.schema(struct_class).items()
        return {n: {"source": s["source"], "default": float(s["default"])} for n, s in columns}

    return {
        "seed": int(seed),
        "airport": airport.lower(),
        "epoch_ms": EPOCH_MS,
        "frame_s": frame_s,
        "plain": plain,
        **view,
        "schema": {
            "aircraft": fields(tr.Traffic),
            "substeps": fields(tr.SubSteps),
            "runways": fields(tr.Runways),
        },
        "constants": {
            name: list(getattr(tr, name))
            for name in ("CATEGORIES", "PHASES", "ALTITUDE_MODES", "HEADING_MODES", "SPEED_MODES")
        },
        "events": tr.EVENTS,
    }


def bridge_script(config: dict) -> str:
    """The script that runs in the page before the game's own."""
    parts = [(Path(__file__).parent / f"{name}.js").read_text() for name in BRIDGE_PARTS]
    return "\n".join(["(() => {", "'use strict';", f"const config = {json.dumps(config)};", *parts, "})();"])


class Game:
    """One page of the real game; a context manager. `static` and `snapshot` follow the last reset.

    Args:
      server: where the game is served, or its address; None is OPENSCOPE_URL, else the public site.
      airport: ICAO code, as in the game's own list.
      seed: of everything random in the game.
      traffic: factor on the airport's own spawn rates, or a factor per category.
      wind: (from, degrees; speed, kt), None for the airport's own.
      view: the square picture that `step(pictures=1)` returns, None for none. It shows the whole control
        area at the scale `static["picture_px_per_nm"]`.
      browser: shared with other games; None opens one of its own.
      frame_s: length of one game frame (s), below 1 and a divisor of the 5 s decision.

    Raises GameError, in one line, for everything that keeps the game from being played.
    """

    plain = False  # without the shortcuts of collect/idle.js

    def __init__(
        self,
        server: Server | str | None = None,
        airport: str = "kabq",
        seed: int = 0,
        traffic: float | Mapping[str, float] = 1.0,
        wind: tuple[float, float] | None = None,
        view: View | None = None,
        browser: Browser | None = None,
        frame_s: float = tr.FRAME_S,
    ):
        self.server = server_of(server)
        self.frames = round(tr.STEP_S / frame_s)
        if not 0 < frame_s < 1 or abs(self.frames * frame_s - tr.STEP_S) > 1e-9:
            raise GameError(f"a frame of {frame_s!r} s must be below 1 s and divide {tr.STEP_S:g} s")
        if self.plain and view is not None:
            raise GameError("a plain game takes no pictures: leave out the view")
        self.frame_s, self.view, self.step_timeout_s = frame_s, view, STEP_TIMEOUT_S
        self._zooms: dict[str, float] = {}  # by airport, px per km
        self._settings = {"airport": airport, "seed": seed, "traffic": traffic, "wind": wind}
        self._shared = browser
        self._browser: Browser | None = None
        self.page: Page | None = None
        self.static: dict = {}
        self.snapshot: Snapshot | None = None

    def __enter__(self):
        try:
            self.reset()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Close the page, and the browser where it is the game's own; a reset opens both again."""
        browser, page = self._browser, self.page
        self._browser = self.page = None
        if browser is not None and browser is not self._shared:
            browser.close()
        elif page is not None:
            with contextlib.suppress(GameError):  # the shared browser is gone, and the page with it
                browser.run(page.close(), 10.0)

    def reset(self, **settings) -> Snapshot:
        """Start a new episode on a fresh page of the same browser; returns its state at time 0.

        `settings` (airport, seed, traffic, wind) replace those given before.
        """
        unknown = set(settings) - set(self._settings)
        if unknown:
            raise TypeError(f"reset() takes {', '.join(self._settings)}, not {', '.join(unknown)}")
        self._settings.update(settings)
        chosen = self._settings
        options = {"traffic": traffic_rates(chosen["traffic"]), "wind": wind_setting(chosen["wind"])}
        if self._browser is None:
            self._browser = self._shared or Browser()
            width = PLAIN_VIEW_PX if self.view is None else self.view.px
            self.page = Page(self._browser, self.server, width)
            self._run(self.page.open(), SPARE_S)
        self.static, raw = self._begin(chosen["airport"].lower(), chosen["seed"], options)
        self._read_picture = base64.b64decode
        if self.view is not None:
            zoom = self._zooms.get(chosen["airport"].lower())
            if zoom is None:
                raise GameError(f"the page does not say the scale of its pictures: {tables.AGAIN}")
            self.static["picture_px_per_nm"] = zoom * tr.KM_PER_NM
            if self.view.palette:
                self._read_picture = Canvas(self.view.px).paint
        snapshot = parse(raw, read_picture=self._read_picture)
        fits(self.static, snapshot)
        self.snapshot = snapshot
        return snapshot

    def step(self, command: str | None = None, pictures: int = 0) -> Snapshot:
        """Type `command` (None: nothing), let one decision of 5 s pass, return the state after it.

        `pictures` are taken at the ends of so many equal parts of it: 1 at its end, 5 one a second.
        Raises GameError for a text that is no command to an aircraft, before any time passes, and where the
        game's own clock shows another time than it should.
        """
        if not isinstance(command, str | None):
            raise GameError(f"{command!r} is no command: give a text such as 'AAL123 d 40'")
        if pictures and self.view is None:
            raise GameError("no picture: open the game with view=View(512)")
        if pictures < 0 or (pictures and self.frames % pictures):
            raise GameError(f"{pictures} pictures a decision must divide its {self.frames} frames")
        raw = self._run(self._call("step", [command, self.frames, pictures]), self.step_timeout_s)
        known = self.snapshot
        snapshot = parse(raw, known.callsigns, known.routes, self._read_picture)
        fits(self.static, snapshot, self.frames, pictures)
        on_time(known.time_s, snapshot.time_s)
        self.snapshot = snapshot
        return snapshot

    def _begin(self, airport: str, seed: int, options: dict) -> tuple[dict, str]:
        """Load the page. For an airport's first pictures it is loaded twice: the first tells the zoom."""
        for _ in range(2):
            view = {
                "picture_px": 0 if self.view is None else self.view.px,
                "palette": page_colours() if self.view is not None and self.view.palette else None,
                "zoom": self._zooms.get(airport),
            }
            config = bridge_config(airport, seed, self.frame_s, self.plain, view)
            found = self._run(self._load(config, options), 2 * self.server.wait_s + SPARE_S)
            if not (self.view is not None and tables.is_number(found) and found > 0):
                return tables.begun(found)
            self._zooms[airport] = found
        raise GameError(f"the page does not take the zoom that {airport} needs: this game is another version")

    async def _load(self, config: dict, options: dict):
        await self.page.load(bridge_script(config), f"{config['airport']} with seed {config['seed']}")
        return await self._call("begin", [options])

    def _call(self, function: str, arguments: list):
        if self.page is None:
            raise GameError("the game is not open: reset it, or use it in a `with` statement")
        script = f"(arguments) => window.openscopeBridge.{function}(...arguments)"
        return self.page.evaluate(script, arguments)

    def _run(self, coroutine, timeout_s: float):
        return self._browser.run(coroutine, timeout_s)


class PlainGame(Game):
    """The game without collect/idle.js and without pictures; to compare, not to use."""

    plain = True
