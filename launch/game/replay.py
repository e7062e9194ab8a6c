"""Whether the real game repeats: same seed and commands, same hour, to the last bit."""

import re
from pathlib import Path

from collect.browser import Browser
from collect.game import Game, PlainGame
from collect.server import Server
from configs.game_checks import Replay
from launch.game.hours import BusyPage, Hour, drive, first_difference, repeat
from launch.shared import players, runs
from launch.shared.records import Figure
from wm.sector.traffic import STEP_S

SLOTS = 32
HEADING = re.compile(r"(?<= fh )\d{3}$")
TURN_DEG = 30
UNDISTURBED = round(60.0 / STEP_S)  # decisions without another command to the aircraft


def run(config: Replay, folder: Path) -> tuple[dict, dict[str, Figure], list[str]]:
    """Play every hour four times; returns (results, figures, faults)."""
    player = players.make(config.policy, SLOTS)
    seeds = range(config.first_seed, config.first_seed + config.hours)
    wanted = [(airport.lower(), seed) for airport in config.airports for seed in seeds]
    decisions = round(60.0 * config.minutes / STEP_S)
    rows = []
    with runs.progress(4 * decisions * len(wanted), "decision") as line:
        for airport, seed in wanted:
            line.set_postfix_str(f"{airport} {seed}")
            hour = drive(Server.of(config), airport, seed, player, config.minutes, line.update)
            again, plain, other, beside = play_again(config, airport, seed, hour, line.update)
            found = verdict(hour, again, plain, other)
            rows.append({"airport": airport, "seed": seed, **found, "beside": beside})
    return {"hours": rows}, figures(rows), faults(rows)


def play_again(config: Replay, airport: str, seed: int, hour: Hour, on_step) -> tuple[Hour, Hour, Hour, int]:
    """The hour in another browser beside a busy page, then without the shortcuts of collect/idle.js, then
    with one command changed.

    Also returns how many decisions the busy page made meanwhile.
    """
    server = Server.of(config)
    with Browser() as browser:
        busy = BusyPage(server, config.beside, browser)
        with busy, Game(server, airport, seed, browser=browser) as game:
            again = repeat(game, hour.commands, on_step)
        with PlainGame(server, airport, seed, browser=browser) as game:
            plain = repeat(game, hour.commands, on_step)
        with Game(server, airport, seed, browser=browser) as game:
            other = repeat(game, with_one_change(hour.commands)[0], on_step)
    return again, plain, other, busy.decisions


def with_one_change(commands: tuple[str | None, ...]) -> tuple[tuple[str | None, ...], int]:
    """The commands with another heading in one of them, and its index.

    It is the middle one of those whose aircraft gets its next command, but not within a minute: a heading
    that is corrected at once, or the last one of an aircraft that leaves, may leave no trace. Raises
    ValueError where there is none.
    """

    def lasts(at: int) -> bool:
        callsign = commands[at].split()[0]
        later = (i for i in range(at + 1, len(commands)) if (commands[i] or " ").split()[:1] == [callsign])
        return next(later, at) > at + UNDISTURBED

    headings = [i for i, command in enumerate(commands) if command and HEADING.search(command) and lasts(i)]
    if not headings:
        raise ValueError("no lasting heading was commanded: play longer or with another policy")
    at = headings[len(headings) // 2]

    def turn(found: re.Match) -> str:
        return f"{(int(found[0]) + TURN_DEG - 1) % 360 + 1:03d}"

    return (*commands[:at], HEADING.sub(turn, commands[at]), *commands[at + 1 :]), at


def verdict(hour: Hour, again: Hour, plain: Hour, other: Hour) -> dict:
    """What comparing an hour with its repetitions and with its changed version gave."""
    changed, at = with_one_change(hour.commands)
    pairs = list(zip(hour.digests, other.digests, strict=True))
    return {
        "decisions": len(hour.commands),
        "commands": sum(command is not None for command in hour.commands),
        "aircraft_mean": sum(hour.aircraft) / len(hour.aircraft),
        "fingerprint": hour.fingerprint,
        "fingerprint_again": again.fingerprint,
        "difference": first_difference(hour, again),
        "fingerprint_plain": plain.fingerprint,
        "difference_plain": first_difference(hour, plain),
        "changed": {"decision": at, "from": hour.commands[at], "to": changed[at]},
        "fingerprint_changed": other.fingerprint,
        "difference_changed": first_difference(hour, other),
        "decisions_flown_differently": sum(a["substeps"] != b["substeps"] for a, b in pairs),
        "end_differs_in": [name for name, digest in pairs[-1][0].items() if digest != pairs[-1][1][name]],
    }


def differs_as_it_should(row: dict) -> bool:
    """Whether a changed command changed the state from its decision on, and where aircraft flew."""
    found = row["difference_changed"]
    return (
        row["fingerprint_changed"] != row["fingerprint"]
        and found["decision"] == row["changed"]["decision"] + 1
        and "aircraft" in found["parts"]
        and row["decisions_flown_differently"] > 0
    )


def figures(rows: list[dict]) -> dict[str, Figure]:
    """1 where all hours repeated, and where all changed ones differed; n is the number of hours."""

    def all_of(values) -> Figure:
        value = float(all(values))
        return Figure(value, value, value, "", len(rows))

    return {
        "replay_identical": all_of(row["difference"] is None for row in rows),
        "replay_plain_identical": all_of(row["difference_plain"] is None for row in rows),
        "replay_changed_command_differs": all_of(differs_as_it_should(row) for row in rows),
    }


def faults(rows: list[dict]) -> list[str]:
    """A line per hour that did not repeat, or that a changed command left as it was."""
    found = []
    for row in rows:
        name = f"{row['airport']} seed {row['seed']}"
        for kind, played in (("difference", "again"), ("difference_plain", "without the shortcuts")):
            if row[kind]:
                parts = ", ".join(row[kind]["parts"])
                found.append(f"{name} {played} differs from decision {row[kind]['decision']} on in {parts}")
        if not differs_as_it_should(row):
            found.append(f"{name} does not differ as it should with {row['changed']['to']!r}")
    return found
