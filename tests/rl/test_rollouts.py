"""Commands that are rolled out on the same keys: which are compared, what they bring, and who judges them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from rl import rollouts
from rl.acting import Policy
from rl.expert import command_of, no_command
from rl.rollouts import Choice, Moment
from rl.sequence import remember
from tests.rl.acting import SLOTS, one, play
from tests.rl.test_expert import INTERCEPT
from wm.sector import commands

SCENES = {
    "an arrival that can be cleared": one(**INTERCEPT),
    "two that need commands": one(
        x_nm=[15.0, 22.0], y_nm=[20.0, 9.0], altitude_ft=[9000.0, 12000.0], speed_kt=[220.0, 180.0]
    ),
    "nobody": one(x_nm=0.0, altitude_ft=9000.0, speed_kt=220.0, valid=False),
}
CHOICES = jax.jit(rollouts.choices, static_argnums=1)


@pytest.mark.parametrize("scene", SCENES)
def test_the_expert_s_own_command_is_among_those_compared(scene):
    observation = SCENES[scene]
    given = CHOICES(Moment(observation, None, remember(SLOTS)), 5)
    action, _ = play("expert", observation)
    np.testing.assert_array_equal(given.action[given.own], action)
    np.testing.assert_array_equal(given.action[0], no_command(SLOTS))


def test_every_command_compared_is_legal_another_and_of_another_verb_or_aircraft():
    given = CHOICES(Moment(SCENES["two that need commands"], None, remember(SLOTS)), 8)
    mask = SCENES["two that need commands"]["action_mask"]
    legal = np.asarray(jax.vmap(commands.is_legal, (0, None))(given.action, mask))
    assert legal[np.asarray(given.legal)].all()
    pairs = {tuple(map(int, action[:2])) for action in np.asarray(given.action)[np.asarray(given.legal)]}
    assert len(pairs) == int(given.legal.sum()) > 4
    assert {slot for slot, _ in pairs} == {0, 1, SLOTS}


def test_where_nothing_can_be_commanded_only_no_command_is_legal():
    given = CHOICES(Moment(SCENES["nobody"], None, remember(SLOTS)), 4)
    assert given.legal.tolist() == [True, False, False, False]
    assert int(given.own) == rollouts.NO_COMMAND


@struct.dataclass
class Count:
    time: jax.Array
    potential: jax.Array


class Walk:
    """Pays the commanded slot in the step, and a random number that the key alone decides."""

    def step_env(self, key, state, action, params):
        luck = jax.random.uniform(key)
        state = Count(state.time + 1, 100.0 * (state.time + 1))
        terms = {"score": action[0].astype(jnp.float32), "luck": luck}
        return state.time, state, None, None, {"reward_terms": terms}


TELLS_TIME = Policy(
    init=None,
    # Commands the number of its decision, which it remembers.
    act=lambda params, memory, observation, key: (jnp.zeros(5, jnp.int32).at[0].set(memory), memory + 1),
)


def rolled(which, key, decisions=4):
    start = Moment(jnp.zeros((), jnp.int32), Count(jnp.zeros((), jnp.int32), jnp.zeros(())), jnp.int32(0))
    actions = jnp.stack([command_of(7, 1), command_of(9, 1)])
    given = Choice(actions, jnp.ones(2, bool), jnp.int32(0), memory=jnp.int32(10))
    return rollouts.outcome(Walk(), TELLS_TIME, None, start, given, which, key, decisions)


def test_the_command_comes_first_and_the_policy_goes_on_with_its_memory():
    total = rolled(1, jax.random.key(0))
    assert float(total["score"]) == 9 + 10 + 11 + 12  # the command, then what the policy remembers
    assert float(total["ahead"]) == 400.0  # after four decisions


def test_commands_share_their_luck_and_keys_do_not():
    first, second = (float(rolled(which, jax.random.key(3))["luck"]) for which in (0, 1))
    other = float(rolled(0, jax.random.key(4))["luck"])
    assert first == second != other


def test_luck_where_a_command_was_chosen_is_no_gain():
    """State 0: command 1 is 2 better; 1: it seemed 8 better and is 1 worse; 2: better but illegal."""
    selecting = {"score": np.array([[[0, 2], [2, 4]], [[0, 0], [8, 8]], [[0, 0], [5, 5]]], float)}
    judging = {
        "score": np.array([[[1, 1], [3, 3]], [[4, 4], [2, 2]], [[0, 0], [5, 5]]], float),
        "loss": np.array([[[0, 0], [0, 0]], [[0, 0], [1, 1]], [[0, 0], [0, 0]]], float),
    }
    selecting["loss"] = np.zeros((3, 2, 2))
    legal = np.array([[True, True], [True, True], [True, False]])
    found = rollouts.improvement(selecting, judging, legal, np.zeros(3, int))
    assert found["chosen"].tolist() == [1, 1, 0]
    assert found["promised"].tolist() == [2.0, 8.0, 0.0]
    assert found["gain"].tolist() == [2.0, -1.0, 0.0]
    assert found["terms"]["loss"].tolist() == [0.0, 1.0, 0.0]


def test_an_equal_command_changes_nothing():
    values = {"score": np.zeros((1, 3, 2))}
    found = rollouts.improvement(values, values, np.ones((1, 3), bool), np.array([2]))
    assert found["chosen"].tolist() == [2]
