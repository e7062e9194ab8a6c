"""The demonstration: the whole chain, small, on two CPU cores.

    ./launch/demo.sh
    ./launch/demo.sh --short      a smoke run of every stage
    ./launch/demo.sh --url http://localhost:3003   ends in the real game
"""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Options of launch.demo."""

    out: Path = Path("runs/demo")
    short: bool = False  # a smoke run: every stage, nothing to be learned from its figures
    url: str | None = None  # a running openScope to play at the end
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much each stage does."""

    airports: tuple[str, ...]
    wm_steps: int
    wm_batch: int
    wm_members: int
    wm_width: int
    ppo_steps: int
    ppo_envs: int
    rollout: int
    episodes: int
    real_episodes: int


FULL = Sizes(
    airports=("kabq",),
    wm_steps=4000,
    wm_batch=512,
    wm_members=2,
    wm_width=96,
    ppo_steps=120_000,
    ppo_envs=32,
    rollout=60,
    episodes=8,
    real_episodes=2,
)
SHORT = dataclasses.replace(
    FULL,
    wm_steps=200,
    wm_batch=128,
    wm_width=32,
    ppo_steps=1_200,
    ppo_envs=4,
    rollout=30,
    episodes=2,
    real_episodes=1,
)
