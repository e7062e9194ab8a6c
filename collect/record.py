"""Play episodes of the real game with some player and store them.

A player is an object with `reset(seed)` and `player(observation) -> action int32[5]`, on the
observations of collect.env.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

from collect import GameError, GameFault, layout, store
from collect.browser import Browser, BrowserLost
from collect.env import OpenScopeEnv, SectorFull
from collect.pictures import NO_PICTURE, View
from collect.server import Server
from collect.slots import COLUMNS, slots_of
from wm.sector import commands
from wm.sector import traffic as tr

ATTEMPTS = 3  # of one episode, when the browser crashes


class Player(Protocol):
    """Chooses actions from observations; `reset` before each episode."""

    def reset(self, seed: int) -> None: ...

    def __call__(self, observation: dict) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Job:
    """One episode to play; two jobs with equal keys are the same episode."""

    airport: str
    seed: int
    policy: str
    policy_hash: str = ""  # of its parameters
    traffic: float = 1.0
    wind: tuple[int, int] | None = None  # from, degrees; speed, kt
    episode_s: float = 3600.0
    slots: int = 32
    every: int = 1  # the player acts, and a picture is taken, in one of so many decisions

    @property
    def key(self) -> str:
        """The job as JSON, with the version of the collector."""
        fields = dataclasses.asdict(self) | {"collector_version": store.COLLECTOR_VERSION}
        if self.every == 1:  # as in recordings made before there was a choice
            del fields["every"]
        return json.dumps(fields, sort_keys=True)


def acts_in(decision: int, every: int) -> bool:
    """Whether a player that acts in one of `every` decisions acts in that one, counted from 0.

    Of three it is the second, at 5 s, 20 s and so on: there the data blocks show altitude and speed.
    """
    return decision % every == 1 % every


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who is told how a recording goes on.

    Attributes:
      on_step: after every decision; what it raises ends the recording.
      on_lost: why a browser was lost; its episode is begun again.
      on_fault: why the game could not start an episode, which is left out; None has GameFault raised.
      on_moved: the address that the server leads to, where that is on another host.
    """

    on_step: Callable[[], None] = lambda: None
    on_lost: Callable[[str], None] = lambda why: None
    on_fault: Callable[[str], None] | None = None
    on_moved: Callable[[str], None] = lambda address: None


def _row(env: OpenScopeEnv, overflow: int, before: dict | None = None) -> dict:
    """The observation part of a step, from the environment's whole state.

    Where no picture was taken it repeats that of the row `before` it, on page -1.
    """
    scene, slots = env.scene, np.full(COLUMNS, -1, np.int32)
    slots[: len(env.columns)] = slots_of(env.columns, env.slots)

    def columns(value, size):
        fields = {}
        for name, spec in tr.schema(type(value)).items():
            out = np.full(size, spec["default"], spec["dtype"])
            found = np.asarray(getattr(value, name))
            out[: len(found)] = layout.rounded(name, found)
            fields[name] = out
        return fields

    since_spawn = np.full(layout.STREAMS, -1, np.float32)
    since_spawn[: len(scene.since_spawn_s)] = scene.since_spawn_s
    row = {
        "traffic": columns(scene.traffic, COLUMNS),
        "runways": columns(scene.runways, layout.RUNWAYS),
        "since_spawn_s": since_spawn,
        "wind_speed_kt": scene.wind_speed_kt,
        "wind_from_rad": scene.wind_from_rad,
        "time_s": scene.time_s,
        "score": np.float32(env.snapshot.score),
        "slots": slots,
        "overflow": np.int32(overflow),
    }
    snapshot = env.snapshot
    if snapshot.picture is not None:
        row |= {"picture": snapshot.picture, "picture_page": np.int32(snapshot.picture_pages[-1])}
    elif before is not None and "picture" in before:
        row |= {"picture": before["picture"], "picture_page": np.int32(NO_PICTURE)}
    return row


def noop(env: OpenScopeEnv) -> np.ndarray:
    """The action int32 [5] that commands nothing."""
    return np.asarray([len(env.slots), 0, 0, 0, 0], np.int32)


def _outcome(action, command, events, terms, first: bool, last: bool) -> dict:
    """The rest of a step: the action and what came of it."""
    if len(events) > layout.EVENTS:
        raise GameError(f"{len(events)} events in one step; a recording holds {layout.EVENTS}")
    rows = np.full((layout.EVENTS, 3), -2, np.int32)
    rows[: len(events)] = np.reshape(events, (-1, 3))
    return {
        "action": np.asarray(action, np.int32),
        "command": command or "",
        "events": rows,
        "terms": {name: np.float32(terms.get(name, 0.0)) for name in layout.TERMS},
        "reward": np.float32(sum(terms.values())),
        "discount": np.float32(1.0),  # episodes end by the clock, never by themselves
        "is_first": first,
        "is_last": last,
        "is_terminal": False,
    }


def _between(shots: tuple[bytes, ...], pages: tuple[int, ...]) -> dict:
    """The part of a step for the pictures taken before its end; empty where there are none."""
    named = {f"picture_{i}": shot for i, shot in enumerate(shots, 1)}
    named |= {f"page_{i}": np.int32(page) for i, page in enumerate(pages, 1)}
    return {"between": named} if named else {}


def _metadata(env: OpenScopeEnv, job: Job, about: dict) -> dict:
    """What is stored of an episode beside its steps."""
    view = env.game.view
    about = about | {
        "policy": job.policy,
        "game_version": env.game.static["version"],
        "frame_s": env.game.frame_s,
        "wind": [env.snapshot.wind_speed_kt, env.snapshot.wind_from_rad],
        "traffic": job.traffic,
        "slots": job.slots,
        "view": None if view is None else dataclasses.asdict(view),
        "action_sizes": list(commands.space_sizes(job.slots)),
    }
    if job.every > 1:
        about["every"] = job.every
    return {
        "airport": job.airport,
        "seed": job.seed,
        "schema_version": tr.SCHEMA_VERSION,
        "key": job.key,
        "about": json.dumps(about),
        "static": json.dumps(env.game.static),
        "routes": json.dumps(env.snapshot.routes),
        "callsigns": json.dumps(env.snapshot.callsigns),
    }


def play(env: OpenScopeEnv, player: Player, job: Job, listener: Listener = Listener()) -> dict:
    """Play one episode and return it as store.EpisodeWriter.write takes it.

    An episode ends early, before the decision in which more aircraft come than a recording holds or in
    which the game's own code fails.

    Raises GameError where the game stops, shows other points than its events add up to, or
    returns something that is not a number.
    """
    started = time.monotonic()
    env.episode_s = job.episode_s
    options = {"airport": job.airport, "traffic": job.traffic, "wind": job.wind}
    observation, info = env.reset(seed=job.seed, options=options)
    if env.game.page.moved:
        listener.on_moved(env.game.page.address)
    player.reset(job.seed)
    steps, truncated, cut, before = [], False, None, None
    shots = 0 if env.game.view is None else env.game.view.each
    while not truncated:
        before = _row(env, info["overflow"], before)
        action = np.asarray(player(observation), np.int32) if acts_in(len(steps), job.every) else noop(env)
        env.pictures = shots if acts_in(len(steps) + 1, job.every) else 0
        try:
            observation, _, _, truncated, info = env.step(action)
        except (SectorFull, GameFault) as error:
            if not steps:
                raise
            cut, last_row = str(error), before
            break
        outcome = _outcome(action, info["command"], info["events"], info["reward_terms"], not steps, False)
        course = _between(env.snapshot.pictures[:-1], env.snapshot.picture_pages[:-1])
        steps.append({"observation": before, **outcome, **course})
        listener.on_step()
    else:
        last_row = _row(env, info["overflow"], before)
    steps.append(_last_step(env, last_row))
    about = {"cut": cut, "recorded_s": round(time.monotonic() - started, 1)}
    return {"steps": steps, "episode_metadata": _metadata(env, job, about)}


def _last_step(env: OpenScopeEnv, row: dict) -> dict:
    """The step that holds the final observation `row`, and a no-op."""
    last = _outcome(noop(env), None, (), {}, False, True)
    rest = 0 if env.game.view is None else env.game.view.each - 1
    course = _between((row.get("picture"),) * rest, (row.get("picture_page"),) * rest)
    return {"observation": row, **last, **course}


class SharedBrowser:
    """One browser for the pages of several threads; the first that finds it lost opens the next."""

    def __init__(self):
        self._lock = threading.Lock()
        self._browser: Browser | None = None

    def get(self) -> Browser:
        """The browser, a new one where the last is known to be lost."""
        with self._lock:
            if self._browser is not None and self._browser.lost:
                self._browser.close()
                self._browser = None
            if self._browser is None:
                self._browser = Browser()
            return self._browser

    def close(self) -> None:
        """End the browser, if there is one."""
        with self._lock:
            if self._browser is not None:
                self._browser.close()
                self._browser = None


def record(
    jobs: Iterable[Job],
    players: dict[str, Player],
    writer: store.EpisodeWriter,
    server: Server | str | None = None,
    view: View | None = None,
    listener: Listener = Listener(),
    browsers: SharedBrowser | None = None,
) -> Iterator[Job]:
    """Play and store `jobs` one after the other, yielding each when it is stored.

    A browser that crashes, or that does not answer for a minute, is replaced and costs the episode under
    way, which is begun again; after three in a row the error is passed on. Jobs of different airports or
    slots may be mixed. `browsers` are shared with other pages; None opens one.
    """
    own = browsers is None
    stage = Stage(server, view, SharedBrowser() if own else browsers)
    try:
        for job in jobs:
            try:
                example = _play_again(stage, players[job.policy], job, listener)
            except GameFault as error:
                if listener.on_fault is None:
                    raise
                listener.on_fault(str(error))
                continue
            writer.write(example)
            yield job
    finally:
        stage.clear()
        if own:
            stage.browsers.close()


@dataclasses.dataclass
class Stage:
    """The environment that episodes are played in; one with other slots or a lost browser is replaced."""

    server: Server | str | None
    view: View | None
    browsers: SharedBrowser
    env: OpenScopeEnv | None = None

    def set_for(self, job: Job) -> OpenScopeEnv:
        """An environment with the job's number of slots."""
        if self.env is None or len(self.env.slots) != job.slots:
            self.clear()
            browser = self.browsers.get()
            self.env = OpenScopeEnv(self.server, job.airport, job.slots, browser=browser, view=self.view)
        return self.env

    def clear(self) -> None:
        """Close the environment, if there is one."""
        if self.env is not None:
            self.env.close()
        self.env = None


def _play_again(stage: Stage, player: Player, job: Job, listener: Listener) -> dict:
    """`play`, in a fresh browser each time that one is lost."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return play(stage.set_for(job), player, job, listener)
        except BrowserLost as error:
            stage.clear()
            if attempt == ATTEMPTS:
                raise
            listener.on_lost(str(error))
    raise AssertionError("unreachable")
