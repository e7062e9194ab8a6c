"""Where the game is served, and how long and how strictly to deal with whoever serves it."""

import os
import ssl
import urllib.request
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

PUBLIC_URL = "https://www.openscope.co"


@dataclass(frozen=True)
class Server:
    """A server of the game.

    Attributes:
      url: address of the page; None is OPENSCOPE_URL, else the public site.
      insecure: accept any certificate, such as one that the server has signed itself.
      wait_s: longest wait for the server's answer, and then for the whole page.
    """

    url: str | None = None
    insecure: bool = False
    wait_s: float = 60.0

    @classmethod
    def of(cls, options) -> "Server":
        """The server that a command's options (url, insecure, wait_s) name."""
        return cls(options.url, options.insecure, options.wait_s)

    @property
    def address(self) -> str:
        """The address that is opened."""
        return self.url or os.environ.get("OPENSCOPE_URL") or PUBLIC_URL

    def read(self, path: str) -> bytes:
        """A file of the game, by its path from the page, wherever the address leads to.

        Raises OSError where there is none, ValueError where the address is none.
        """
        with self._open(self.address) as page:
            address = urljoin(page.geturl(), path)
        with self._open(address) as file:
            return file.read()

    def _open(self, address: str):
        trust = ssl._create_unverified_context() if self.insecure else None
        return urllib.request.urlopen(address, timeout=self.wait_s, context=trust)


def server_of(given: Server | str | None) -> Server:
    """The server that callers name by a `Server`, by its address, or not at all."""
    return given if isinstance(given, Server) else Server(given)


def host(address: str) -> str:
    """Host and port of an address as the browser writes it; empty for one that has none (data, blob)."""
    return urlsplit(address).netloc.rpartition("@")[2]
