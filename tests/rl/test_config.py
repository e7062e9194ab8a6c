"""A bad value is refused at once, by name."""

import pytest

from configs.ppo import OPENSCOPE, CloneConfig, NetworkConfig, PPOConfig


@pytest.mark.parametrize(
    ("make", "values", "name"),
    [
        (PPOConfig, {"num_envs": 0}, "num_envs"),
        (PPOConfig, {"num_envs": 10, "rollout_length": 3, "minibatches": 4}, "minibatches"),
        (PPOConfig, {"gamma": 1.5}, "gamma"),
        (PPOConfig, {"learning_rate": -1.0}, "learning_rate"),
        (PPOConfig, {"entropy_coef": -0.1}, "entropy_coef"),
        (PPOConfig, {"reward_scale": 0.0}, "reward_scale"),
        (NetworkConfig, {"width": 10, "heads": 4}, "network.heads"),
        (NetworkConfig, {"dtype": "float16"}, "network.dtype"),
        (CloneConfig, {"student_share": 2.0}, "clone.student_share"),
    ],
)
def test_the_error_names_the_field(make, values, name):
    with pytest.raises(ValueError, match=rf"^{name} is .*, must be ") as error:
        make(**values)
    assert "\n" not in str(error.value)


def test_updates_are_whole_chunks_over_all_devices():
    config = PPOConfig(total_steps=1000, num_envs=4, rollout_length=8, minibatches=2, chunk=3)
    # 4 * 8 * 2 devices * 3 updates = 192 steps a chunk; 1000 / 192 = 5.2, so 6 chunks of 3
    assert config.updates(devices=2) == 18


def test_the_default_looks_as_far_ahead_as_a_flight_lasts():
    assert OPENSCOPE.gamma >= 0.999
