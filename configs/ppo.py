"""PPO in the learned simulator.

    python -m launch.train_ppo --out runs/ppo --airport kabq
    python -m launch.train_ppo shipped --out runs/ppo-shipped      # one of PRESETS; options come after it

The same command goes on where it stopped, on however many devices there are then. One H200 trains at up to
1.0 million decisions a second (launch/records/bench.json, `env_ppo_steps_per_s`). With 32 aircraft of 64
features the default network has 66 k parameters, and a forward pass costs about 3 MFLOP. `CARTPOLE` shows
that the same file solves a textbook problem.

shipped: what rl/data/default was made with, in the packaged world model. It clones the expert for 100
updates, then follows the learning rate of a run of 13 million decisions and stops after its second chunk,
2.6 million: six minutes of one H100. The result scores 0.97 in the real game (launch/records/spine.json,
`score_real_policy_kabq`). Sizes are per device, so that the preset takes one.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from configs.values import above, at_least, require, within


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the actor-critic; the MLP for flat observations reads only `width` and `dtype`."""

    width: int = 64
    blocks: int = 1
    heads: int = 2
    no_op_bias: float = 3.0  # with 10 legal aircraft no-op starts at 67 %
    dtype: str = "bfloat16"  # of the trunk

    def __post_init__(self):
        # A file may claim anything: what is far beyond any machine is refused before it is built.
        within(self, 1, 65_536, "width", "heads", prefix="network.")
        within(self, 0, 1024, "blocks", prefix="network.")
        divides = self.width % self.heads == 0
        require(divides, "network.heads", self.heads, f"a divisor of width {self.width}")
        require(self.dtype in ("bfloat16", "float32"), "network.dtype", self.dtype, "bfloat16 or float32")


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
        at_least(self, 0, "updates", prefix="clone.")
        at_least(self, 1, "epochs", prefix="clone.")
        above(self, 0, "learning_rate", prefix="clone.")
        within(self, 0, 1, "student_share", prefix="clone.")


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
    kl_coef: float = 0.0
    """Price of the divergence KL(policy || start) from the policy that PPO starts from: a clone, or --init.
    Above zero, observations stay normalised as that policy learned them."""
    critic_updates: int = 0
    """Updates at the start in which the critic learns alone: it has to know the policy's worth before it can
    tell a better action."""
    value_coef: float = 0.5
    max_grad_norm: float = 0.5  # of the whole gradient, after averaging over devices
    shaping_weight: float = 1.0  # of the potential difference, where the environment gives a potential
    reward_scale: float | None = None  # None divides by the running deviation of returns, but never amplifies
    normalise_observations: bool = True
    chunk: int = 10  # updates per dispatch: metrics, progress and checkpoints happen between chunks
    network: NetworkConfig = field(default_factory=NetworkConfig)
    clone: CloneConfig = field(default_factory=CloneConfig)

    def __post_init__(self):
        at_least(self, 1, "total_steps", "num_envs", "rollout_length", "epochs", "minibatches", "chunk")
        batch = self.num_envs * self.rollout_length
        divides = batch % self.minibatches == 0
        require(divides, "minibatches", self.minibatches, f"a divisor of the {batch} steps of a rollout")
        above(self, 0, "learning_rate", "clip", "max_grad_norm", "reward_scale")
        within(self, 0, 1, "gamma", "gae_lambda")
        at_least(self, 0, "entropy_coef", "kl_coef", "critic_updates", "value_coef", "shaping_weight")

    def updates(self, devices: int) -> int:
        """Updates in a run: total_steps on that many devices, rounded up to whole chunks."""
        per_chunk = self.num_envs * self.rollout_length * devices * self.chunk
        return math.ceil(self.total_steps / per_chunk) * self.chunk


OPENSCOPE = PPOConfig()


@dataclass(frozen=True)
class PPOTraining:
    """Train a controller with PPO. The same command goes on where it stopped."""

    out: Path
    """Run folder."""
    env: str = "OpenScopeWM-v0"
    """gymnax id."""
    checkpoint: Path | None = None
    """World model for OpenScopeWM-v0; the packaged one if left out."""
    airport: tuple[str, ...] = ()
    """Train at these airports of the world model alone; at all it knows if left out."""
    slots: int | None = None
    """Aircraft of a sector; as many as the world model has if left out."""
    dynamics: Literal["learned", "rules"] = "learned"
    """What moves aircraft: the world model's network, or the hand-written rules beside it."""
    advised: bool = False
    """The controller corrects the expert: it sees what each command saves by the expert's prices and begins
    as the expert, so there is nothing to clone."""
    init: str | None = None
    """Policy to start from, with its network's size: shipped, or the folder of a training run."""
    backend: Literal["pmap", "shard_map"] = "pmap"
    devices: int | None = None
    """How many of this machine's devices; all if left out. For several machines see launch/on_hosts.py."""
    save_every: int = 20
    """Chunks between checkpoints: what a kill costs at most. The last chunk is always saved; SIGTERM saves at
    the end of the running one."""
    stop_after_steps: int | None = None
    """Ends the run after so many environment steps, rounded up to whole chunks; the learning rate falls as if
    it went on to ppo.total-steps."""
    wandb: str | None = None
    """Project of Weights & Biases that shows the run as well; needs pip install wandb."""
    ppo: PPOConfig = OPENSCOPE

    def __post_init__(self):
        at_least(self, 1, "devices", "save_every", "stop_after_steps", "slots")
        needless = self.advised and self.ppo.clone.updates
        require(not needless, "ppo.clone.updates", self.ppo.clone.updates, "0 with --advised")


SHIPPED = PPOTraining(
    out=Path("runs/ppo-shipped"),
    airport=("kabq",),
    devices=1,
    save_every=2,
    stop_after_steps=2_600_000,
    ppo=PPOConfig(
        total_steps=13_000_000,
        num_envs=4096,
        rollout_length=32,
        epochs=3,
        minibatches=4,
        learning_rate=1e-4,
        entropy_coef=0.0,
        network=NetworkConfig(width=128, blocks=2, heads=4),
        clone=CloneConfig(updates=100, student_share=0.8),
    ),
)

PRESETS = {"shipped": SHIPPED}

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
