"""Which airports a game offers: its own list, read from the address it is served at."""

import dataclasses
import json
from http.client import HTTPException

from collect import GameError
from collect.server import Server, server_of

LIST = "assets/airports/airportLoadList.json"
LEVELS = ("beginner", "easy", "medium", "hard")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An airport of the game's list: its code in lower case, and how hard the game calls it."""

    icao: str
    name: str
    level: str


def enabled(server: Server | str | None = None) -> list[Entry]:
    """The airports that the game lets players choose, easiest first.

    Raises GameError where the list cannot be read.
    """
    server = server_of(server)
    try:
        found = [
            Entry(entry["icao"].lower(), entry["name"], entry["level"])
            for entry in json.loads(server.read(LIST))
            if not entry.get("disabled")
        ]
        return sorted(found, key=lambda entry: (LEVELS.index(entry.level), entry.icao))
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise GameError(
            f"{server.address} has no list of airports ({error}): set OPENSCOPE_URL to the address of a game"
        ) from None
