"""Training, timing and trying NVIDIA Cosmos: one frozen dataclass per verb of `launch.cosmos`.

    python -m launch.cosmos finetune --data clips --vae vae --init converted --directory runs/cosmos
    python -m launch.cosmos shapes --out runs/shapes --record cosmos     # under 8 minutes on one H200
    python -m launch.cosmos bench --record cosmos                        # under 10 minutes on one H200

The defaults of `Finetune` are those of the 2B on one GPU with 80 GB at 256 x 256. Released checkpoints were
trained with learning rates of 3e-5 (base) to 3e-4 (action nets, which start from nothing or another robot).
"""

import dataclasses
from pathlib import Path
from typing import Literal

Dtype = Literal["float32", "bfloat16"]
Backend = Literal["pmap", "shard_map", "fsdp"]


def _require(condition: bool, name: str, value, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}, must be {expected}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, how many samples a step averages, and the dtype of every array that training keeps."""

    learning_rate: float = 1e-4
    action_learning_rate_scale: float = 5.0
    """Factor for the nets that read the actions; a model that ignores its actions is the common failure."""
    warmup: int = 100
    steps: int | None = None
    """Updates until a cosine has brought the rate down to final_share; None leaves it constant."""
    final_share: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    accumulate: int = 1
    """Gradients of this many parts of a device's batch are averaged before a step."""
    ema_decay: float | None = 0.999
    """Of the running mean of the parameters, which is what samples are drawn with; None keeps none."""
    master: Dtype = "float32"
    """Of the parameters; bfloat16 rounds stochastically."""
    compute: Dtype = "bfloat16"
    """Of the copy that a step multiplies with, and of its gradients."""
    moments: Dtype = "bfloat16"
    ema: Dtype = "bfloat16"

    def __post_init__(self):
        for name in ("learning_rate", "action_learning_rate_scale", "epsilon", "max_grad_norm"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("beta1", "beta2"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        _require(self.accumulate > 0, "accumulate", self.accumulate, "a positive integer")
        _require(self.warmup >= 0, "warmup", self.warmup, "zero or more")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "zero or more")
        _require(0 <= self.final_share <= 1, "final_share", self.final_share, "between 0 and 1")
        _require(self.steps is None or self.steps > 0, "steps", self.steps, "positive or None")
        _require(
            self.ema_decay is None or 0 < self.ema_decay < 1,
            "ema_decay",
            self.ema_decay,
            "between 0 and 1, or None",
        )


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters; names are parts of parameter paths, as regular expressions."""

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...] = (r"^blocks/(self|cross|mlp)/",)
    also_train: tuple[str, ...] = (r"^action",)
    """Parameters that are learned whole."""

    def __post_init__(self):
        _require(self.rank > 0, "lora.rank", self.rank, "a positive integer")
        _require(self.alpha > 0, "lora.alpha", self.alpha, "positive")
        _require(bool(self.targets), "lora.targets", self.targets, "one expression or more")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


Remat = Literal["none", "full", "dots", "dots+attention"]
Part = Literal["train_256", "train_512", "lora_256", "scaling", "generate"]
PARTS: tuple[Part, ...] = ("train_256", "train_512", "generate", "lora_256", "scaling")


@dataclasses.dataclass(frozen=True)
class Bench:
    """Time training steps and generation of a model with random weights; every part in a process of its own.

    Training is one step of AdamW on latents as they come from the cache, so without the autoencoder; FLOPs
    are three forward passes, whatever is recomputed. "generate" needs at least 2 GiB more than the weights;
    "scaling" needs two devices and is left out where there is one.
    """

    model: str = "predict2.5-2b-action"
    parts: tuple[Part, ...] = PARTS
    frames: int = 17
    batch_256: int = 16
    """Clips per device and step at 256 x 256."""
    batch_512: int = 5
    batch_lora: int = 4
    batch_generate: int = 4
    """Clips generated at once at 512 x 512."""
    small: int = 256
    """Side in pixels of the clips of train_256, lora_256 and scaling."""
    large: int = 512
    """Side in pixels of the clips of train_512 and generate."""
    remat: Remat = "dots"
    remat_lora: Remat = "full"
    sampler_steps: tuple[int, ...] = (35, 4, 1)
    steps: int = 3
    """Training steps per timed repeat."""
    repeats: int = 7
    optimizer: OptimizerConfig = OptimizerConfig(ema_decay=None)
    lora: LoRAConfig = LoRAConfig()
    out: Path = Path("runs/cosmos-bench")
    record: str = ""
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        for name in ("frames", "batch_256", "batch_512", "batch_lora", "batch_generate", "steps"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive integer")
        _require(self.repeats >= 3, "repeats", self.repeats, "at least 3")
        _require(bool(self.parts), "parts", self.parts, f"one or more of {', '.join(PARTS)}")
