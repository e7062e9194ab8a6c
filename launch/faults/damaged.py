"""Damaged, old and foreign inputs given to whole commands: one line of error, and nothing is touched."""

import contextlib
import hashlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from launch import eval_policy, eval_wm, export, train_ppo, train_wm, validate
from launch.check_training import FRAMES, SIDE
from launch.cosmos import __main__ as cosmos
from launch.faults import spoil, subjects
from launch.faults.drills import Bench, Row, check_words
from launch.faults.subjects import SHIPPED
from wm.state import bundle
from wm.store import lock, manifest
from wm.store.provenance import ROOT, write_json


@dataclass(frozen=True)
class Damage:
    """What is done to the input of a command of COMMANDS: harm(copy); and what the one line of error says."""

    command: str
    fault: str
    harm: Callable[[Path], None]
    told: str


def _flip(pattern: str) -> Callable[[Path], None]:
    """One bit in the middle of the largest file of that name."""

    def harm(folder: Path) -> None:
        file = max((p for p in folder.rglob(pattern) if p.is_file()), key=lambda path: path.stat().st_size)
        data = bytearray(file.read_bytes())
        used = [i for i, byte in enumerate(data) if byte]
        data[used[len(used) // 2]] ^= 1
        file.write_bytes(data)

    return harm


def _cut(pattern: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        file = max((p for p in folder.rglob(pattern) if p.is_file()), key=lambda path: path.stat().st_size)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return harm


def _lose(pattern: str) -> Callable[[Path], None]:
    return lambda folder: min(folder.rglob(pattern)).unlink()


def _reword(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A checkpoint whose JSON says something else, sealed as an older program would have."""

    def harm(folder: Path) -> None:
        step = max(path for path in folder.iterdir() if path.is_dir())
        document = json.loads((step / name).read_text())
        change(document)
        write_json(step / name, document)
        manifest.write_manifest(step)

    return harm


def _older_features(config: dict) -> None:
    config["names"]["features"].remove(config["names"]["features"][0])


def _older_columns(config: dict) -> None:
    config["names"]["aircraft feature"][0] = "altitude_of_old"


def _outside(folder: Path) -> None:
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    listed = json.loads(index.read_text())
    listed["weight_map"] = dict.fromkeys(listed["weight_map"], "../../../etc/passwd")
    index.write_text(json.dumps(listed))


def _wrong_type(folder: Path) -> None:
    file = max(folder.rglob("*00001-of*.safetensors"))
    save_file({name: np.zeros(t.shape, np.int8) for name, t in load_file(file).items()}, file)


def _pipe(pattern: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        file = min(folder.rglob(pattern))
        spoil.ENTRIES["a pipe"](file, None)

    return harm


def _led_away(folder: Path) -> None:
    file = min(folder.rglob("dataset_info.json"))
    document = json.loads(file.read_text())
    document["splits"][0]["filepathTemplate"] = "../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}"
    file.write_text(json.dumps(document))


def _validate(words: list[str]) -> None:
    import sys

    before, sys.argv = sys.argv, ["validate", *words]
    try:
        raise SystemExit(validate.main())
    finally:
        sys.argv = before


# What each command is told: the damaged input {i} and its own folder {o}.
FIT = "--airports kabq --members 2 --width 32 --batch 64 --steps 4 --inner 2 --rows 64 --data {i} --out {o}"
JUDGE = "--checkpoint {i} --out {o}"
BRIEF = "--where model --minutes 1 --episodes 1 --cache {o}/cache --out {o}/report"
IMAGINE, JUDGE_POLICY = f"{BRIEF} --checkpoint {{i}} --policies noop", f"{BRIEF} --policies {{i}}"
LEARN = "--checkpoint {i} --out {o} --ppo.num-envs 8"
FINETUNE = f"--model tiny --frames {FRAMES} --height {SIDE} --width {SIDE}"
FINETUNE = f"finetune --data {{i}} --vae {{inputs}}/vae {FINETUNE} --out {{o}}"
COMMANDS = {
    "validate": (_validate, "--data {i}", lambda bench: SHIPPED / "train"),
    "train_wm": (train_wm.main, FIT, lambda bench: SHIPPED / "train"),
    "pack": (export.main, "pack --data {i} --out {o}", lambda bench: SHIPPED / "train"),
    "unpack": (export.main, "unpack --data {i} --out {o}", lambda bench: bench.inputs / "packed"),
    "eval_wm": (eval_wm.main, JUDGE, lambda bench: bundle.PACKAGED),
    "eval_policy": (eval_policy.main, IMAGINE, lambda bench: bundle.PACKAGED),
    "eval_policy of it": (eval_policy.main, JUDGE_POLICY, lambda bench: ROOT / "rl" / "data" / "default"),
    "train_ppo": (train_ppo.main, LEARN, lambda bench: bundle.PACKAGED),
    "convert": (cosmos.main, "convert --source {i} --out {o}", lambda bench: bench.inputs / "weights"),
    "export": (cosmos.main, "export --model {i} --out {o}", lambda bench: bench.inputs / "converted"),
    "finetune": (cosmos.main, FINETUNE, lambda bench: bench.inputs / "clips"),
}
"""By name: main, its words, and the input that is copied and damaged."""
DAMAGES = (
    Damage("validate", "flipped byte", _flip("*array_record*"), "torn"),
    Damage("train_wm", "torn record", _cut("*array_record*"), "torn"),
    Damage("train_wm", "flipped byte", _flip("*array_record*"), "torn"),
    Damage("train_wm", "lost record", _lose("*array_record*"), "is missing"),
    Damage("train_wm", "a pipe for a record", _pipe("*array_record*"), "no file"),
    Damage("train_wm", "records elsewhere", _led_away, "which is not in it"),
    Damage("train_wm", "torn metadata", _cut("features.json"), "unreadable metadata"),
    Damage("pack", "torn record", _cut("*array_record*"), "torn"),
    Damage("unpack", "flipped byte", _flip("*.episode"), "is damaged"),
    Damage("unpack", "torn episode", _cut("*.episode"), "is damaged"),
    Damage("eval_wm", "flipped world model", _flip("d/*"), "not what was saved"),
    Damage("eval_policy", "torn world model", _cut("d/*"), "no complete checkpoint"),
    Damage("eval_policy", "older world model", _reword("config.json", _older_features), "train it again"),
    Damage("eval_policy of it", "older policy", _reword("config.json", _older_columns), "use the version"),
    Damage("eval_policy of it", "flipped controller", _flip("d/*"), "not what was saved"),
    Damage("train_ppo", "flipped world model", _flip("d/*"), "not what was saved"),
    Damage("convert", "torn shard", _cut("*00001-of*.safetensors"), "damaged or cut short"),
    Damage("convert", "shards elsewhere", _outside, "no name of a file beside it"),
    Damage("convert", "other numbers", _wrong_type, "is of type I8"),
    Damage("export", "flipped model", _flip("d/*"), "not what was saved"),
    Damage("finetune", "torn clip", _cut("*.npz"), "can't be read"),
)


def refuse(bench: Bench, damage: Damage) -> Row:
    """Give a command a damaged copy of its input."""
    main, words, source = COMMANDS[damage.command]
    name = f"{damage.command}-{damage.fault}".replace(" ", "-")
    copy, out = bench.fresh(name), bench.fresh(f"{name}-out")
    if source(bench).is_relative_to(bench.folder):
        subjects.make_inputs(bench.inputs)
    shutil.copytree(source(bench), copy)
    damage.harm(copy)
    before = _contents(copy)
    said, row = io.StringIO(), Row(damage.command, damage.fault)
    handler = signal.getsignal(signal.SIGTERM)  # some commands set their own
    given = [word.format(i=copy, o=out, inputs=bench.inputs) for word in words.split()]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(given)
            row.status = 0
        except SystemExit as stopped:
            row.status = stopped.code
        except Exception as error:
            said.write(f"Traceback {type(error).__name__}: {error}")
        finally:
            signal.signal(signal.SIGTERM, handler)
    check_words(row, said.getvalue(), (1,))
    if damage.told not in said.getvalue():
        row.problems.append(f"says {row.said!r}, which has no {damage.told!r}")
    now = _contents(copy)
    row.lost += [path for path, digest in before.items() if now.get(path) != digest]
    return row


def _contents(folder: Path) -> dict[str, str]:
    """Files of a folder and their digests; locks are no data, and pipes hold none."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != lock.NAME)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
