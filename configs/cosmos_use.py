"""Using NVIDIA Cosmos: what it costs, and generating video.

python -m launch.cosmos info --model predict2.5-2b-action --devices 8 --device H200
python -m launch.cosmos generate --model runs/cosmos/model --vae models/vae --start first.png --actions a.csv
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.values import above, at_least, require

DeviceName = Literal["H200", "H100", "A100", "B200", "RTX 5090", "RTX 4090"]


@dataclass(frozen=True)
class Info:
    """Say what a model costs and what of it fits.

    python -m launch.cosmos info --model predict2.5-2b-action --devices 8 --device H200

    Needs no accelerator: nothing is allocated or computed. Parameter counts are exact, memory is an
    estimate, and speed follows from the shares below.
    """

    model: str = "predict2.5-2b-action"
    """A preset, a Hugging Face repository, or a folder of converted weights."""
    frames: int = 17
    """Pixel frames of a clip, the given one included."""
    height: int = 512
    width: int = 512
    device: DeviceName = "H200"
    devices: int = 1
    steps: int = 35
    """Of the sampler."""
    lora_rank: int = 32
    train_share: float = 0.45
    """Of the device's peak that a training step reaches; like the next two measured with the 2B on one H200
    (launch/records/cosmos.json), and only assumed to hold elsewhere."""
    forward_share: float = 0.55
    """... that sampling reaches, in latents."""
    autoencoder_share: float = 0.41
    """... that decoding reaches."""

    def __post_init__(self):
        at_least(self, 1, "frames", "height", "width", "devices", "steps", "lora_rank")
        for name in ("train_share", "forward_share", "autoencoder_share"):
            value = getattr(self, name)
            require(0 < value <= 1, name, value, "above 0 and at most 1")


@dataclass(frozen=True)
class Generate:
    """Continue a picture or video under given actions, chunk by chunk, into an mp4.

    python -m launch.cosmos generate --model runs/cosmos/model --vae models/vae --start a.png --actions a.csv

    One GPU; `info` says how much memory it takes. Expected for the 2B on one H200 at 512 x 512, two clips
    at once (launch/records/cosmos.json): 10 frames a second in 35 steps, 60 in 4, 118 in 1. The presets
    tiny and mini run on a CPU.
    """

    model: str
    """Folder of converted or fine-tuned weights; the presets tiny and mini run with random ones."""
    vae: Path | None = None
    """Folder of the converted autoencoder; left out: vae in the model's folder."""
    start: Path | None = None
    """Picture or video to continue; left out: grey."""
    actions: Path | None = None
    """Numbers of one action per line (.csv) or as an array (n, A) (.npy)."""
    normaliser: Path | None = None
    """Scale of the actions; left out: normaliser.json beside the model's folder, if there is one."""
    chunks: int | None = None
    """How many chunks to generate, of a model without actions."""
    frames: int = 17
    """Of a chunk, given ones included."""
    given: int = 1
    """Last frames of what there is so far that a chunk sees."""
    height: int | None = None
    """The start is resized to this; left out: as it is."""
    width: int | None = None
    steps: int = 35
    solver: Literal["unipc", "euler"] = "unipc"
    schedule: Literal["shifted", "karras", "few"] = "shifted"
    """few: for models trained with a shortcut_share, in 1 to 4 steps."""
    shift: float = 5.0
    condition_time: float | None = None
    """Noise level that given frames are said to have; left out: what the model was trained with."""
    context: Path | None = None
    """Text embedding (tokens, width), .npy or safetensors; left out: the converted empty prompt, or zeros."""
    negative: Path | None = None
    """Embedding of what guidance leads away from."""
    guidance: float = 0.0
    fps: float = 10.0
    seed: int = 0
    out: Path | None = None
    """A new folder in runs if left out."""

    def __post_init__(self):
        above(self, 0, "fps")
        at_least(self, 1, "given")
        if (self.height is None) != (self.width is None):
            raise ValueError("give both height and width, or neither")
