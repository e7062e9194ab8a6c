"""The unmodified openScope at any address, one decision at a time.

    with Game(airport="kabq", seed=7) as game:
        snapshot = game.snapshot
        while snapshot.time_s < 3600:
            snapshot = game.step("AAL123 d 40")

The game runs in a headless Chromium with a clock, timers and random numbers of our own (clock.js),
so it advances exactly one decision per call and repeats exactly for the same seed and commands.
"""

import asyncio
import base64
import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError

from collect import GameError, GameFault
from collect.browser import Browser
from collect.pictures import Canvas, page_colours
from collect.snapshot import Snapshot, parse
from wm.sector import traffic as tr

PUBLIC_URL = "https://www.openscope.co"
EPOCH_MS = 1_600_000_000_000  # what the game takes for the time of day; fixed so that runs repeat
# .js, in one scope
BRIDGE_PARTS = ("clock", "idle", "aircraft", "events", "airport", "picture", "shape", "bridge")
FOOTER_PX = 36  # of the page below its canvas
FAILED_S = 10.0  # a page with an error that is not ready by then never will be
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
      url: address of the game; else OPENSCOPE_URL, else the public site.
      airport: ICAO code, as in the game's own list.
      seed: of everything random in the game.
      traffic: factor on the airport's own spawn rates, or a factor per category.
      wind: (from, degrees; speed, kt), None for the airport's own.
      frame_s: length of one game frame (s), below 1 and a divisor of the 5 s decision.
      picture_px: side of the square view (pixels) that `step(pictures=1)` returns, None for none. The
        whole control area is in it, at the scale `static["picture_px_per_nm"]`.
      palette: pictures have the 256 colours of collect.pictures; False for all that the game has.
      plain: leave everything to the game that collect/idle.js would spare it; to compare, not to use.
      browser: shared with other games; None opens one of its own.
      timeout_s: longest wait for the page to load, and for any one step.

    Raises GameError, in one line, for everything that keeps the game from being played.
    """

    def __init__(
        self,
        url: str | None = None,
        airport: str = "kabq",
        seed: int = 0,
        traffic: float | Mapping[str, float] = 1.0,
        wind: tuple[float, float] | None = None,
        frame_s: float = tr.FRAME_S,
        picture_px: int | None = None,
        palette: bool = True,
        plain: bool = False,
        browser: Browser | None = None,
        timeout_s: float = 60.0,
    ):
        self.url = url or os.environ.get("OPENSCOPE_URL") or PUBLIC_URL
        self.frames = round(tr.STEP_S / frame_s)
        if not 0 < frame_s < 1 or abs(self.frames * frame_s - tr.STEP_S) > 1e-9:
            raise GameError(f"a frame of {frame_s!r} s must be below 1 s and divide {tr.STEP_S:g} s")
        if plain and picture_px is not None:
            raise GameError("a plain game takes no pictures: leave out plain or picture_px")
        self.frame_s, self.picture_px, self.timeout_s = frame_s, picture_px, timeout_s
        self._palette, self._plain = palette, plain
        self._zooms: dict[str, float] = {}  # by airport, px per km
        self._settings = {"airport": airport, "seed": seed, "traffic": traffic, "wind": wind}
        self._shared = browser
        self._browser = self._context = self._page = None
        self._errors: list[PlaywrightError] = []  # that the page itself did not catch
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
        browser, context = self._browser, self._context
        self._browser = self._context = self._page = None
        if browser is not None and browser is not self._shared:
            browser.close()
        elif context is not None:
            with contextlib.suppress(GameError):  # the shared browser is gone, and the page with it
                browser.run(context.close(), 10.0)

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
            self._run(self._open(), self.timeout_s)
        static, raw = self._begin(chosen["airport"].lower(), chosen["seed"], options)
        self.static = json.loads(static)
        if self.picture_px is not None:
            scale = self._zooms[chosen["airport"].lower()] * tr.KM_PER_NM
            self.static["picture_px_per_nm"] = scale
        self._read_picture = base64.b64decode
        if self.picture_px is not None and self._palette:
            self._read_picture = Canvas(self.picture_px).paint
        self.snapshot = parse(raw, read_picture=self._read_picture)
        return self.snapshot

    def step(self, command: str | None = None, pictures: int = 0) -> Snapshot:
        """Type `command` (None: nothing), let one decision of 5 s pass, return the state after it.

        `pictures` are taken at the ends of so many equal parts of it: 1 at its end, 5 one a second.
        """
        if pictures and self.picture_px is None:
            raise GameError("no picture: open the game with picture_px=512")
        if pictures < 0 or (pictures and self.frames % pictures):
            raise GameError(f"{pictures} pictures a decision must divide its {self.frames} frames")
        raw = self._run(self._evaluate("step", [command, self.frames, pictures]), self.timeout_s)
        known = self.snapshot
        self.snapshot = parse(raw, known.callsigns, known.routes, self._read_picture)
        return self.snapshot

    def _begin(self, airport: str, seed: int, options: dict) -> tuple[str, str]:
        """Load the page, for an airport's first pictures once more with the zoom that they need."""
        for _ in range(2):
            view = {
                "picture_px": self.picture_px or 0,
                "palette": page_colours() if self.picture_px and self._palette else None,
                "zoom": self._zooms.get(airport),
            }
            config = bridge_config(airport, seed, self.frame_s, self._plain, view)
            found = self._run(self._load(config, options), 2 * self.timeout_s)
            if not isinstance(found, float | int):
                return found
            self._zooms[airport] = found
        raise GameError(f"the page does not take the zoom that {airport} needs: this game is another version")

    def _run(self, coroutine, timeout_s):
        if self._browser is None:
            coroutine.close()
            raise GameError("the game is not open: reset it, or use it in a `with` statement")
        return self._browser.run(coroutine, timeout_s)

    async def _open(self):
        size = self.picture_px or PLAIN_VIEW_PX
        self._context = await self._browser.process.new_context(
            viewport={"width": size, "height": size + FOOTER_PX},
            bypass_csp=True,
            service_workers="block",
        )
        host = urlsplit(self.url).netloc

        async def only_the_game(route):
            inside = urlsplit(route.request.url).netloc in (host, "")
            await (route.continue_() if inside else route.abort())

        await self._context.route("**/*", only_the_game)

    async def _load(self, config: dict, options: dict):
        if self._page is not None:
            await self._page.close()
        self._page = await self._context.new_page()
        self._errors.clear()
        # Playwright takes no built-in method.
        self._page.on("pageerror", lambda error: self._errors.append(error))
        await self._page.add_init_script(bridge_script(config))
        try:
            await self._page.goto(self.url, wait_until="domcontentloaded", timeout=1000 * self.timeout_s)
        except PlaywrightError as error:
            if "closed" in str(error) or "crashed" in str(error):
                raise
            reason = str(error).splitlines()[0].removeprefix("Page.goto: ")
            if reason.startswith("Timeout"):  # a server that is gone refuses at once
                raise self._browser.give_up(
                    f"the page at {self.url} did not begin to load within {self.timeout_s:g} s"
                ) from None
            raise GameError(
                f"openScope is not reachable ({reason}): start it there, or set OPENSCOPE_URL to its address"
            ) from None
        await self._until_ready()
        return await self._evaluate("begin", [options])

    async def _until_ready(self):
        begin = time.monotonic()
        # A page that takes no scripts, such as an error page, has no bridge and stays blank.
        state = "() => window.openscopeBridge?.state() ?? 'blank'"
        while (found := await self._page.evaluate(state)) in ("blank", "loading"):
            waited = time.monotonic() - begin
            failed = self._errors and waited > min(FAILED_S, self.timeout_s)
            why = f' ("{str(self._errors[0]).splitlines()[0]}")' if self._errors else ""
            if failed and found == "loading":
                airport, seed = self._settings["airport"], self._settings["seed"]
                raise GameFault(
                    f"the game fails while it starts {airport} with seed {seed}{why}: choose another seed"
                )
            if failed or waited > self.timeout_s:
                raise GameError(
                    f"the page at {self.url} did not become an openScope game within {waited:.0f} s{why}: "
                    "set OPENSCOPE_URL to the address of one"
                )
            await asyncio.sleep(0.02)
        if found != "ready":
            raise GameError(f"{self.url} is not an openScope that this bridge knows: {found}")

    async def _evaluate(self, function: str, arguments: list):
        return await self._page.evaluate(
            f"(arguments) => window.openscopeBridge.{function}(...arguments)", arguments
        )
