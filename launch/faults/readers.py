"""The readers of what others wrote: recordings, weights, checkpoints, a page's answers, configurations.

Every one prepares an input of its own, small and whole, spoils a copy of it and reads all that can be read.
"""

import contextlib
import io
import json
from pathlib import Path
from random import Random

from configs import cli, cosmos, ppo, world_model
from configs.evaluation import EvaluationConfig
from launch.faults import answers, models, recordings, spoil
from launch.faults.digests import digest
from launch.faults.fuzz import Reader
from wm.cosmos.networks.config import PRESETS

CLASSES = {
    "ppo": (ppo.PPOTraining, ppo.PPOTraining(out=Path("runs/ppo"))),
    "world_model": (world_model.WorldModelConfig, world_model.WorldModelConfig(out=Path("runs/wm"))),
    "evaluation": (EvaluationConfig, EvaluationConfig()),
    "cosmos": (type(PRESETS["tiny"]), PRESETS["tiny"]),
    "finetune": (cosmos.Finetune, cosmos.Finetune(Path("clips"), Path("vae"), Path("runs/ft"))),
}


def prepare(folder: Path) -> None:
    """A JSON file and a command line for every class."""
    folder.mkdir(parents=True)
    for name, (_, config) in CLASSES.items():
        (folder / f"{name}.json").write_text(json.dumps(cli.to_json(config)))
    words = ["--episodes", "3", "--airport", "klas", "--traffic", "1.5", "--policies", "noop", "runs/ppo"]
    (folder / "words.json").write_text(json.dumps([*words, "--split", "select", "--minutes", "5"]))


def spoil_one(folder: Path, draw: Random) -> tuple[str, bool]:
    """What one file says; a command line is spoilt by words that mean something else."""
    file = draw.choice(sorted(folder.iterdir()))
    if file.name != "words.json":
        way = spoil.spoil_entry if draw.random() < 0.1 else spoil.spoil_file
        return way(file, draw), False
    words = json.loads(file.read_text())
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(words))
        replacement = str(
            draw.choice((*spoil.NAMES, *spoil.NUMBERS, "--", "--help-me", "-1e999", "--record"))
        )
        words[at : at + draw.choice((0, 1))] = [replacement.replace("\x00", "0")]  # no system passes NUL on
    file.write_text(json.dumps(words))
    return f"words: {' '.join(word[:20] for word in words)}", False


def read(folder: Path) -> set[str]:
    """Load each file as its class, and parse the command line."""
    seen = [cli.load(kind, folder / f"{name}.json") for name, (kind, _) in CLASSES.items()]
    words, said = json.loads((folder / "words.json").read_text()), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            seen.append(cli.parse(EvaluationConfig, words))
    except SystemExit as stopped:
        lines = said.getvalue().splitlines()
        if stopped.code == 2 and len(lines) == 1 and lines[0].startswith("error: "):
            raise cli.ConfigError(lines[0]) from None
        raise AssertionError(f"a command line ends with {stopped.code}: {said.getvalue()[:300]}") from None
    return {digest([cli.to_json(config) for config in seen])}


CONFIGURATIONS = Reader("configurations", prepare, spoil_one, read, (cli.ConfigError,))
READERS = {
    reader.name: reader
    for reader in (recordings.READER, models.WEIGHTS, models.CHECKPOINTS, CONFIGURATIONS, answers.READER)
}
