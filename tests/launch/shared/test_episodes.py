"""Episodes of the real game and of the model: the same figures from the same hour, and games that fail."""

import itertools
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collect import GameError, GameFault, dataset
from collect.browser import BrowserLost
from collect.slots import FREE, padded_airport
from configs.evaluation import EvaluationConfig
from launch.shared import episodes, in_game, players, scoreboard
from rl import evaluate
from rl.acting import Policy
from wm.sector import traffic as tr
from wm.store.provenance import ROOT

SHIPPED = ROOT / "collect" / "data" / "shipped"
KLAS_RANDOM, KLAS_EXPERT = 1, 5  # of the shipped hours for training


def recording(number):
    return next(itertools.islice(dataset.load(SHIPPED / "train"), number, None))


def counted(hour):
    """Terms and metrics `[T]` of a recorded hour, as far as it tells."""
    happened = {name.lower(): hour.events[..., i].sum(1) for i, name in enumerate(tr.EVENT_NAMES)}
    nothing = dict.fromkeys([*evaluate.COUNTS, "overflow"], np.zeros(len(hour.action)))
    return hour.terms, nothing | happened | {"loss_game": hour.terms["loss"] / -200.0}


class RecordedGame:
    """What in_game.play asks of OpenScopeEnv, answered from a recorded hour."""

    look = None

    def __init__(self, hour):
        self.hour, self.airport = hour, padded_airport(hour.static, hour.routes)
        self.terms, self.metrics = counted(hour)
        self.snapshot = SimpleNamespace(score=float(hour.score[-1]))
        self.game = SimpleNamespace(static={"version": "recorded"})
        self._to(0)

    def _to(self, t):
        self.time = t
        traffic = jax.tree.map(lambda leaf: leaf[t], self.hour.scene.traffic)
        self.scene = SimpleNamespace(traffic=traffic)
        self.columns = np.where(traffic.valid, traffic.id, FREE)
        self.slots = np.full(32, FREE)
        has_one = self.hour.slots[t] >= 0
        self.slots[self.hour.slots[t][has_one]] = self.columns[has_one]

    def step(self, action):
        t = self.time
        at = lambda counts: {name: float(values[t]) for name, values in counts.items()}  # noqa: E731
        command = self.hour.command[t] or None
        self._to(t + 1)
        info = {
            "overflow": 0, "events": np.zeros((0, 3), int), "command": command, "refusals": (),
            "reward_terms": at(self.terms), "metrics": at(self.metrics),
        }  # fmt: skip
        return self.time, 0.0, False, self.time == len(self.hour.action), info


class RecordedPlayer:
    """Sends what was sent in a recorded hour; the observation is the time."""

    def __init__(self, hour):
        self.hour = hour

    def reset(self, seed):
        pass

    def __call__(self, t):
        return self.hour.slot_action[t]


class RecordedModel:
    """What evaluate.rollout asks of the model's environment, answered from a recorded hour.

    Aircraft are in other slots than in the recording.
    """

    def __init__(self, hour):
        traffic = hour.scene.traffic
        self.used = np.flatnonzero(traffic.valid.any(0))[::-1]
        self.traffic = jax.tree.map(lambda leaf: jnp.asarray(leaf[:, self.used]), traffic)
        self.counted = jax.tree.map(jnp.asarray, counted(hour))
        slot_of = np.full(traffic.valid.shape[1] + 1, len(self.used))
        slot_of[self.used] = np.arange(len(self.used))
        action = hour.action.copy()
        action[:, 0] = slot_of[action[:, 0]]
        self.action, self.sent = jnp.asarray(action), jnp.asarray([bool(text) for text in hour.command])

    def _observe(self, t):
        n = len(self.used)
        allowed = self.sent[jnp.minimum(t, len(self.sent) - 1)]
        sizes = {"verb": 5, "altitude": 9, "heading": 7, "speed": 4}
        mask = {name: jnp.broadcast_to(allowed, (n, size)) for name, size in sizes.items()}
        return {"aircraft_mask": jnp.zeros(n), "action_mask": mask, "time": t}

    def reset_env(self, key, params):
        return self._observe(jnp.int32(0)), jnp.int32(0)

    def step_env(self, key, t, action, params):
        terms, metrics = jax.tree.map(lambda values: values[t], self.counted)
        info = {"reward_terms": terms, "metrics": metrics}
        return self._observe(t + 1), t + 1, 0.0, False, info


def played_in_the_model(hour):
    env, place = RecordedModel(hour), padded_airport(hour.static, hour.routes)
    policy = Policy(lambda key: (), lambda params, memory, seen, key: (env.action[seen["time"]], memory))
    look = lambda params, t: evaluate.tracks_of(jax.tree.map(lambda x: x[t], env.traffic), place)  # noqa: E731
    game = evaluate.rollout(env, policy, look, 60)
    carry, first = game.start((), jax.random.split(jax.random.key(0), 1))
    chunks = []
    for _ in range(len(hour.action) // 60):
        carry, chunk = game.advance((), (), carry)
        chunks.append(jax.tree.map(np.asarray, chunk))
    (trace,) = evaluate.episodes_of(jax.tree.map(np.asarray, first), chunks)
    return evaluate.summarise(trace, place)


@pytest.fixture(scope="module", params=[KLAS_RANDOM, KLAS_EXPERT])
def hour(request):
    return recording(request.param)


@pytest.fixture(scope="module")
def real(hour):
    on_steps = []
    env, start = RecordedGame(hour), (0, {"overflow": 0})
    found = in_game.play(env, RecordedPlayer(hour), 7, start, threading.Event(), on_steps.append)
    assert sum(on_steps) == len(hour.action)
    return found


def test_both_worlds_give_the_same_figures_of_the_same_hour(hour, real):
    imagined = played_in_the_model(hour)
    assert real["commands"] == sum(bool(text) for text in hour.command) > 100
    for name, value in imagined.items():
        if isinstance(value, list):
            assert sorted(real[name]) == pytest.approx(sorted(value), abs=2e-3), name
        else:
            assert real[name] == pytest.approx(value, rel=1e-4), name


def test_losses_found_between_decisions_are_those_of_the_game_s_frames(hour, real):
    assert len(real["loss_severity"]) == round(hour.terms["loss"].sum() / -200.0) == real["loss_game"]
    assert all(0 < severity < 1 for severity in real["loss_severity"])


def test_figures_of_a_recorded_hour_agree_with_its_events(hour, real):
    assert real["landed_flights"] == real["landed"] > 0
    assert len(real["threshold_spacing_s"]) in (real["landed"] - 1, real["landed"])  # one may roll at the end
    assert (real["go_arounds"] > 0) == (hour.policy == "random")
    assert real["level_segments"] > 0
    # Delay and extra miles tell of the same flights; 210 kt are 3.5 nm a minute.
    assert -5.0 < real["extra_nm"] - real["delay_s"] / 60.0 * 3.5 < 10.0


# Seeds that fail


class FailingGame(RecordedGame):
    """Fails at the third decision of each episode with `playing`, at each start with the next `starting`."""

    def __init__(self, hour, playing=None, starting=()):
        super().__init__(hour)
        self.playing, self.starting, self.begun, self.closed = playing, iter(starting), 0, 0

    def reset(self, seed):
        self.begun += 1
        if error := next(self.starting, None):
            raise error
        self._to(0)
        return 0, {"overflow": 0}

    def step(self, action):
        if self.time == 2 and self.playing:
            raise self.playing
        return super().step(action)

    def close(self):
        self.closed += 1


def play_again(env):
    return in_game._play_again(env, RecordedPlayer(env.hour), 7, threading.Event(), lambda decisions: None)


def test_a_seed_that_stops_the_game_each_time_is_left_out_and_may_be_tried_again(hour):
    hanging = FailingGame(hour, BrowserLost("hung"))
    assert play_again(hanging) == {"fault": "hung", "again": True}
    assert hanging.begun == hanging.closed == in_game.ATTEMPTS
    faulty = FailingGame(hour, GameFault("no route"))
    assert play_again(faulty) == {"fault": "no route"}  # for good, and at once
    assert faulty.begun == faulty.closed == 1
    crashed_once = FailingGame(hour, starting=[BrowserLost("crashed")])
    assert play_again(crashed_once)["hours"] == 1.0


def test_a_game_that_does_not_begin_is_no_fault_of_the_seed(hour):
    gone = GameError("not reachable")
    for game in (
        FailingGame(hour, starting=[gone] * 3),
        FailingGame(hour, BrowserLost("hung"), [None, gone, gone]),
    ):
        with pytest.raises(GameError, match="not reachable"):
            play_again(game)


def test_the_other_seeds_go_on_and_a_later_run_tries_the_failed_ones_again(tmp_path):
    config, player = EvaluationConfig(cache=tmp_path), players.make("noop", 32)
    found = {
        1: {"overflow": 0},
        2: {"fault": "hung", "again": True},
        3: {"fault": "no route"},
        4: {"overflow": 0},
    }
    asked = []

    def play(player, seeds, on_step):
        asked.append(list(seeds))
        yield from ((seed, found[seed]) for seed in seeds)

    world = episodes.World("real", "a-game", play)

    def board():
        return {seed: episodes.read(world.path(config, player, seed)) for seed in found}

    notes = list(episodes.play_missing(config, world, player, found, None))
    assert notes == ["seed 2 of noop is left out: hung", "seed 3 of noop is left out: no route"]
    assert list(scoreboard.valid(board())) == [1, 4]
    found[2] = {"overflow": 0}
    assert list(episodes.play_missing(config, world, player, found, None)) == []
    assert asked == [[1, 2, 3, 4], [2]]
    assert list(scoreboard.valid(board())) == [1, 2, 4]
