"""Further runs of `shapes`: a few clips learned by heart, adapters for the opposite world, a run cut in two.

Below `shapes`'s folder come

    few/            the first clips, and few-run/ that learns nothing else
    opposite/       clips whose actions mean the opposite, and opposite-run/: adapters of the trained model
    opposite-cut/   the same run, ended after its first epoch and resumed
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from configs.cosmos import Finetune, LoRAConfig, Shapes
from launch.cosmos.finetune import saved_variables, train
from launch.cosmos.samples import Judge, sampler
from launch.shared import records
from wm.cosmos.training import clips, shapes
from wm.cosmos.training.clips import Clip
from wm.cosmos.training.shapes import World
from wm.cosmos.weights import models
from wm.store import checkpoints

FEW, FEW_STEPS = 8, 1200
OPPOSITE, OPPOSITE_EPOCHS = 8, 40  # batches, and how often each is seen
ADAPTERS = LoRAConfig(rank=16, alpha=16.0)


def copy_clips(source: Path, folder: Path, training: int, test: int, sign: float = 1.0) -> None:
    """The first `training` clips and the last `test`, their actions times `sign`."""
    folder.mkdir(exist_ok=True)
    paths = clips.find(source)
    for path in (*paths[:training], *paths[len(paths) - test :]):
        if not (folder / path.name).exists():
            clip = clips.read(path)
            clips.write(folder / path.name, Clip(clip.frames, sign * clip.actions))


def begun(directory: Path) -> bool:
    """Whether a run has a checkpoint to go on from; a finished one then ends at once."""
    return checkpoints.latest_step(directory / "resume") is not None


def by_heart(config: Shapes, options: Finetune, world: World) -> dict[str, records.Figure]:
    """A model from random weights on a few clips: everything in them comes back, drifters too."""
    copy_clips(config.out / "clips", config.out / "few", FEW, 2)
    asked = replace(
        options,
        data=config.out / "few",
        out=config.out / "few-run",
        epochs=FEW_STEPS,
        save_every=FEW_STEPS,
        batch=FEW,
        holdout=2,
        pictures=2,
        minutes=None,
        shortcut_share=0.0,
    )
    _, judge = train(asked)
    params = models.load(asked.out / "model").params
    rows, truth = np.arange(FEW), np.load(config.out / "clips" / "truth.npy")[:FEW]
    everything = replace(world, shapes=world.all, drifters=0)
    run = judge.run
    drawn = judge.draw({"params": params}, rows, run.actions(rows), sampler(run))
    videos = {"vae": np.asarray(run.data.latents[rows], np.float32), "by_heart": drawn}
    return {
        f"shapes_position_error_of_{FEW}_clips_{name}": records.bootstrap(
            shapes.position_error(run.coder.decode(latents), truth, everything), "px", seed=0
        )
        for name, latents in videos.items()
    }


def opposite(config: Shapes, options: Finetune, world: World, judge: Judge) -> dict[str, records.Figure]:
    """Adapters teach the trained model that every action means its opposite; `judge` is of that model.

    Drawn without them, with them, and with them merged; and the same run once more, cut in two.
    """
    folder = config.out / "opposite"
    copy_clips(config.out / "clips", folder, OPPOSITE * config.batch, config.test, -1.0)
    asked = replace(
        options,
        data=folder,
        out=config.out / "opposite-run",
        init=config.out / "run" / "model",
        mode="lora",
        lora=ADAPTERS,
        epochs=OPPOSITE_EPOCHS,
        save_every=OPPOSITE_EPOCHS,
        minutes=None,
    )
    cut = replace(asked, out=config.out / "opposite-cut")
    train(asked)
    if not begun(cut.out):
        train(replace(cut, minutes=1e-9))
    train(cut)
    adapted, adapters, _ = saved_variables(asked)
    before = {"params": models.load(config.out / "run" / "model").params}
    merged = {"params": models.load(asked.out / "model").params}
    truth = np.load(config.out / "clips" / "truth.npy")[judge.rows]

    def error(judge: Judge, variables: dict, actions: np.ndarray) -> records.Figure:
        drawn = judge.draw(variables, judge.rows, actions, sampler(judge.run))
        return records.bootstrap(
            shapes.position_error(judge.run.coder.decode(drawn), truth, world), "px", seed=0
        )

    own, meant = judge.run, adapted.run.actions(adapted.rows)
    raw = np.asarray(adapted.run.data.actions[adapted.rows])
    return {
        "shapes_position_error_opposite_before": error(judge, before, own.normaliser(raw)),
        "shapes_position_error_opposite_adapters": error(adapted, adapters, meant),
        "shapes_position_error_opposite_merged": error(adapted, merged, meant),
        "shapes_resumed_arrays_identical": identical(asked.out, cut.out),
    }


def identical(whole: Path, cut: Path) -> records.Figure:
    """Share of the arrays of a run's newest checkpoint that another run's has to the bit."""
    step = checkpoints.latest_step(whole / "resume")
    ours, theirs = (checkpoints.load_leaves(path / "resume", step) for path in (whole, cut))
    same = [name in theirs and ours[name].tobytes() == theirs[name].tobytes() for name in ours]
    share = float(np.mean(same))
    return records.Figure(share, share, share, "", len(same))
