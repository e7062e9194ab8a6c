"""Weights of NVIDIA Cosmos: converting published ones, exporting ours, and drilling both at full size.

    python -m launch.cosmos convert --source nvidia/Cosmos-Predict2.5-2B/robot/action-cond --out models/action
    python -m launch.cosmos export --model models/action --out exported
    python -m launch.cosmos drill --record cosmos
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.values import above


@dataclass(frozen=True)
class Convert:
    """Read published weights of a Cosmos model and store them as checkpoints.

    python -m launch.cosmos convert --source nvidia/Cosmos-Predict2.5-2B/robot/action-cond --out models/action

    Runs on the CPU. The drill, with files of the 2B's size, held 8.3 GiB of memory at most. How long it takes
    is not on record.
    """

    source: str
    """A file, an index of shards or a folder; or what to download: a repository, with a folder or file in it,
    or a preset's name."""
    out: Path
    """Where <out>/transformer and <out>/vae are written."""
    vae: Path | None = None
    """The autoencoder's file or folder, where the source doesn't hold it (vae/ or tokenizer.pth)."""
    text: Path | None = None
    """Embedding of the empty prompt; a file beside the transformer is found without this."""
    model: str = ""
    """Preset that the transformer has to be; left out: it is told from the shapes."""
    dtype: Literal["published", "bfloat16", "float32"] = "published"
    """Numbers are stored as published, or rounded or widened to this. Blocks of one stack that were published
    in different types are stored in the widest of these, which changes no number."""
    running_mean: bool = False
    """Take the running means of the weights where a file holds both."""
    yes: bool = False
    """Download without asking."""


@dataclass(frozen=True)
class Export:
    """Write a converted or fine-tuned model as safetensors that diffusers loads.

    python -m launch.cosmos export --model models/action --out exported

    Runs on the CPU. The drill exports the 2B, 4.0 GiB, and has diffusers load it with the same bits.
    """

    model: Path
    """A folder that convert wrote, with transformer/ and vae/; or one part, such as a finetune's model/."""
    out: Path
    """Folder for the safetensors and config.json; must not hold these parts yet."""
    shard_gb: float = 2.0
    """Most gigabytes of a file."""

    def __post_init__(self):
        above(self, 0, "shard_gb")


@dataclass(frozen=True)
class Drill:
    """Convert, export and damage files of a published model's full size, with random numbers in them.

    python -m launch.cosmos drill --record cosmos

    Two CPU cores, 18 GB of disk, the extra `parity`. Expected for the 2B (launch/records/cosmos.json): no
    process holds more than 8.3 GiB for 4.0 GiB of weights, and all of 18 damages are refused. How long it
    takes is not on record.
    """

    model: str = "predict2.5-2b-action"
    """Preset whose shapes the files have."""
    out: Path = Path("runs/cosmos-drill")
    """Folder for the files; made, and removed at the end."""
    record: str = ""
    """Merge the figures into launch/records/<record>.json."""
