"""The comparison of single commands: what a run plays, keeps, sums up and refuses."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from configs.rollouts import Rollouts
from launch import rollouts as command
from launch.shared import records
from rl.acting import Policy
from rl.rollouts import Choice, Moment
from rl.sequence import remember
from tests.rl.acting import PLACE, SLOTS, flown, observed
from tests.wm import scenes
from wm.sector.traffic import Scene
from wm.state.params import EnvParams

SMALL = ("--states", "4", "--commands", "3", "--keys", "2", "--minutes", "1", "--at-minutes", "1", "2")
GAIN = 7.0


def line(minute, own, chosen, gain, arrivals=3) -> dict:
    told = {"minute": minute, "aircraft": 5, "arrivals": arrivals, "own": own, "chosen": chosen}
    return told | {"changed": own != chosen, "promised": 2 * gain, "gain": gain, "terms": {"score": gain}}


def played(config, player, minute, on_step):
    """Every state gains as much."""
    on_step(1)
    return [line(minute, None, "heading", GAIN) for _ in range(config.states)]


class Members:
    members = 4


@pytest.fixture
def quick(monkeypatch):
    """A run whose states need no model; the minutes that were played."""
    minutes = []
    monkeypatch.setattr(command.Player, "of", lambda config: Members())
    monkeypatch.setattr(command, "play", lambda *given: minutes.append(given[2]) or played(*given))
    return minutes


def test_a_run_leaves_its_states_and_figures_and_is_not_played_twice(tmp_path, quick, capsys):
    asked = ["--out", str(tmp_path / "run"), *SMALL]
    command.main(asked)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["states"] == 8
    assert results["gains"]["all"]["value"] == GAIN
    assert results["gains"]["changed to: heading"]["n"] == 8
    assert (tmp_path / "run" / "gains.png").stat().st_size > 0
    command.main([*asked, "3"])  # another minute
    assert quick == [1, 2, 3]
    assert "minute 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "results.json").read_text())["states"] == 12
    command.main([*asked[:-2], "4"])  # this one alone: the others stay
    assert json.loads((tmp_path / "run" / "results.json").read_text())["states"] == 4
    command.main([*asked, "3", "4"])
    assert quick == [1, 2, 3, 4]


def test_a_folder_of_other_options_is_refused(tmp_path, quick, capsys):
    asked = ["--out", str(tmp_path / "run"), *SMALL]
    command.main(asked)
    with pytest.raises(SystemExit):
        command.main([*asked, "--seed", "1"])
    assert "of a run with other options" in capsys.readouterr().err


def test_a_record_keeps_the_gain_by_term():
    told = [line(5, None, "heading", 4.0), line(5, "speed", "speed", 0.0)]
    kept = command.figures("ksea", told)
    assert set(kept) == {f"one_command_{n}_ksea" for n in ("gain", "promised", "gain_score")}
    assert (kept["one_command_gain_ksea"].value, kept["one_command_promised_ksea"].value) == (2.0, 4.0)
    assert isinstance(kept["one_command_gain_ksea"], records.Figure)


def test_situations_hold_the_states_that_they_name():
    told = [line(5, None, None, 0.0, 2), line(5, "speed", "heading", 6.0, 4)]
    told.append(line(15, "speed", "speed", 0.0, 4))
    rows = command.summary(told)
    count = {name: row["n"] for name, row in rows.items()}
    assert count == {
        "all": 3, "minute 5": 2, "minute 15": 1, "own: no command": 1, "own: speed": 2,
        "at most 4 arrivals": 3, "changed to: heading": 1,
    }  # fmt: skip
    assert rows["own: speed"]["value"] == 3.0
    assert rows["all"]["changed"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"commands": 1}, "commands is 1, must be at least 2"),
        ({"at_minutes": (5, 55)}, "at_minutes is 55, must be 1 to 50: a rollout ends in its hour"),
        ({"at_minutes": ()}, "at_minutes is (), must be at least one"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Rollouts(out=tmp_path, **options)


def test_members_that_choose_have_as_many_states_each():
    config = Rollouts(out=None, commands=6, keys=8, sectors=768)
    assert command.groups(config, 4) == 15  # 16 fit
    assert command.groups(Rollouts(out=None, sectors=1), 4) == 3  # the least


class Counter:
    """Pays the number of its sector, the commanded slot and a random number; nothing moves in it."""

    def step_env(self, key, state, action, params):
        terms = {"sector": state.potential, "slot": action[0] * 1.0, "luck": jax.random.uniform(key)}
        return 0.0, state, None, None, {"reward_terms": terms}


@struct.dataclass
class Numbered:
    potential: jax.Array


@struct.dataclass
class Sector:
    scene: Scene


class Scripted:
    """Hours that all show one scene, and rollouts in which the last command is 3 points better."""

    members = 4

    def __init__(self):
        self.asked = []

    def start(self, keys) -> Moment:
        traffic = flown(x_nm=[15.0, 22.0], y_nm=[20.0, 9.0], altitude_ft=9000.0, speed_kt=220.0)
        shown = observed(traffic), Sector(scenes.scene(traffic, PLACE)), remember(SLOTS)
        return Moment(*jax.tree.map(lambda leaf: jnp.stack([leaf] * len(keys)), shown))

    def advance(self, moments, keys, minutes):
        self.asked.append(minutes)
        return moments

    def values(self, members, moments, given, keys, decisions):
        self.asked.append((members, keys.shape, decisions))
        better = 3.0 * (np.arange(given.legal.shape[1]) == given.legal.shape[1] - 1)
        return {"score": np.broadcast_to(better[:, None], (*given.legal.shape, keys.shape[1]))}


def test_states_are_played_in_groups_and_told_in_lines():
    config = Rollouts(out=None, states=5, commands=3, keys=2, minutes=2, sectors=18, seed=4)
    player, steps = Scripted(), []
    told = list(command.play(config, player, 7, steps.append))
    assert len(told) == 6  # two groups of as many as there are members that choose
    assert player.asked == 2 * [7, (slice(0, -1), (3, 2), 24), (slice(-1, None), (3, 2), 24)]
    assert steps == [3 * 3 * 2 * 24] * 4
    assert {line["aircraft"] for line in told} == {2}
    assert {(line["changed"], line["gain"], line["promised"]) for line in told} == {(True, 3.0, 3.0)}
    assert told[0]["terms"] == {"score": 3.0}
    assert told[0]["minute"] == 7


def test_outcomes_are_those_of_their_state_command_and_key():
    states, compared, count = 4, 3, 2
    number = jnp.arange(states, dtype=jnp.float32)
    moments = Moment(jnp.zeros(states), Numbered(number), jnp.zeros(states))
    actions = jnp.tile(jnp.arange(compared)[:, None], (states, 1, 5))
    given = Choice(actions, jnp.ones((states, compared), bool), jnp.zeros(states, int), jnp.zeros(states))
    weights = {"of": jnp.zeros(3)}
    still = Policy(init=None, act=lambda params, memory, seen, key: (jnp.zeros(5, jnp.int32), memory))
    player = command.Player(Counter(), still, EnvParams(weights=weights))
    keys = jax.random.split(jax.random.key(0), (states, count))
    assert player.members == 3
    found = player.values(slice(0, -1), moments, given, keys, decisions=1)
    shape = states, compared, count
    np.testing.assert_array_equal(found["sector"], np.broadcast_to(number[:, None, None], shape))
    np.testing.assert_array_equal(found["ahead"], found["sector"])
    np.testing.assert_array_equal(found["slot"], np.broadcast_to(np.arange(3.0)[:, None], shape))
    assert (found["luck"] == found["luck"][:, :1]).all()  # all commands of a state meet the same
    assert len(np.unique(found["luck"])) == states * count
