"""A controller that corrects the expert begins as the expert, in the same episode and with its memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from configs.ppo import CloneConfig, NetworkConfig, PPOConfig, PPOTraining
from rl import expert, lookahead
from rl.advice import ADVICE, ILLEGAL, Advised, advise
from rl.arrivals import ExpertParams
from rl.distribution import Command
from rl.networks import TRUST, AdvisedNetwork, followed, for_spaces
from rl.policy import as_policy, distribution_and_value, init_params
from tests.rl.acting import SLOTS, one
from tests.rl.test_expert import INTERCEPT
from wm.sector import commands
from wm.sector.spaces import MultiDiscrete, Observation

NETWORK = NetworkConfig(width=16, dtype="float32")
SCENES = [
    one(**INTERCEPT),
    one(x_nm=22.0, y_nm=9.0, altitude_ft=12000.0, speed_kt=180.0),
    one(x_nm=[15.0, 15.0], y_nm=[20.0, 24.0], altitude_ft=[9000.0, 9000.0], speed_kt=[220.0, 220.0]),
]
STACKED = jax.tree.map(lambda *leaves: jnp.stack(leaves), *SCENES)


@struct.dataclass
class Shown:
    time: jax.Array


class Slides(environment.Environment):
    """Shows the scenes in turn, whatever is commanded; an episode has `length` decisions."""

    length = 5

    @property
    def default_params(self):
        return None

    def reset_env(self, key, params):
        state = Shown(jnp.zeros((), jnp.int32))
        return self._observe(state), state

    def _observe(self, state):
        return jax.tree.map(lambda leaf: leaf[state.time % len(SCENES)], STACKED)

    def step_env(self, key, state, action, params):
        state = Shown(state.time + 1)
        return self._observe(state), state, jnp.zeros(()), jnp.zeros((), bool), {}

    def is_truncated(self, state, params):
        return state.time >= self.length

    def observation_space(self, params):
        box = lambda leaf: spaces.Box(-jnp.inf, jnp.inf, leaf.shape, leaf.dtype)  # noqa: E731
        nested = {name: box(leaf) for name, leaf in SCENES[0]["action_mask"].items()}
        flat = {name: box(leaf) for name, leaf in SCENES[0].items() if name != "action_mask"}
        return Observation(flat | {"action_mask": Observation(nested)})

    def action_space(self, params=None):
        return MultiDiscrete(commands.space_sizes(SLOTS))


ENV = Advised(Slides())
KEY = jax.random.key(0)
NOOP = jnp.zeros(5, jnp.int32).at[0].set(SLOTS)


@pytest.fixture(scope="module")
def episodes():
    """What the reset and ten decisions without commands return: (observation, memory, truncated, last)."""

    @jax.jit
    def played():
        key_reset, key_steps = jax.random.split(jax.random.key(0))
        observation, state = ENV.reset(key_reset)
        keys = jax.random.split(key_steps, 2 * Slides.length)

        def step(state, key):
            seen, state, _, _, truncated, info = ENV.step(key, state, NOOP)
            return state, (seen, state.memory, truncated, info["final_observation"])

        return (observation, state.memory), jax.lax.scan(step, state, keys)[1]

    return played()


@pytest.fixture(scope="module")
def both():
    """One decision of an untrained advised policy and of the expert, and the distribution of the former."""
    network = for_spaces(ENV.observation_space(None), ENV.action_space(), NETWORK)
    assert isinstance(network, AdvisedNetwork)
    policy, own = as_policy(network, slots=SLOTS), expert.expert(SLOTS)
    seen = {**SCENES[0], ADVICE: jnp.zeros((SLOTS, lookahead.CANDIDATES))}
    params = init_params(network, jax.random.key(1), seen)

    @jax.jit
    def act(memory, scene):
        distribution, _ = distribution_and_value(network, params, advise(memory, scene)[0])
        advised = policy.act(params, memory, scene, KEY)
        return advised, own.act(ExpertParams(), memory, scene, KEY), distribution

    return act, policy.init(KEY)


def test_the_most_likely_command_saves_most_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        advice = rng.normal(0.0, 3.0, (SLOTS, lookahead.CANDIDATES)).astype(np.float32)
        advice[rng.random(advice.shape) < 0.3] = ILLEGAL
        advice[:, 0] = ILLEGAL
        advice -= rng.choice([0.0, 30.0])  # in half of the cases nothing is worth a command
        slot, candidate = np.unravel_index(np.argmax(advice), advice.shape)
        logits = followed(jnp.asarray(advice))
        mask = {name: jnp.ones(leaf.shape, bool) for name, leaf in logits.items()}
        action = np.asarray(Command.from_logits(logits, mask).mode())
        if advice[slot, candidate] <= 0.0:
            assert action.tolist() == np.asarray(NOOP).tolist()
        else:
            verb = expert.VERBS_C[candidate]
            value = candidate - expert.OFFSET_C[verb + 1] if verb < 3 else 0
            expected = [slot, verb, *(value if verb == i else 0 for i in range(3))]
            assert action.tolist() == expected


def test_an_untrained_one_plays_as_the_expert_does_through_an_episode(both):
    act, memory = both
    given = 0
    for scene in SCENES:
        (action, remembered), (expected, memory), _ = act(memory, scene)
        np.testing.assert_array_equal(action, expected)
        np.testing.assert_array_equal(remembered.due_s, memory.due_s)
        given += int(action[0]) < SLOTS
    assert given  # the scenes ask for commands


def test_other_choices_are_rare_and_their_likelihood_follows_their_price(both):
    act, memory = both
    _, (action, _), distribution = act(memory, SCENES[0])
    assert 0.9 < float(jnp.exp(distribution.log_prob(action))) < 1.0
    worse = action.at[1].set(commands.DIRECT)
    assert float(distribution.log_prob(worse)) < float(distribution.log_prob(action)) - TRUST


def test_the_expert_remembers_an_episode_and_forgets_it_at_its_end(episodes):
    (first, memory), (seen, memories, truncated, last) = episodes
    assert memory.clock_s == 5.0
    assert memories.clock_s.tolist() == [10.0, 15.0, 20.0, 25.0, 5.0] * 2
    assert truncated.tolist() == ([False] * 4 + [True]) * 2
    assert not last[ADVICE].any()
    # The first decision of the next episode sees the same scene, and is advised as the first one was.
    np.testing.assert_array_equal(seen[ADVICE][Slides.length - 1], first[ADVICE])
    assert float(first[ADVICE].min()) == ILLEGAL


def test_its_observation_lies_in_its_space(episodes):
    (first, _), _ = episodes
    assert ENV.observation_space(None).contains(first)


def test_advised_and_cloned_is_refused():
    with pytest.raises(ValueError, match=r"ppo.clone.updates is 3, must be 0 with --advised"):
        PPOTraining(out="x", advised=True, ppo=PPOConfig(clone=CloneConfig(updates=3)))
