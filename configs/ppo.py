"""PPO in the learned simulator.

    python -m launch.train_ppo --directory runs/ppo

`OPENSCOPE` is the default of that command. With 32 aircraft of 64 features its network has 66 k parameters,
and a forward pass costs about 3 MFLOP. `CARTPOLE` shows that the same file solves a textbook problem.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the actor-critic; the MLP for flat observations reads only `width` and `dtype`."""

    width: int = 64
    blocks: int = 1
    heads: int = 2
    no_op_bias: float = 3.0  # with 10 legal aircraft no-op starts at 67 %
    dtype: str = "bfloat16"  # of the trunk

    def __post_init__(self):
        _require(self.width > 0, "network.width", self.width, "a positive integer")
        _require(self.blocks >= 0, "network.blocks", self.blocks, "zero or more")
        _require(
            self.heads > 0 and self.width % self.heads == 0,
            "network.heads",
            self.heads,
            f"a divisor of width {self.width}",
        )
        _require(self.dtype in ("bfloat16", "float32"), "network.dtype", self.dtype, "bfloat16 or float32")


@dataclass(frozen=True)
class CloneConfig:
    """Warm start by imitating an expert before PPO. `updates=0` leaves it out.

    `student_share` is the largest fraction of decisions in which the student's own action is played while the
    expert labels the states it leads to (DAgger, Ross et al. 2011); it rises linearly from 0 over the
    updates.
    """

    updates: int = 0
    epochs: int = 8  # over a rollout: unlike the advantages of PPO, labels stay right
    learning_rate: float = 1e-3
    student_share: float = 0.5

    def __post_init__(self):
        _require(self.updates >= 0, "clone.updates", self.updates, "zero or more")
        _require(self.epochs > 0, "clone.epochs", self.epochs, "a positive integer")
        _require(self.learning_rate > 0, "clone.learning_rate", self.learning_rate, "positive")
        _require(0 <= self.student_share <= 1, "clone.student_share", self.student_share, "between 0 and 1")


@dataclass(frozen=True)
class PPOConfig:
    """Everything that decides a run, given an environment and a number of devices.

    Sizes are per device. gamma 0.999 at 5 s a step looks 83 minutes ahead, past a flight's whole time in the
    sector; with 0.99 (8 minutes) a landing would be worth nothing when the aircraft enters.
    """

    seed: int = 0
    total_steps: int = 500_000_000  # environment steps, over all devices
    num_envs: int = 8192  # per device
    rollout_length: int = 64
    epochs: int = 2
    minibatches: int = 8
    learning_rate: float = 5e-4
    anneal: bool = True  # linearly to zero over total_steps
    gamma: float = 0.999
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_coef: float = 0.005
    value_coef: float = 0.5
    max_grad_norm: float = 0.5  # of the whole gradient, after averaging over devices
    shaping_weight: float = 1.0  # of the potential difference, where the environment gives a potential
    reward_scale: float | None = None  # None divides by the running deviation of returns, but never amplifies
    normalise_observations: bool = True
    chunk: int = 10  # updates per dispatch: metrics, progress and checkpoints happen between chunks
    network: NetworkConfig = field(default_factory=NetworkConfig)
    clone: CloneConfig = field(default_factory=CloneConfig)

    def __post_init__(self):
        for name in ("total_steps", "num_envs", "rollout_length", "epochs", "minibatches", "chunk"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive integer")
        batch = self.num_envs * self.rollout_length
        _require(
            batch % self.minibatches == 0,
            "minibatches",
            self.minibatches,
            f"a divisor of the {batch} steps of a rollout",
        )
        for name in ("learning_rate", "clip", "max_grad_norm"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("gamma", "gae_lambda"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        for name in ("entropy_coef", "value_coef", "shaping_weight"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")
        _require(
            self.reward_scale is None or self.reward_scale > 0,
            "reward_scale",
            self.reward_scale,
            "positive or None",
        )

    def updates(self, devices: int) -> int:
        """Updates in a run: total_steps on that many devices, rounded up to whole chunks."""
        per_chunk = self.num_envs * self.rollout_length * devices * self.chunk
        return math.ceil(self.total_steps / per_chunk) * self.chunk


def _require(condition: bool, name: str, value, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}, must be {expected}")


OPENSCOPE = PPOConfig()

CARTPOLE = PPOConfig(
    total_steps=500_000,
    num_envs=32,
    rollout_length=128,
    epochs=4,
    minibatches=8,
    learning_rate=2e-3,
    gamma=0.99,
    entropy_coef=0.0,
    network=NetworkConfig(dtype="float32"),
)
