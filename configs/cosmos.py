"""Training, timing and trying NVIDIA Cosmos: one frozen dataclass per verb of `launch.cosmos`.

    python -m launch.cosmos finetune --data clips --vae vae --init converted --out runs/cosmos
    python -m launch.cosmos shapes --out runs/shapes
    python -m launch.cosmos bench --record cosmos

NVIDIA trains its action-conditioned 2B with a learning rate of 3.2e-4 and 8 clips on each GPU.
"""

import dataclasses
from pathlib import Path
from typing import Literal

from configs.values import above, at_least, not_empty, require, within

Dtype = Literal["float32", "bfloat16"]
Backend = Literal["pmap", "shard_map", "fsdp"]
Remat = Literal["none", "full", "dots", "dots+attention"]


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
        above(self, 0, "learning_rate", "action_learning_rate_scale", "epsilon", "max_grad_norm")
        at_least(self, 1, "accumulate", "steps")
        at_least(self, 0, "warmup", "weight_decay")
        within(self, 0, 1, "final_share")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1")
        decay = self.ema_decay
        require(decay is None or 0 < decay < 1, "ema_decay", decay, "between 0 and 1, or None")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters; names are parts of parameter paths, as regular expressions."""

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...] = (r"^blocks/(self|cross|mlp)/",)
    also_train: tuple[str, ...] = (r"^action",)
    """Parameters that are learned whole."""

    def __post_init__(self):
        at_least(self, 1, "rank", prefix="lora.")
        above(self, 0, "alpha", prefix="lora.")
        not_empty(self, "targets")

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclasses.dataclass(frozen=True)
class Finetune:
    """Train a Cosmos model on a folder of clips with actions. The same command goes on where it stopped.

    python -m launch.cosmos finetune --data clips --vae models/vae --init models/transformer --out runs/cosmos

    One GPU of 80 GB with the defaults, which are the 2B's; more GPUs of the host are used by themselves.
    Measured with the 2B on one H200 (launch/records/cosmos.json), without a running mean: a step of 16 clips
    at 256 x 256 needs 55 GiB and reaches 442 TFLOP/s; adapters (--mode lora) with 4 clips need 6.6 GiB and
    train 25 clips a second. No run on real clips is on record. wm/cosmos/training/clips.py describes the
    format of clips.
    """

    data: Path
    """Folder of clips, all of the size and length below."""
    vae: Path
    """Folder of an autoencoder's converted weights."""
    out: Path
    """Run folder."""
    latents: Path | None = None
    """Folder that keeps the encoded clips; left out: .latents beside the clips, or in the run folder where
    the clips can't be written to."""
    init: Path | None = None
    """Folder of converted weights to start from; left out: random weights of --model."""
    model: str = "predict2.5-2b-action"
    mode: Literal["full", "lora"] = "full"
    frames: int = 17
    height: int = 256
    width: int = 256
    given: int = 1
    """Latent frames at the start of a clip that the model is told."""
    context: Path | None = None
    """Text embedding (tokens, width) that all clips share, .npy or safetensors; left out: the converted empty
    prompt, or zeros."""
    epochs: int = 10
    batch: int = 16
    """Clips per device and step."""
    shift: float = 5.0
    """Pushes the noise levels of training and sampling toward noise; the fewer latents, the lower."""
    shortcut_share: float = 0.0
    """Share of the samples that learn steps, for sampling in one to four; costs two forward passes more."""
    remat: Remat = "dots+attention"
    backend: Backend = "pmap"
    """fsdp: parameters and optimiser in parts on the devices, for what doesn't fit on one."""
    devices: int | None = None
    """How many of this machine's devices; all if left out."""
    minutes: float | None = None
    """Ends the run after the epoch in which it has trained for so long, all starts together; the rate falls
    as if it went on."""
    save_every: int = 1
    """Epochs between checkpoints, validations and pictures: what a kill costs at most. The last is always
    saved; SIGTERM saves after the running step."""
    wandb: str | None = None
    """Project of Weights & Biases that shows the run as well; needs pip install wandb."""
    holdout: int = 8
    """Clips, the last by name, that are never trained on: validation and the picture after every epoch."""
    pictures: int = 4
    """How many of these are drawn."""
    sampler_steps: int = 35
    seed: int = 0
    optimizer: OptimizerConfig = OptimizerConfig()
    """With `steps` left out the rate falls over all epochs."""
    lora: LoRAConfig = LoRAConfig()

    def __post_init__(self):
        at_least(self, 1, "frames", "height", "width", "given", "epochs", "batch", "pictures")
        at_least(self, 1, "sampler_steps", "save_every", "devices")
        above(self, 0, "shift", "minutes")
        require(self.holdout > 1, "holdout", self.holdout, "at least 2: actions are exchanged between them")
        share = self.shortcut_share
        require(0 <= share < 1, "shortcut_share", share, "at least 0 and below 1")
        mean = self.optimizer.ema_decay
        wanted = "set for a shortcut_share: the running mean is what steps are learned from"
        require(share == 0 or mean is not None, "optimizer.ema_decay", mean, wanted)


Part = Literal["train_256", "train_512", "lora_256", "scaling", "generate"]
PARTS: tuple[Part, ...] = ("train_256", "train_512", "generate", "lora_256", "scaling")


@dataclasses.dataclass(frozen=True)
class Bench:
    """Time training steps and generation of a model with random weights; every part in a process of its own.

    python -m launch.cosmos bench --record cosmos

    One H200, two for "scaling", which is left out where there is one. Expected for the 2B
    (launch/records/cosmos.json): training reaches 442 TFLOP/s at 256 x 256 and 455 at 512 x 512 in 55 GiB,
    adapters 25 clips a second in 6.6 GiB; 10 frames a second are generated in 35 steps, 60 in 4 and 118 in 1,
    decoding included; two devices train 1.93 times as many clips as one. How long it takes is not on record.

    A training step is one of AdamW on encoded clips, without the autoencoder. Its FLOPs are those of three
    forward passes, whatever is recomputed.
    """

    model: str = "predict2.5-2b-action"
    parts: tuple[Part, ...] = PARTS
    frames: int = 17
    batch_256: int = 16
    """Clips per device and step at 256 x 256."""
    batch_512: int = 4
    batch_lora: int = 4
    batch_generate: int = 2
    """Clips generated at once at 512 x 512."""
    small: int = 256
    """Side in pixels of the clips of train_256, lora_256 and scaling."""
    large: int = 512
    """Side in pixels of the clips of train_512 and generate."""
    remat: Remat = "dots+attention"
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
        at_least(self, 1, "frames", "batch_256", "batch_512", "batch_lora", "batch_generate", "steps")
        at_least(self, 3, "repeats")
        require(bool(self.parts), "parts", self.parts, f"one or more of {', '.join(PARTS)}")


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Learn a small world from scratch: moving shapes, a small autoencoder for them, a small Cosmos on top.

    python -m launch.cosmos shapes --out runs/shapes --record cosmos

    One H100. Expected (launch/records/cosmos.json): drawn shapes are 1.8 pixels of 64 from their true
    places under their own actions, and 7.2 times as far under another clip's; the autoencoder alone is 1.2
    pixels off. In four steps whose size the model learned 2.0, in one 3.0. How long it takes is not on
    record. A run that was cut off goes on with the same command: what is finished is not done again.
    """

    out: Path = Path("runs/shapes")
    model: str = "mini"
    clips: int = 32768
    test: int = 64
    """Further clips, never trained on, that the figures are of."""
    size: int = 64
    frames: int = 17
    shapes: int = 2
    drifters: int = 1
    """Further shapes that nobody commands, see `wm.cosmos.training.shapes`."""
    vae_width: int | None = None
    """Channels of the autoencoder's first level; left out: as many as the model's own has."""
    vae_clips: int = 1024
    vae_frames: int = 9
    vae_steps: int = 800
    vae_batch: int = 12
    vae_minutes: float | None = None
    """Ends the training of the autoencoder early."""
    epochs: int = 24
    batch: int = 64
    minutes: float | None = None
    """Ends the training of the model early, after an epoch."""
    shift: float = 1.5
    shortcut_share: float = 0.25
    sampler_steps: int = 35
    seed: int = 0
    record: str = ""
    """Merge the figures into launch/records/<record>.json."""
    vae_optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=1e-3, warmup=100, compute="float32", moments="float32", ema="float32", ema_decay=0.99
    )
    optimizer: OptimizerConfig = OptimizerConfig(
        learning_rate=6e-4,
        action_learning_rate_scale=2.0,
        warmup=100,
        moments="float32",
        ema="float32",
        ema_decay=0.995,
    )

    def __post_init__(self):
        at_least(self, 1, "clips", "vae_clips", "vae_steps", "vae_batch", "epochs", "batch", "sampler_steps")
        at_least(self, 2, "test")
        few = self.vae_clips <= self.clips
        require(few, "vae_clips", self.vae_clips, f"at most {self.clips}, all there are")
        short = self.vae_frames <= self.frames
        require(short, "vae_frames", self.vae_frames, f"at most {self.frames}")
