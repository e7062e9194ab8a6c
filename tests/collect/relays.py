"""Servers that pass the game on in unusual ways: from elsewhere, slowly, under another path, by https."""

import contextlib
import http.server
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Relay:
    """What a server does with a request: redirect it, or pass it on to `game`, after `before(path)`.

    `asked` are the paths that were asked for. `prefix` is the path that the game is served under, and
    `pages` are pages of its own, by path.
    """

    game: str = ""
    before: Callable[[str], None] = lambda path: None
    prefix: str = ""
    leads_to: str | None = None
    pages: dict[str, bytes] = field(default_factory=dict)
    certificate: Path | None = None  # of a server that speaks https
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def address(self, host: str = "127.0.0.1") -> str:
        """The address of the game at this server, by one of the names of this machine."""
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}{self.prefix}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append(path)
        self.before(path)
        if self.leads_to is not None:
            return 302, {"Location": self.leads_to}, b""
        if path in self.pages:
            return 200, {"Content-Type": "text/html"}, self.pages[path]
        if path == self.prefix != "":
            return 301, {"Location": f"{self.prefix}/"}, b""
        if not path.startswith(self.prefix):
            return 404, {}, b""
        try:
            with urllib.request.urlopen(self.game.rstrip("/") + path.removeprefix(self.prefix)) as found:
                return 200, {"Content-Type": found.headers.get("Content-Type", "text/plain")}, found.read()
        except urllib.error.HTTPError as error:
            return error.code, {}, b""


@contextlib.contextmanager
def serve(**options) -> Iterator[Relay]:
    """A relay on a free port of this machine."""
    relay = Relay(**options)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = relay.answer(self.path)
            with contextlib.suppress(ConnectionError):  # the page is gone
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, address):
            pass  # a browser that refuses a certificate hangs up

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if relay.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(relay.certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        relay.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
