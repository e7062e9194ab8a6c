"""`drill`: convert, export and damage files of a published model's full size, with random numbers in them.

    python -m launch.cosmos drill --record cosmos

Makes the files of a model in both namings, sharded, with an index and without; converts both, measuring the
most memory that each process held; compares what came of them; exports, and has diffusers load the export.
Then every kind of damage is done to the files, and each has to be refused in one line that names it. Wants
the extra `parity` and, for the 2B, 18 GB of disk.
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from configs import cli
from configs.cosmos_weights import Drill
from launch.cosmos import __main__ as cosmos
from launch.shared import records, runs
from wm.cosmos.networks.config import ModelConfig, resolve
from wm.cosmos.weights import export, keymaps, models
from wm.cosmos.weights.keymaps import Slot
from wm.cosmos.weights.recognise import slots_of
from wm.cosmos.weights.sources import ACTION_FILE, WeightsError
from wm.store import checkpoints
from wm.store.provenance import ROOT

SHARDS = 3
DTYPE = np.dtype(jnp.bfloat16)
POOL = 2**24  # random numbers that every tensor is cut from
DIFFUSERS_LOADS = """
import json, sys, zlib, torch
from diffusers import CosmosTransformer3DModel
model = CosmosTransformer3DModel.from_pretrained(sys.argv[1], torch_dtype=torch.bfloat16)
bits = lambda tensor: tensor.contiguous().view(torch.int16).numpy().tobytes()
kept = {name for name, tensor in model.state_dict().items() if tensor.dtype != torch.bfloat16}
sums = {name: zlib.crc32(bits(tensor.to(torch.bfloat16))) for name, tensor in model.state_dict().items()}
print(json.dumps({"sums": sums, "float32": len(kept)}))
"""


def main(argv: list[str]) -> None:
    """Drill and print a line for each step."""
    config = cli.parse(Drill, argv)
    errors = (WeightsError, checkpoints.CheckpointError, records.RecordError, OSError, ValueError)
    with runs.one_line_errors(*errors):
        if missing := [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]:
            raise ValueError(f"the drill compares with {missing[0]}: install the extra `parity`")
        model, _ = resolve(config.model)
        if config.out.exists():
            raise ValueError(f"{config.out} exists already; name another --out")
        size = models.count(slots_of(model, "original")) * DTYPE.itemsize
        models.require_space(config.out, 4 * size)
        try:
            figures = drill(model, config.out)
        finally:
            shutil.rmtree(config.out, ignore_errors=True)
        for name, figure in figures.items():
            print(f"{name}: {figure.value:.4g} {figure.unit} (n = {figure.n})")
        if config.record:
            records.write(config.record, figures)


def drill(model: ModelConfig, out: Path) -> dict[str, records.Figure]:
    """All steps, in a new folder.

    Raises:
      ValueError: something came out other than it went in, or a damaged file was taken.
    """
    sums = {}
    for naming in ("original", "diffusers"):
        sums[naming] = make_files(out / naming, model, naming)
    peaks = {}
    for naming in ("diffusers", "original"):
        shutil.rmtree(out / "converted", ignore_errors=True)
        peaks[f"convert {naming}"] = measured(
            ["convert", "--source", out / naming, "--out", out / "converted"]
        )
        check_converted(out / "converted" / "transformer", slots_of(model, naming), sums[naming])
    peaks["export"] = measured(["export", "--model", out / "converted", "--out", out / "exported"])
    shutil.rmtree(out / "converted")
    check_diffusers(out / "exported" / "transformer", sums["diffusers"])
    shutil.rmtree(out / "exported")
    refused = [line for naming in sums for line in damages(out / naming, model, naming)]
    size = models.count(slots_of(model, "original")) * DTYPE.itemsize / 2**30
    for step, peak in peaks.items():
        print(f"{step}: peak {peak:.2f} GiB, {peak - size:.2f} GiB beyond the weights")
    worst = max(peaks.values())
    exactly = lambda value, unit, n: records.Figure(value, value, value, unit, n)  # noqa: E731
    return {
        "drill_weights_gib": exactly(size, "GiB", 1),
        "drill_peak_gib": records.Figure(worst, min(peaks.values()), worst, "GiB", len(peaks)),
        "drill_beyond_weights_gib": exactly(worst - size, "GiB", len(peaks)),
        "damaged_refused": exactly(sum(refused) / len(refused), "", len(refused)),
    }


# Whole files


def make_files(folder: Path, model: ModelConfig, naming: str) -> dict[str, int]:
    """Writes a model's files and returns the checksum of every tensor by name.

    A parameter has the same numbers in either naming. The original's files have an index, diffusers' none.
    """
    folder.mkdir(parents=True)
    pool = np.random.default_rng(0).standard_normal(POOL, np.float32).astype(DTYPE)
    prefix = "net." if naming == "original" else ""
    slots = slots_of(model, naming)
    actions = [slot for slot in slots if naming == "diffusers" and slot.path.startswith("action/")]
    rest = [slot for slot in slots if slot not in actions]
    # The last shard is small, so that damaging it is quick.
    cuts = [0, len(rest) // 2, len(rest) - len(rest) // 40 - 1, len(rest)]
    sums, weight_map = {}, {}
    files = {
        f"model-{i + 1:05d}-of-{SHARDS:05d}.safetensors": rest[cuts[i] : cuts[i + 1]] for i in range(SHARDS)
    }
    if actions:
        files[ACTION_FILE] = actions
    for file, group in runs.track(files.items(), "file"):
        tensors = {prefix + slot.name: numbers(slot, pool) for slot in group}
        sums |= {slot.name: zlib.crc32(tensors[prefix + slot.name].view(np.uint8)) for slot in group}
        weight_map |= dict.fromkeys(tensors, file)
        save_file(tensors, folder / file, {"format": "pt"})
    if naming == "original":
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (folder / "config.json").write_text(json.dumps(export.diffusers_config(model)))
    return sums


def numbers(slot: Slot, pool: np.ndarray) -> np.ndarray:
    """Random numbers for a tensor: the same for the same parameter, whatever its name."""
    start = zlib.crc32(f"{slot.path} {slot.row}".encode()) % len(pool)
    count = int(np.prod(slot.shape))
    if start + count <= len(pool):
        return pool[start : start + count].reshape(slot.shape)
    return np.resize(np.roll(pool, -start), slot.shape)


def measured(arguments: list) -> float:
    """Runs a verb in a process of its own; the most memory that it held, mapped files included, in GiB.

    Raises:
      ValueError: it failed.
    """
    command = [sys.executable, "-m", "launch.cosmos", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise ValueError(f"{' '.join(command[1:4])} ended with status {process.returncode}")
    return usage.ru_maxrss / 2**20


def check_converted(folder: Path, slots: list[Slot], sums: dict[str, int]) -> None:
    """Raises ValueError unless a converted model has the numbers that the files were made of."""
    leaves = models.flat(models.load(folder).params)
    for slot in slots:
        leaf = leaves[slot.path] if slot.row is None else leaves[slot.path][slot.row]
        if zlib.crc32(keymaps.to_theirs(slot, leaf).view(np.uint8)) != sums[slot.name]:
            raise ValueError(f"{slot.path} was converted to other numbers than {slot.name} has")
    print(f"{len(slots)} tensors were converted with the same bits")


def check_diffusers(folder: Path, sums: dict[str, int]) -> None:
    """Raises ValueError unless diffusers loads the export with the numbers that the files were made of."""
    command = [sys.executable, "-c", DIFFUSERS_LOADS, str(folder.resolve())]
    loaded = subprocess.run(command, capture_output=True, text=True)
    if loaded.returncode:
        raise ValueError(f"diffusers can't load the export: {loaded.stderr.strip()[-300:]}")
    found = json.loads(loaded.stdout)["sums"]
    wanted = {name: value for name, value in sums.items() if not name.startswith("action_embedder")}
    if wrong := sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)):
        raise ValueError(f"diffusers loaded other numbers: {', '.join(wrong[:5])}")
    print(f"diffusers loaded {len(found)} tensors of the export with the same bits")


# Damaged files


@dataclass(frozen=True)
class Damage:
    """A way to spoil a folder of files, and what the refusal has to name."""

    name: str
    do: Callable[[Path], None]
    told: str


def damages(folder: Path, model: ModelConfig, naming: str) -> Iterator[bool]:
    """Whether each damage to the files is refused by name, in one line, and leaves nothing."""
    for damage in [
        *_damages(folder, model, naming),
        Damage("no room on the disk", lambda _: None, "no room"),
    ]:
        spoilt, out = folder.with_name("spoilt"), folder.with_name("refused")
        spoilt.mkdir()
        for file in folder.iterdir():
            os.link(file, spoilt / file.name)
        damage.do(spoilt)
        refuse = refuse_without_room if damage.told == "no room" else refuse_here
        status, error = refuse(["convert", "--source", str(spoilt), "--out", str(out)])
        refused = status == 1 and damage.told in error and error.count("\n") == 1 and not out.exists()
        print(f"{naming}, {damage.name}: {'refused' if refused else 'NOT REFUSED'}: {error.strip()[:160]}")
        shutil.rmtree(spoilt)
        shutil.rmtree(out, ignore_errors=True)
        yield refused


def refuse_here(arguments: list[str]) -> tuple[int, str]:
    """Exit status of a verb and what it said on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            cosmos.main(arguments)
        except SystemExit as stopped:
            return stopped.code, said.getvalue()
    return 0, said.getvalue()


def refuse_without_room(arguments: list[str]) -> tuple[int, str]:
    """As `refuse_here`, with 1 MB of room where the verb writes: a file system that only its process sees."""
    out = Path(arguments[-1])
    small = out.with_name("small")
    small.mkdir()
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    verb = [sys.executable, "-m", "launch.cosmos", *arguments[:-1], str(small / out.name)]
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, str(small), *verb]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    small.rmdir()
    return done.returncode, done.stderr


def _damages(folder: Path, model: ModelConfig, naming: str) -> list[Damage]:
    last = f"model-{SHARDS:05d}-of-{SHARDS:05d}.safetensors"
    first = last.replace(f"-{SHARDS:05d}-of", "-00001-of")
    name = max(load_file(folder / last))
    plain = name.removeprefix("net." if naming == "original" else "")
    told = export.diffusers_config(model) | {"num_layers": model.dit.blocks + 1}

    def tensors(change: Callable[[dict], None]) -> Callable[[Path], None]:
        return lambda spoilt: _rewrite(spoilt, last, change)

    return [
        Damage("tensor missing", tensors(lambda t: t.pop(name)), f"{plain} is missing"),
        Damage("tensor too many", tensors(lambda t: t.update(stray=t[name])), "stray doesn't belong to it"),
        Damage("tensor misshapen", tensors(lambda t: t.update({name: t[name][:-1]})), f"{plain} is ("),
        Damage(
            "wrong dtype",
            tensors(lambda t: t.update({name: t[name].astype(np.int8)})),
            f"{plain} is of type I8",
        ),
        Damage("file cut short", lambda s: _cut(s / last), f"{last} is damaged or cut short"),
        Damage(
            "shard missing", lambda s: (s / first).unlink(), first if naming == "original" else "is missing"
        ),
        Damage("another model", _another, "is of another model"),
        Damage(
            "config.json contradicts",
            lambda s: _contradict(s, told),
            f"config.json says num_layers = {told['num_layers']}",
        ),
    ]


def _rewrite(spoilt: Path, file: str, change: Callable[[dict], None]) -> None:
    """Changes the tensors of a shard, and has the index, if there is one, list them."""
    tensors = load_file(spoilt / file)
    change(tensors)
    (spoilt / file).unlink()  # the link, so that the whole file stays as it is
    save_file(tensors, spoilt / file)
    index = spoilt / "model.safetensors.index.json"
    if index.exists():
        listed = json.loads(index.read_text())
        kept = {key: shard for key, shard in listed["weight_map"].items() if shard != file}
        index.unlink()
        index.write_text(json.dumps({"weight_map": kept | dict.fromkeys(tensors, file)}))


def _cut(file: Path) -> None:
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[: len(data) // 2])


def _another(spoilt: Path) -> None:
    shutil.rmtree(spoilt)
    spoilt.mkdir()
    layer = np.zeros((8, 8), np.float32)
    tensors = {f"layers.{i}.self_attn.q_proj.weight": layer for i in range(8)}
    save_file(tensors, spoilt / "model.safetensors")


def _contradict(spoilt: Path, told: dict) -> None:
    (spoilt / "config.json").unlink(missing_ok=True)
    (spoilt / "config.json").write_text(json.dumps(told))
