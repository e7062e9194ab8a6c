"""The demonstration: the whole chain, small, on two CPU cores.

    ./launch/demo.sh
    ./launch/demo.sh --short      a smoke run of every stage
    ./launch/demo.sh --url http://localhost:3003   ends in the real game

Writes a page that plays a recorded hour. Learns a small world model of KABQ from the shipped recording and
puts its error beside the shipped model's, on the same unseen hour. PPO then goes on from the shipped
controller in that new model. At last no commands, random commands, the shipped controller (before) and the
new one (after) play the same hours in the shipped model; in the new model no commands and the new controller
play them.
"""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Options of launch.demo."""

    out: Path = Path("runs/demo")
    short: bool = False
    """A smoke run: every stage, nothing to be learned from its figures."""
    url: str | None = None
    """A running openScope to play at the end."""
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
    minutes: int
    real_episodes: int
    models: tuple[str, ...]
    """World models in which controllers are compared: shipped, new."""
    others: tuple[str, ...]
    """Who plays beside the new controller; in the new model no commands alone."""


FULL = Sizes(
    airports=("kabq",),
    wm_steps=2000,
    wm_batch=512,
    wm_members=4,  # with the width of the shipped model: what judges one is compiled for the other
    wm_width=128,
    ppo_steps=11_520,
    ppo_envs=32,
    rollout=60,
    episodes=8,
    minutes=60,
    real_episodes=2,
    models=("shipped", "new"),
    others=("noop", "random", "shipped"),
)
SHORT = dataclasses.replace(
    FULL,
    wm_steps=100,
    wm_batch=128,
    ppo_steps=480,
    ppo_envs=4,
    rollout=30,
    episodes=2,
    minutes=5,
    real_episodes=1,
    models=("shipped",),
    others=("noop",),
)
