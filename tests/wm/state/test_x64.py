"""The environment under jax_enable_x64: the same types, whatever the setting."""

import gymnax
import jax
import pytest

from tests.wm.sectors import small_model
from wm.state.env import OpenScopeWorldModel


def types_of(env, params) -> dict[str, str]:
    """The type of everything that a reset and a step take and give, by name."""

    def reset(key):
        return env.reset(key, params)

    def step(key, state):
        keys = jax.random.split(key, 3)
        action = env.action_space(params).sample(keys[0])
        once = env.step_env(keys[1], state, action, params)
        return action, *once, *env.step(keys[2], state, action, params)

    key = jax.random.key(0)
    observation, state = jax.eval_shape(reset, key)
    action, after, following, *rest = jax.eval_shape(step, key, state)
    assert tree_types(state) == tree_types(following)
    assert tree_types(observation) == tree_types(after)
    return tree_types((observation, state, action, rest))


def tree_types(tree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


@pytest.mark.parametrize("sample", [True, False])
def test_a_step_keeps_every_type_under_both_settings(sample):
    params = small_model()
    env = OpenScopeWorldModel(params, sample)
    usual = types_of(env, params)
    with jax.enable_x64(True):
        assert types_of(env, params) == usual
    assert not [name for name, kind in usual.items() if "64" in kind]


def test_a_wide_type_would_be_seen():
    env, params = gymnax.make("CartPole-v1")
    with jax.enable_x64(True):
        _, state = jax.eval_shape(env.reset, jax.random.key(0), params)
        assert any("64" in kind for kind in tree_types(state).values())
