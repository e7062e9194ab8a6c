"""What the Cosmos models are made of: frozen dataclasses, and presets by the models' real names.

Widths and scales are those of NVIDIA's published checkpoints. `resolve` turns what a user types (a preset, a
Hugging Face repository, or one of the early product names) into a `ModelConfig`.
"""

import difflib
from dataclasses import dataclass, replace
from typing import Literal

# Per-channel statistics of Wan2.1 latents, from the configuration published with its weights.
WAN_LATENTS_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
WAN_LATENTS_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916),
)
TEXT_TOKENS = 512  # every published model pads its text embedding to this many tokens
WIDEST, MOST_LAYERS = (
    2**20,
    1024,
)  # files may claim any size: what is far beyond every model is refused unbuilt
REASON1_WIDTH = 100_352  # 28 layers of Cosmos-Reason1-7B, 3584 wide, concatenated


def _within(config, low: int, high: int, *names: str) -> None:
    """Raises ValueError for the first of the fields, numbers or tuples of them, that isn't in [low, high]."""
    for name in names:
        values = getattr(config, name)
        for value in values if isinstance(values, tuple) else (values,):
            if not low <= value <= high:
                raise ValueError(f"{name} is {values}, must be at least {low} and at most {high}")


@dataclass(frozen=True)
class DiTConfig:
    """The diffusion transformer.

    Attributes:
      width: D, of the residual stream; blocks: how many; heads: of width / heads channels each.
      mlp_ratio: hidden over residual width. adaln_rank: of the low-rank part of the modulation.
      context_width: of the tokens that cross-attention reads.
      text_width: of raw text embeddings, which a learned projection maps to `context_width`; 0: none, the
        context arrives projected.
      latent_channels: of the latents, without the condition and padding mask that are appended to them.
      patch: spatial side of a patch; patches have one latent frame.
      rope_scale: extrapolation ratios of the rotary frequencies along T, H, W.
      learned_positions: sizes (T, H, W) in patches of the tables added before every block, or None.
      step_hidden: width of the network that reads the solver's step size, for sampling in few steps; 0: none,
        as published.
    """

    width: int = 2048
    blocks: int = 28
    heads: int = 16
    mlp_ratio: int = 4
    adaln_rank: int = 256
    context_width: int = 1024
    text_width: int = 0
    latent_channels: int = 16
    patch: int = 2
    rope_scale: tuple[float, float, float] = (1.0, 3.0, 3.0)
    learned_positions: tuple[int, int, int] | None = None
    step_hidden: int = 0

    def __post_init__(self):
        _within(self, 1, MOST_LAYERS, "blocks", "patch", "mlp_ratio")
        _within(self, 1, WIDEST, "width", "heads", "adaln_rank", "context_width", "latent_channels")
        _within(self, 0, WIDEST, "text_width", "step_hidden")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.head_width % 2 or self.head_width < 12:
            raise ValueError(f"heads are {self.head_width} wide; rotary positions need an even 12 or more")

    @property
    def head_width(self) -> int:
        """Channels of one attention head."""
        return self.width // self.heads

    @property
    def patch_channels(self) -> int:
        """Numbers in one input patch: latents, condition mask and padding mask."""
        return (self.latent_channels + 2) * self.patch**2


@dataclass(frozen=True)
class ActionConfig:
    """The action path of Predict2.5: the actions between two latent frames shift that frame's modulation.

    Attributes:
      width: A, numbers of one action. per_latent: actions between two latent frames.
      hidden: width of the two embedding networks.
    """

    width: int = 7
    per_latent: int = 4
    hidden: int = 8192

    def __post_init__(self):
        _within(self, 1, WIDEST, "width", "per_latent", "hidden")


@dataclass(frozen=True)
class VAEConfig:
    """The Wan2.1 video autoencoder: 8x8 pixels and, after the first frame, 4 frames to one latent."""

    base_dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = WAN_LATENTS_MEAN
    latents_std: tuple[float, ...] = WAN_LATENTS_STD

    def __post_init__(self):
        _within(self, 1, WIDEST, "base_dim", "z_dim", "dim_mult")
        _within(self, 1, MOST_LAYERS, "num_res_blocks")

    @property
    def spatial_compression(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** len(self.temporal_downsample)

    @property
    def temporal_compression(self) -> int:
        """Frames of one latent frame, but the first, which holds one."""
        return 2 ** sum(self.temporal_downsample)


@dataclass(frozen=True)
class TokenizerConfig:
    """The Predict1 video tokenizer CV8x8x8; its latents are used as they come, without statistics."""

    encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    decode_block_out_channels: tuple[int, ...] = (256, 512, 512, 512)
    attention_resolutions: tuple[int, ...] = (32,)
    resolution: int = 1024
    num_layers: int = 2
    patch_size: int = 4
    latent_channels: int = 16
    spatial_compression: int = 8
    temporal_compression: int = 8
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    def __post_init__(self):
        _within(self, 1, WIDEST, "encoder_block_out_channels", "decode_block_out_channels", "latent_channels")
        _within(
            self, 1, MOST_LAYERS, "num_layers", "patch_size", "spatial_compression", "temporal_compression"
        )


@dataclass(frozen=True)
class ModelConfig:
    """A whole model.

    Attributes:
      name: of the preset. dit, vae, action: its parts; action None: the model takes no actions.
      parametrisation: what the network's output means. "flow": velocity of the rectified flow (2.5);
        "rectified": the same behind the EDM interface of 2.0; "edm": EDM with sigma_data 0.5 (Predict1).
      rope_fps: temporal rotary positions are counted at 24 frames a second of this rate; None: in frames.
      repository, folder: on Hugging Face, and of this model within it.
      licence: of the published weights.
    """

    name: str
    dit: DiTConfig
    vae: VAEConfig | TokenizerConfig
    action: ActionConfig | None = None
    parametrisation: Literal["flow", "rectified", "edm"] = "flow"
    rope_fps: float | None = None
    repository: str = ""
    folder: str = ""
    licence: str = ""

    @property
    def condition_time(self) -> float | None:
        """t that a rectified flow was told for given frames; None: that of the others."""
        return None if self.action else 1e-4

    def latent_frames(self, frames: int) -> int:
        """T for F pixel frames.

        Raises:
          ValueError: the autoencoder has no clip of that length.
        """
        ratio = self.vae.temporal_compression
        if frames < 1 or (frames - 1) % ratio:
            raise ValueError(f"{frames} frames don't fit {self.name}: it takes 1 + a multiple of {ratio}")
        return 1 + (frames - 1) // ratio

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the latents of a picture.

        Raises:
          ValueError: the size is not a whole number of patches.
        """
        side = self.vae.spatial_compression * self.dit.patch
        if height < side or width < side or height % side or width % side:
            raise ValueError(f"{height}x{width} doesn't fit {self.name}: sides are multiples of {side}")
        return height // self.vae.spatial_compression, width // self.vae.spatial_compression

    def without_text(self) -> "ModelConfig":
        """The same model fed projected context, without the projection's parameters."""
        return replace(self, dit=replace(self.dit, text_width=0))


_NVIDIA = "NVIDIA Open Model License"
_UNIT = {"latents_mean": (0.0,) * 16, "latents_std": (1.0,) * 16}
_2B = DiTConfig()
_14B = DiTConfig(width=5120, blocks=36, heads=40)
_TINY = DiTConfig(width=48, blocks=2, heads=2, adaln_rank=8, context_width=32)
_MINI = DiTConfig(width=256, blocks=8, heads=4, adaln_rank=64, context_width=128)

PRESETS = {
    model.name: model
    for model in (
        ModelConfig(
            "tiny",
            _TINY,
            VAEConfig(base_dim=8, dim_mult=(1, 1, 1, 1), num_res_blocks=1, **_UNIT),
            ActionConfig(width=3, hidden=64),
        ),
        ModelConfig(
            "mini", _MINI, VAEConfig(base_dim=24, num_res_blocks=1, **_UNIT), ActionConfig(hidden=1024)
        ),
        ModelConfig(
            "predict2-2b",
            _2B,
            VAEConfig(),
            parametrisation="rectified",
            repository="nvidia/Cosmos-Predict2-2B-Video2World",
            licence=_NVIDIA,
        ),
        ModelConfig(
            "predict2-14b",
            replace(_14B, rope_scale=(20 / 24, 2.0, 2.0)),
            VAEConfig(),
            parametrisation="rectified",
            repository="nvidia/Cosmos-Predict2-14B-Video2World",
            licence=_NVIDIA,
        ),
        ModelConfig(
            "predict2.5-2b",
            replace(_2B, text_width=REASON1_WIDTH),
            VAEConfig(),
            repository="nvidia/Cosmos-Predict2.5-2B",
            folder="base/post-trained",
            licence=_NVIDIA,
        ),
        ModelConfig(
            "predict2.5-2b-action",
            replace(_2B, text_width=REASON1_WIDTH),
            VAEConfig(),
            ActionConfig(),
            repository="nvidia/Cosmos-Predict2.5-2B",
            folder="robot/action-cond",
            licence=_NVIDIA,
        ),
        ModelConfig(
            "predict2.5-14b",
            replace(_14B, text_width=REASON1_WIDTH),
            VAEConfig(),
            repository="nvidia/Cosmos-Predict2.5-14B",
            folder="base/post-trained",
            licence=_NVIDIA,
        ),
        ModelConfig(
            "predict1-7b",
            DiTConfig(width=4096, heads=32, rope_scale=(2.0, 1.0, 1.0), learned_positions=(128, 120, 120)),
            TokenizerConfig(),
            parametrisation="edm",
            rope_fps=24.0,
            repository="nvidia/Cosmos-1.0-Diffusion-7B-Video2World",
            licence=_NVIDIA,
        ),
    )
}
DEFAULT = "predict2.5-2b-action"


def resolve(name: str) -> tuple[ModelConfig, str]:
    """The model that a user means, and one line that says so where the name isn't a preset's own ("" else).

    Args:
      name: a preset; a Hugging Face repository, with or without the folder in it; `nano`.

    Raises:
      ValueError: no such model, or `super`, which names none; the message lists the choices.
    """
    typed = name.strip()
    if typed in PRESETS:
        return PRESETS[typed], ""
    if typed.lower() == "nano":
        return PRESETS[DEFAULT], (
            f"nano: read as {DEFAULT}, the released 2B model that takes actions (Cosmos3-Nano has 16B)"
        )
    if typed.lower() == "super":
        raise ValueError(
            "no Cosmos model of 7B is called super (Cosmos3-Super has 64B): choose predict1-7b, the true 7B, "
            "or predict2.5-14b, the larger sibling of the default"
        )
    for model in sorted(PRESETS.values(), key=lambda model: model.name == DEFAULT, reverse=True):
        where = f"{model.repository}/{model.folder}" if model.folder else model.repository
        if model.repository and typed.lower() in (where.lower(), model.repository.lower()):
            return model, f"{typed}: read as {model.name}"
    close = difflib.get_close_matches(typed.lower(), PRESETS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"no model {name!r}: {hint}There are {', '.join(PRESETS)}, and their repositories")
