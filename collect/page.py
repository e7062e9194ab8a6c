"""A page of a browser that loads the game: what it may fetch, how long that may take, and what is said.

The browser compares addresses, so that LOCALHOST and localhost, a default port or an IPv6 address in any
spelling are the same to it; no address is compared before the browser has written it.
"""

import asyncio
import time

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Request, Route
from playwright.async_api import TimeoutError as PlaywrightTimeout

from collect import GameError, GameFault
from collect.browser import Browser
from collect.server import Server, host

FOOTER_PX = 36  # of the page below its canvas
ANSWER_S = 30.0  # a page that does not evaluate a number within this hangs
FAILED_S = 10.0  # a page with an error that is not ready by then never will be
# A page that takes no scripts, such as an error page, has no bridge and stays blank.
STATE = "() => window.openscopeBridge?.state() ?? 'blank'"


class Page:
    """One page of `browser`, `view_px` wide, loaded anew for every episode.

    `address` is where it is in the end: the server may lead to another one.
    """

    def __init__(self, browser: Browser, server: Server, view_px: int):
        self._browser, self._server, self._view_px = browser, server, view_px
        self.address = server.address
        self.moved = False  # to another host than was asked for
        self._context = self._page = None
        self._errors: list[PlaywrightError] = []  # that the page itself did not catch
        self._under_way: set[Request] = set()
        self._arrived = 0  # files

    async def open(self) -> None:
        """Make room for the page in the browser."""
        self._context = await self._browser.process.new_context(
            viewport={"width": self._view_px, "height": self._view_px + FOOTER_PX},
            bypass_csp=True,
            service_workers="block",
            ignore_https_errors=self._server.insecure,
        )
        await self._context.route("**/*", self._only_the_game)

    async def close(self) -> None:
        """Close the page and all that belongs to it."""
        if self._context is not None:
            await self._context.close()

    async def evaluate(self, script: str, arguments: list | None = None):
        """What a script returns in the page."""
        return await self._page.evaluate(script, arguments)

    async def load(self, script: str, episode: str) -> None:
        """Load the page, with `script` before its own, until the game in it is ready.

        Raises GameError where there is no game, GameFault where it fails to start `episode` ("kabq with seed
        7"), BrowserLost where the page hangs.
        """
        if self._page is not None:
            await self._page.close()
        self._page = await self._context.new_page()
        self._errors.clear()
        self._under_way.clear()
        self._arrived = 0
        self._listen()
        await self._page.add_init_script(script)
        asked = await self._go()
        await self._until_ready(episode)
        self.address = self._page.url
        self.moved = host(self.address) != host(asked)

    def _listen(self) -> None:
        def arrived(request: Request) -> None:
            self._under_way.discard(request)
            self._arrived += 1

        self._page.on("pageerror", lambda error: self._errors.append(error))
        self._page.on("request", lambda request: self._under_way.add(request))
        self._page.on("requestfailed", lambda request: self._under_way.discard(request))
        self._page.on("requestfinished", arrived)

    async def _only_the_game(self, route: Route) -> None:
        """Let through the page, wherever it leads, and what comes from the host where it is now."""
        request = route.request
        is_the_page = request.is_navigation_request() and request.frame.parent_frame is None
        inside = is_the_page or host(request.url) in (host(self._page.url), "")
        await (route.continue_() if inside else route.abort())

    async def _go(self) -> str:
        """Open the address; returns it as the browser writes it."""
        limit_ms, answer = 1000 * self._server.wait_s, None
        try:
            answer = await self._page.goto(self._server.address, wait_until="commit", timeout=limit_ms)
            await self._page.wait_for_load_state("domcontentloaded", timeout=limit_ms)
        except PlaywrightTimeout:
            raise await self._too_slow() from None
        except PlaywrightError as error:
            if "closed" in str(error) or "crashed" in str(error):
                raise
            raise self._unreachable(str(error).splitlines()[0].removeprefix("Page.goto: ")) from None
        if answer is None:  # an address without a server, such as data:
            return self._page.url
        request = answer.request
        while request.redirected_from is not None:
            request = request.redirected_from
        return request.url

    @staticmethod
    def _unreachable(reason: str) -> GameError:
        if "ERR_CERT" in reason:
            return GameError(
                f"the server's certificate is not trusted ({reason}): if the server is yours, give --insecure"
            )
        return GameError(
            f"openScope is not reachable ({reason}): start it there, or set OPENSCOPE_URL to its address"
        )

    async def _too_slow(self) -> GameError:
        """The error to raise where waiting was in vain; ends a browser that hangs."""
        where, waited = self._where(), f"{self._server.wait_s:g} s"
        begun = self._page.url != "about:blank"
        if await self._hangs(begun):
            return self._browser.give_up(f"the page at {where} did not load within {waited}")
        if not begun:
            found = f"the server at {where} has not answered within {waited}"
        else:
            found = f"the page at {where} is still loading after {waited} ({self._arrived} files arrived)"
        return GameError(f"{found}: wait longer with --wait-s, or set OPENSCOPE_URL to another address")

    async def _hangs(self, begun: bool) -> bool:
        """Whether it is the browser that does not go on.

        A page that waits for a server evaluates nothing, so another page is asked before it has begun.
        """

        async def evaluate():
            page = self._page if begun else await self._context.new_page()
            await page.evaluate("1")
            if not begun:
                await page.close()

        try:
            await asyncio.wait_for(evaluate(), ANSWER_S)
        except (TimeoutError, PlaywrightError):
            return True
        return False

    def _where(self) -> str:
        """The address that was asked for, and where it led to."""
        asked, now = self._server.address, self._page.url
        leads = now != "about:blank" and now.rstrip("/").lower() != asked.rstrip("/").lower()
        return f"{asked}, which leads to {now}," if leads else asked

    async def _until_ready(self, episode: str) -> None:
        begin = time.monotonic()
        while (found := await self._state()) in ("blank", "loading"):
            waited = time.monotonic() - begin
            late = waited > self._server.wait_s
            failed = self._errors and (late or (waited > FAILED_S and not self._under_way))
            why = f' ("{str(self._errors[0])[:500].partition(chr(10))[0]}")' if self._errors else ""
            if failed and found == "loading":
                raise GameFault(f"the game fails while it starts {episode}{why}: choose another seed")
            if late and self._under_way and not failed:
                raise await self._too_slow()
            if failed or late:
                raise GameError(
                    f"the page at {self._where()} did not become an openScope game within {waited:.0f} s{why}"
                    ": set OPENSCOPE_URL to the address of one"
                )
            await asyncio.sleep(0.02)
        if found != "ready":
            raise GameError(f"{self._where()} is not an openScope that this bridge knows: {str(found)[:500]}")

    async def _state(self) -> str:
        """What the bridge says of the page (bridge.js); a page that is just being left is blank."""
        try:
            return await self._page.evaluate(STATE)
        except PlaywrightError as error:
            if "context was destroyed" not in str(error):
                raise
            return "blank"
