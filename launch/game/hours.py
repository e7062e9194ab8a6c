"""Hours of the real game: played by a policy, and played again from their seed and commands.

T decisions; what the page returns at the start and after each is kept as digests, T + 1 of them.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from collect import GameError
from collect.browser import Browser
from collect.env import OpenScopeEnv
from collect.game import Game
from collect.server import Server
from launch.shared.players import Player


@dataclass(frozen=True)
class Hour:
    """One episode as it was played.

    Attributes:
      actions: what the policy chose at each decision, [T] of int32[5]; empty where it did not choose.
      commands: what was typed at each decision [T], None where nothing was.
      digests: Snapshot.digests at the start and after each decision [T + 1].
      aircraft: in the game at those times [T + 1].
    """

    actions: tuple[np.ndarray, ...]
    commands: tuple[str | None, ...]
    digests: tuple[dict[str, str], ...]
    aircraft: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every field, event and log line of the whole episode."""
        return hashlib.sha256(json.dumps(self.digests, sort_keys=True).encode()).hexdigest()


def drive(
    server: Server, airport: str, seed: int, player: Player, minutes: int, on_step: Callable[[int], None]
) -> Hour:
    """Play an episode in a browser of its own."""
    env = OpenScopeEnv(server, airport, episode_s=60.0 * minutes)
    try:
        observation, _ = env.reset(seed=seed)
        player.reset(seed)
        actions, commands, snapshots, truncated = [], [], [_kept(env.snapshot)], False
        while not truncated:
            actions.append(player(observation))
            observation, _, _, truncated, info = env.step(actions[-1])
            commands.append(info["command"])
            snapshots.append(_kept(env.snapshot))
            on_step(1)
    finally:
        env.close()
    return _hour(actions, commands, snapshots)


def repeat(game: Game, commands: Sequence[str | None], on_step: Callable[[int], None]) -> Hour:
    """Type `commands` at the decisions of a game that has just been reset."""
    snapshots = [_kept(game.snapshot)]
    for command in commands:
        snapshots.append(_kept(game.step(command)))
        on_step(1)
    return _hour((), commands, snapshots)


def _kept(snapshot) -> tuple[dict[str, str], int]:
    return snapshot.digests(), len(snapshot.aircraft)


def _hour(actions, commands, snapshots) -> Hour:
    digests, aircraft = zip(*snapshots, strict=True)
    return Hour(tuple(actions), tuple(commands), digests, aircraft)


def first_difference(one: Hour, other: Hour) -> dict | None:
    """The first decision after which two episodes differ and in what parts; None where they are equal."""
    for decision, (a, b) in enumerate(zip(one.digests, other.digests, strict=True)):
        if a != b:
            return {"decision": decision, "parts": sorted(name for name in a if a[name] != b[name])}
    return None


class BusyPage:
    """Another page of a browser, which a thread plays as fast as it can until the block is left.

    `decisions` says how far it came. Raises GameError, in the block's end, where it stopped early.
    """

    def __init__(self, server: Server, airport: str, browser: Browser):
        self._game = Game(server, airport, browser=browser)
        self._stop, self._playing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._play, name="busy page")
        self._error, self.decisions = None, 0

    def _play(self) -> None:
        try:
            with self._game as game:
                while not self._stop.is_set():
                    game.step()
                    self.decisions += 1
                    self._playing.set()
        except GameError as error:
            self._error = error
        finally:
            self._playing.set()

    def __enter__(self):
        self._thread.start()
        self._playing.wait()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        if self._error is not None and exception[0] is None:
            raise self._error
