"""The real game as a gymnasium environment, with the model's own observation, actions and reward.

env = OpenScopeEnv(airport="klas")
observation, info = env.reset(seed=7)
observation, reward, terminated, truncated, info = env.step(action)
"""

from collections.abc import Callable, Mapping

import cv2
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from collect import GameError
from collect import slots as sl
from collect.game import Game
from collect.server import Server
from collect.snapshot import Snapshot
from wm.sector import commands, observe, reward
from wm.sector import traffic as tr
from wm.sector.airport import Airport
from wm.sector.spaces import MultiDiscrete
from wm.sector.traffic import in_play

EPISODE_S = 3600.0
TRAINING_SEEDS = 500_000  # seeds below this are for training (collect.dataset.SEEDS)


class SectorFull(GameError):
    """There are more aircraft than a recording holds; the steps before this one are complete."""


@jax.jit
def _observe(scene: tr.Scene, airport: Airport) -> dict:
    return observe.observe(scene, airport)


@jax.jit
def _decode(action, traffic: tr.Traffic, airport: Airport):
    legal = commands.is_legal(action, commands.legal_mask(traffic, airport))
    return legal, commands.decode(action, traffic, airport), commands.next_fix(traffic, airport)


@jax.jit
def _account(ledger, before, after, substeps, events, stray_points, remaining_s, airport):
    terms, metrics, ledger = reward.step_reward(
        ledger, before, after, substeps, events, stray_points, remaining_s, airport
    )
    potential = jnp.stack([reward.potential(t, airport) for t in (before, after)])
    return terms, metrics, potential, ledger


def command_text(
    action, traffic: tr.Traffic, airport: Airport, static: dict, callsigns: Mapping, routes
) -> str | None:
    """What a player types for `action [5]`; None for a no-op and for what the game would refuse."""
    if int(action[0]) >= len(traffic.valid):
        return None
    legal, command, fixes = _decode(jnp.asarray(action), traffic, airport)
    if not legal:
        return None
    slot, verb = int(command.slot), int(command.verb)
    route, fix = int(traffic.route[slot]), int(fixes[slot])
    order = {
        commands.ALTITUDE: lambda: f"a {round(float(command.altitude_ft) / 100)}",
        commands.HEADING: lambda: f"fh {round(float(command.heading_deg)):03d}",
        commands.SPEED: lambda: f"sp {round(float(command.speed_kt))}",
        commands.ILS: lambda: f"i {static['runways'][int(traffic.runway[slot])]['name']}",
        commands.DIRECT: lambda: f"dct {routes[route]['waypoints'][fix]['name']}",
    }
    return f"{callsigns[int(traffic.id[slot])]} {order[verb]()}"


class OpenScopeEnv(gymnasium.Env):
    """openScope, one decision of 5 s a step; observation and action spaces as in wm.sector.observe.

    `info`: reward_terms and metrics (wm.sector.reward), potential [2], events [e, 3] and their points as the
    page scores them, command (text sent or None), refusals, overflow (aircraft in play that had no slot in
    this step). `scene`, `columns`, `slots` and `snapshot` hold the whole state for recorders; `pictures` says
    how many the next step takes. Raises GameError where the game cannot be played.

    Args: as collect.game.Game (traffic, wind, view and browser by name), and
      slots: aircraft the observation holds (N); 48 for the largest airports.
      episode_s: time limit (s); the episode is then truncated.
      frame_s: divides the 0.5 s of a lock-step frame; separation is judged every 0.5 s all the same.
      render_mode: "rgb_array" needs a view.
      look: what becomes of the scene [N] before it is observed and before commands are made of actions;
        called with the scene and the snapshot. None: nothing.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 1 / tr.STEP_S}  # noqa: RUF012

    def __init__(
        self,
        server: Server | str | None = None,
        airport: str = "kabq",
        slots: int = 32,
        episode_s: float = EPISODE_S,
        frame_s: float = tr.FRAME_S,
        render_mode: str | None = None,
        look: Callable[[tr.Scene, Snapshot], tr.Scene] | None = None,
        **game,
    ):
        view = game.get("view")
        if render_mode == "rgb_array" and view is None:
            raise GameError('render_mode="rgb_array" needs pictures: give view=View(512)')
        if not 1 <= slots <= sl.WIDTHS[0]:
            raise GameError(f"slots of {slots} must be 1 to {sl.WIDTHS[0]}")
        if frame_s <= 0 or abs(tr.FRAME_S / frame_s - round(tr.FRAME_S / frame_s)) > 1e-9:
            raise GameError(f"a frame of {frame_s!r} s must divide the {tr.FRAME_S:g} s of lock-step")
        self.episode_s, self.render_mode, self.look = episode_s, render_mode, look
        self.slots = np.full(slots, sl.FREE, np.int64)
        self.pictures = 0 if view is None else view.each
        self.game = Game(server, airport, frame_s=frame_s, **game)
        self.action_space = MultiDiscrete(commands.space_sizes(slots)).to_gymnasium()
        self.observation_space = _observation_space(slots)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Start an episode; `options` may hold airport, traffic and wind. No seed draws one for training."""
        super().reset(seed=seed)
        chosen = int(self.np_random.integers(TRAINING_SEEDS)) if seed is None else seed
        self.seed_played = chosen
        snapshot = self.game.reset(seed=chosen, **(options or {}))
        self.columns = np.full(sl.width_for(len(snapshot.aircraft)), sl.FREE, np.int64)
        self.slots = np.full_like(self.slots, sl.FREE)
        self._ledger = reward.empty_ledger(len(self.columns))
        self._stray: set[tuple[int, int]] = set()
        self._routes, self._points = -1, 0.0
        overflow = self._settle(snapshot)
        info = {"overflow": overflow, "points": 0.0, "command": None, "refusals": ()}
        return self._observation, info

    def step(self, action):
        """Send `action [5]`, let 5 s pass.

        Raises GameError where the game stops or scores other points than its events have.
        """
        command = command_text(
            action, self._playing.traffic, self.airport, self.game.static,
            self.snapshot.callsigns, self.snapshot.routes,
        )  # fmt: skip
        snapshot = self.game.step(command, pictures=self.pictures)
        self._points += snapshot.points
        if self._points != snapshot.score:
            raise GameError(
                f"the page shows {snapshot.score:g} points where its events add up to {self._points:g}: "
                "this version of the game scores in a way the bridge does not know"
            )
        self._make_room(snapshot)
        before, columns = self.scene.traffic, self.columns
        overflow = self._settle(snapshot)
        events, stray = sl.events_of(snapshot, columns, self.columns)
        unpaid = [pair for pair in stray if pair[0] < 0 or pair not in self._stray]
        self._stray.update(stray)
        stray_points = float(sum(tr.EVENT_POINTS[code] for _, code in unpaid))
        # No column changes hands within a step, so the aircraft before and after it fit in one table.
        during = np.where(columns == sl.FREE, self.columns, columns)
        remaining = np.float32(self.episode_s - snapshot.time_s)
        terms, metrics, potential, self._ledger = _account(
            self._ledger, before, self.scene.traffic, sl.substeps_of(snapshot, during),
            events, np.float32(stray_points), remaining, self.airport,
        )  # fmt: skip
        terms = {name: float(value) for name, value in terms.items()}
        info = {
            "reward_terms": terms,
            "metrics": {name: float(value) for name, value in metrics.items()},
            "potential": np.asarray(potential),
            "events": snapshot.events,
            "points": snapshot.points,
            "command": command,
            "refusals": snapshot.refusals,
            "overflow": overflow,
        }
        truncated = bool(snapshot.time_s >= self.episode_s)
        return self._observation, sum(terms.values()), False, truncated, info

    def _make_room(self, snapshot: Snapshot) -> None:
        """Take a larger table of columns where the aircraft that come with a snapshot need one.

        Most airports never need it, and judging all pairs of the largest table costs milliseconds a decision.
        """
        lost = sl.assign(self.columns, sl.aircraft_ids(snapshot))[1]
        width = sl.width_for(len(self.columns) + lost)
        if lost and width > len(self.columns):
            more = np.full(width - len(self.columns), sl.FREE)
            self.columns = np.concatenate([self.columns, more])
            self._ledger = sl.widen(self._ledger, width)
            self.scene = sl.scene_of(self.snapshot, self.columns)

    def _settle(self, snapshot: Snapshot) -> int:
        """Take in a snapshot; return how many aircraft in play have no slot."""
        self.snapshot = snapshot
        self.columns, lost = sl.assign(self.columns, sl.aircraft_ids(snapshot))
        if lost:
            raise SectorFull(
                f"{lost} aircraft more than the {len(self.columns)} that a recording holds: lower the traffic"
            )
        if len(snapshot.routes) != self._routes:
            self.airport = sl.padded_airport(self.game.static, snapshot.routes)
            self._routes = len(snapshot.routes)
        self.scene = sl.scene_of(snapshot, self.columns)
        everyone = tr.from_table(tr.Traffic, snapshot.aircraft)
        playing = np.asarray(in_play(everyone))
        self.slots, overflow = sl.assign(self.slots, everyone.id[playing].astype(np.int64))
        self._playing = sl.scene_of(snapshot, self.slots)
        if self.look is not None:
            self._playing = self.look(self._playing, snapshot)
        self._observation = jax.tree.map(np.asarray, _observe(self._playing, self.airport))
        return overflow

    def render(self):
        """The last picture `[P, P, 3]` uint8, RGB."""
        data = np.frombuffer(self.snapshot.picture, np.uint8)
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

    def close(self):
        """Close the page and, where it is this environment's own, the browser."""
        self.game.close()


def _observation_space(slots: int) -> spaces.Dict:
    _, verbs, levels, headings, speeds = commands.space_sizes(slots)

    def real(*shape):
        return spaces.Box(-np.inf, np.inf, shape, np.float32)

    def flags(*shape):
        return spaces.Box(0, 1, shape, np.bool_)

    return spaces.Dict(
        {
            "aircraft": real(slots, len(observe.FEATURES)),
            "aircraft_mask": flags(slots),
            "global_state": real(len(observe.GLOBAL_FEATURES)),
            "action_mask": spaces.Dict(
                {
                    "aircraft": flags(slots + 1),
                    "verb": flags(slots, verbs),
                    "altitude": flags(slots, levels),
                    "heading": flags(slots, headings),
                    "speed": flags(slots, speeds),
                }
            ),
        }
    )
