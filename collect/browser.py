"""One Chromium process, driven from a thread of its own.

The thread makes the game usable from notebooks (which already run an event loop) and from several
threads at once, and lets a call that hangs be ended: the browser is then killed and the caller told.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import TimeoutError as FutureTimeout

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import async_playwright

from collect import GameError, GameFault

SYSTEM_BROWSERS = (
    "/usr/bin/chromium",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
LONGEST = 500  # characters of what a page says of its own error
LAUNCH_TIMEOUT_S, START_TIMEOUT_S = 60.0, 300.0  # of one browser, and of all that are tried


def candidates() -> list[str | None]:
    """Browsers to try, in order; None is Playwright's own. OPENSCOPE_BROWSER names the only one."""
    if chosen := os.environ.get("OPENSCOPE_BROWSER"):
        return [shutil.which(chosen) or chosen]
    found = [path for name in SYSTEM_BROWSERS if (path := shutil.which(name))]
    return [*dict.fromkeys(found), None]


class BrowserLost(GameError):
    """The browser crashed, hung or was closed; opening the game again may well work."""


class Browser:
    """A headless Chromium; several games may share one, each with pages of its own.

    Raises GameError where no browser is found or it does not start.
    """

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="browser")
        self._thread.start()
        self.pid = None
        self.lost = False  # has crashed or hung: what is still played in it has to begin again
        self._playwright = self.process = None
        try:
            self.run(self._start(), START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    async def _start(self):
        self._playwright = await async_playwright().start()
        reasons = []
        for path in candidates():
            try:
                self.process = await self._playwright.chromium.launch(
                    executable_path=path,
                    headless=True,
                    handle_sigint=False,
                    timeout=1000 * LAUNCH_TIMEOUT_S,
                )
                break
            except PlaywrightError as error:
                reason = str(error).splitlines()[0].removeprefix("BrowserType.launch: ")
                reasons.append(f"{path or 'the one of Playwright'}: {reason}")
        else:
            raise GameError(
                f"no usable Chromium ({'; '.join(reasons)}): install one with `apt-get install chromium` or "
                "`python -m playwright install chromium`, or set OPENSCOPE_BROWSER to the path of one"
            )
        session = await self.process.new_browser_cdp_session()
        processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        self.pid = next(p["id"] for p in processes if p["type"] == "browser")

    def run(self, coroutine, timeout_s: float):
        """Run `coroutine` in the browser's thread and return its result.

        Raises BrowserLost where the browser has crashed, or has not answered within `timeout_s`
        seconds, in which case it is killed; GameFault where the game's own code fails; GameError for whatever
        else goes wrong in the page.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout_s)
        except (FutureTimeout, TimeoutError):
            future.cancel()
            raise self.give_up(f"the browser did not answer within {timeout_s:g} s") from None
        except PlaywrightError as error:
            raise self._explain(error) from None

    def _explain(self, error: PlaywrightError) -> GameError:
        """Turn a Playwright error into one line."""
        said = (str(error).splitlines() or ["an error without words"])[0][:LONGEST]
        text = said.removeprefix("Page.evaluate: ").removeprefix("Error: ")
        if "has been closed" in text or "crashed" in text or "disconnected" in text:
            self.lost = True
            return BrowserLost(f"the browser has crashed or was closed ({text}): open the game again")
        if text.startswith("GameFault: "):  # see clock.js
            why = text.removeprefix("GameFault: ")
            return GameFault(f'the game itself fails ("{why}"): choose another seed')
        return GameError(text)

    def give_up(self, why: str) -> BrowserLost:
        """End a browser that hangs; returns the error to raise."""
        self.lost = True
        self.kill()
        return BrowserLost(f"{why} and was ended: open the game again")

    def kill(self):
        """End the browser process at once."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self):
        """End the browser and its thread; calling it twice does no harm."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(GameError, FutureTimeout):
            self.run(self._stop(), 10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        if not self._thread.is_alive():
            self._loop.close()

    async def _stop(self):
        if self.process:
            with contextlib.suppress(PlaywrightError):
                await self.process.close()
        if self._playwright:
            await self._playwright.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def main() -> int:
    """Start a browser and end it again; says in one line where there is none. For launch/setup.sh."""
    try:
        Browser().close()
    except GameError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
