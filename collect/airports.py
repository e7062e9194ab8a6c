"""Which airports a game offers: its own list, read from the address it is served at."""

import dataclasses
import json
import os
import urllib.request

from collect import GameError
from collect.game import PUBLIC_URL

LIST = "assets/airports/airportLoadList.json"
LEVELS = ("beginner", "easy", "medium", "hard")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An airport of the game's list: its code in lower case, and how hard the game calls it."""

    icao: str
    name: str
    level: str


def enabled(url: str | None = None, timeout_s: float = 30.0) -> list[Entry]:
    """The airports that the game lets players choose, easiest first.

    Raises GameError where the list cannot be read.
    """
    address = f"{(url or os.environ.get('OPENSCOPE_URL') or PUBLIC_URL).rstrip('/')}/{LIST}"
    try:
        with urllib.request.urlopen(address, timeout=timeout_s) as answer:
            entries = json.load(answer)
        found = [
            Entry(entry["icao"].lower(), entry["name"], entry["level"])
            for entry in entries
            if not entry.get("disabled")
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GameError(
            f"{address} is no list of airports ({error}): set OPENSCOPE_URL to the address of openScope"
        ) from None
    return sorted(found, key=lambda entry: (LEVELS.index(entry.level), entry.icao))
