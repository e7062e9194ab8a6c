"""Play episodes of the real game with some policy and store them.

A policy is an object with `reset(seed)` and `policy(observation) -> action int32[5]`, on the
observations of collect.env. What is stored is skipped, so the same call goes on after a stop.
"""

import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import cv2
import numpy as np
from PIL import Image

from collect import GameError, store
from collect.browser import BrowserLost
from collect.env import OpenScopeEnv
from collect.slots import FREE
from wm import commands
from wm import traffic as tr

ATTEMPTS = 3  # of one episode, when the browser crashes


class Policy(Protocol):
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

    @property
    def key(self) -> str:
        """The job as JSON, with the version of the collector."""
        fields = dataclasses.asdict(self) | {"collector_version": store.COLLECTOR_VERSION}
        return json.dumps(fields, sort_keys=True)


def _row(env: OpenScopeEnv, overflow: int, picture: bytes | None) -> dict:
    """The observation part of a step, from the environment's whole state and the picture to store."""
    scene, where = env.scene, {int(i): k for k, i in enumerate(env.slots) if i != FREE}
    slots = np.asarray([where.get(int(i), -1) for i in env.columns], np.int32)

    def columns(value, size):
        fields = {}
        for name, spec in tr.schema(type(value)).items():
            out = np.full(size, spec["default"], spec["dtype"])
            found = np.asarray(getattr(value, name))
            out[: len(found)] = store.rounded(name, found)
            fields[name] = out
        return fields

    since_spawn = np.full(store.STREAMS, -1, np.float32)
    since_spawn[: len(scene.since_spawn_s)] = scene.since_spawn_s
    row = {
        "traffic": columns(scene.traffic, len(env.columns)),
        "runways": columns(scene.runways, store.RUNWAYS),
        "since_spawn_s": since_spawn,
        "wind_speed_kt": scene.wind_speed_kt,
        "wind_from_rad": scene.wind_from_rad,
        "time_s": scene.time_s,
        "score": np.float32(env.snapshot.score),
        "slots": slots,
        "overflow": np.int32(overflow),
    }
    return row | ({} if picture is None else {"picture": picture})


def stored_picture(png: bytes, colours: int | None) -> bytes:
    """The page's picture as a PNG of three channels, without its opaque fourth, or of so many colours.

    256 colours take less than half the space; one pixel in a thousand, at edges, changes visibly.
    """
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if colours is None:
        return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
    out = io.BytesIO()
    rgb = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    rgb.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def _outcome(action, command, events, terms, first: bool, last: bool) -> dict:
    """The rest of a step: the action and what came of it."""
    if len(events) > store.EVENTS:
        raise GameError(f"{len(events)} events in one step; a recording holds {store.EVENTS}")
    rows = np.full((store.EVENTS, 3), -2, np.int32)
    rows[: len(events)] = np.reshape(events, (-1, 3))
    return {
        "action": np.asarray(action, np.int32),
        "command": command or "",
        "events": rows,
        "terms": {name: np.float32(terms.get(name, 0.0)) for name in store.TERMS},
        "reward": np.float32(sum(terms.values())),
        "discount": np.float32(1.0),  # episodes end by the clock, never by themselves
        "is_first": first,
        "is_last": last,
        "is_terminal": False,
    }


def play(
    env: OpenScopeEnv,
    policy: Policy,
    job: Job,
    on_step: Callable[[], None] = lambda: None,
    picture_colours: int | None = None,
) -> dict:
    """Play one episode and return it as store.EpisodeWriter.write takes it.

    Raises GameError where the game stops, shows other points than its events add up to, or
    returns something that is not a number.
    """
    started = time.time()

    def row(overflow: int) -> dict:
        png = env.snapshot.picture
        return _row(env, overflow, None if png is None else stored_picture(png, picture_colours))

    env.episode_s = job.episode_s
    options = {"airport": job.airport, "traffic": job.traffic, "wind": job.wind}
    observation, info = env.reset(seed=job.seed, options=options)
    policy.reset(job.seed)
    steps, truncated = [], False
    while not truncated:
        before = row(info["overflow"])
        action = np.asarray(policy(observation), np.int32)
        observation, _, _, truncated, info = env.step(action)
        outcome = _outcome(action, info["command"], info["events"], info["reward_terms"], not steps, False)
        steps.append({"observation": before, **outcome})
        on_step()
    noop = np.asarray([len(env.slots), 0, 0, 0, 0], np.int32)
    steps.append({"observation": row(info["overflow"]), **_outcome(noop, None, (), {}, False, True)})
    about = {
        "policy": job.policy,
        "game_version": env.game.static["version"],
        "frame_s": env.game.frame_s,
        "wind": [env.snapshot.wind_speed_kt, env.snapshot.wind_from_rad],
        "traffic": job.traffic,
        "slots": job.slots,
        "picture_colours": picture_colours,
        "action_sizes": list(commands.space_sizes(job.slots)),
        "recorded_s": round(time.time() - started, 1),
    }
    metadata = {
        "airport": job.airport,
        "seed": job.seed,
        "schema_version": tr.SCHEMA_VERSION,
        "key": job.key,
        "about": json.dumps(about),
        "static": json.dumps(env.game.static),
        "routes": json.dumps(env.snapshot.routes),
        "callsigns": json.dumps(env.snapshot.callsigns),
    }
    return {"steps": steps, "episode_metadata": metadata}


def record(
    jobs: Iterable[Job],
    policies: dict[str, Policy],
    writer: store.EpisodeWriter,
    url: str | None = None,
    picture_px: int | None = None,
    on_step: Callable[[], None] = lambda: None,
    picture_colours: int | None = None,
) -> Iterator[Job]:
    """Play and store `jobs` one after the other, yielding each when it is stored.

    A crash of the browser costs the episode under way, which is played again; after three in a row
    the error is passed on. Jobs of different airports or slots may be mixed.
    """
    env = None
    try:
        for job in jobs:
            for attempt in range(ATTEMPTS):
                if env is None or len(env.slots) != job.slots:
                    env = _replace(env, job, url, picture_px)
                try:
                    example = play(env, policies[job.policy], job, on_step, picture_colours)
                    break
                except BrowserLost:
                    env.close()
                    env = None
                    if attempt == ATTEMPTS - 1:
                        raise
            writer.write(example)
            yield job
    finally:
        if env is not None:
            env.close()


def _replace(env: OpenScopeEnv | None, job: Job, url, picture_px) -> OpenScopeEnv:
    if env is not None:
        env.close()
    return OpenScopeEnv(url, job.airport, slots=job.slots, picture_px=picture_px)
