"""Options of every command that plays the real game: where it is served, and how patiently and strictly."""

import dataclasses

from configs.values import within


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """Where the game is served."""

    url: str | None = None
    """Address of the game; else OPENSCOPE_URL, else https://www.openscope.co."""
    insecure: bool = False
    """Accept any certificate, such as one that the server has signed itself."""
    wait_s: float = 60.0
    """Longest wait for the server's answer, and then for the whole page; more for a slow line."""

    def __post_init__(self):
        within(self, 1, 86_400, "wait_s")

    def options(self) -> list[str]:
        """The same as options of another command."""
        url = [] if self.url is None else ["--url", self.url]
        return [*url, *(["--insecure"] if self.insecure else []), "--wait-s", f"{self.wait_s:g}"]
