"""`export`: write a converted or fine-tuned model as safetensors that diffusers loads.

    python -m launch.cosmos export --model models/action --out exported

Writes <out>/transformer and <out>/vae of what <model> holds, each with config.json.
"""

from pathlib import Path

from configs import cli
from configs.cosmos_weights import Export
from launch.shared import runs
from wm.cosmos.weights import export, models
from wm.cosmos.weights.recognise import slots_of
from wm.cosmos.weights.sources import ACTION_FILE, WeightsError
from wm.store import checkpoints

PARTS = ("transformer", "vae")


def main(argv: list[str]) -> None:
    """Export and say what was written."""
    config = cli.parse(Export, argv)
    with runs.one_line_errors(WeightsError, checkpoints.CheckpointError, OSError, ValueError):
        parts = {part: config.model / part for part in PARTS if (config.model / part).is_dir()}
        if not parts:
            parts = {_part(config.model): config.model}
        for part, folder in parts.items():
            export_part(folder, config.out / part, int(config.shard_gb * 1e9))


def _part(folder: Path) -> str:
    """Which part of a model a folder holds by itself."""
    if checkpoints.latest_step(folder) is None:
        raise WeightsError(
            f"{folder} holds neither transformer/ nor vae/; name what convert or finetune wrote"
        )
    return "transformer" if checkpoints.load_config(folder).get("kind") == "transformer" else "vae"


def export_part(folder: Path, out: Path, shard_bytes: int) -> None:
    """Exports one part with a progress line."""
    model = models.load(folder)
    with runs.progress(len(slots_of(model.config, "diffusers")), "tensor") as line:
        files = export.export(out, model, shard_bytes, line.update)
    size = sum(file.stat().st_size for file in files)
    print(f"written: {out} ({len(files)} files, {size / 1e9:.2f} GB)")
    if (out / ACTION_FILE).exists():
        print(f"diffusers runs it without the action path, which is kept in {ACTION_FILE}")
