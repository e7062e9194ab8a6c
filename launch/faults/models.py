"""Weights that others published, and checkpoints, as readers of what others wrote."""

import json
import shutil
import struct
from pathlib import Path
from random import Random

import jax
import jax.numpy as jnp
import numpy as np

from launch.faults import spoil
from launch.faults.digests import digest
from launch.faults.fuzz import Reader
from rl.policy import load_policy
from wm.cosmos.networks.config import PRESETS as COSMOS
from wm.cosmos.weights import export as weights_export
from wm.cosmos.weights import models
from wm.cosmos.weights.recognise import recognise
from wm.cosmos.weights.sources import WeightsError, open_source
from wm.state import bundle
from wm.store import checkpoints, manifest
from wm.store.provenance import ROOT


def prepare_weights(folder: Path) -> None:
    """A tiny transformer as diffusers has it, in two shards with an index, and an autoencoder in one file."""
    tiny = COSMOS["tiny"]
    for part, config in (("transformer", tiny), ("vae", tiny.vae)):
        leaves = random_leaves(config)
        model = models.Model(config, models.tree_of(leaves), None, {})
        size = sum(leaf.nbytes for leaf in leaves.values())
        weights_export.export(folder / part, model, size // 2 if part == "transformer" else size)


def random_leaves(config) -> dict[str, np.ndarray]:
    """Random parameters float32 of a model of `config`, by path."""
    draw = np.random.default_rng(0)
    shapes = models.parameter_shapes(config)
    return {path: draw.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}


def spoil_weights(folder: Path, draw: Random) -> tuple[str, bool]:
    """Bytes and headers of safetensors, the index of the shards, config.json, entries of the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = draw.choice(files)
    if draw.random() < 0.15:
        return spoil.spoil_entry(file, draw), False
    if file.suffix == ".safetensors" and draw.random() < 0.6:
        return _spoil_header(file, draw), False
    return spoil.spoil_file(file, draw), False


def _spoil_header(file: Path, draw: Random) -> str:
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    what, text = spoil.spoil_json(json.loads(data[8 : 8 + size]), draw)
    head = text.encode(errors="surrogatepass")
    claim = draw.choice((len(head), len(head), len(head), 2**63, 10**9, 0))
    file.write_bytes(struct.pack("<Q", claim) + head + data[8 + size :])
    return f"{file.name}: header {what}, {claim} bytes of it"


def read_weights(folder: Path) -> set[str]:
    """Recognise and read both parts."""
    seen = []
    for part in ("transformer", "vae"):
        with open_source(folder / part) as source:
            found = recognise(source)
            seen += [found.kind, found.config, models.flat(models.read(source, found))]
    return {digest(seen)}


# Checkpoints


def prepare_checkpoints(folder: Path) -> None:
    """Two steps of a small tree, a small autoencoder, the shipped controller and the packaged model."""
    for step in (1, 2):
        checkpoints.save(
            folder / "run", step, _tree(step), {"seed": 3, "network": {"width": 8}}, {"loss": 0.5}
        )
    vae = COSMOS["tiny"].vae
    models.save(folder / "vae", vae, models.tree_of(random_leaves(vae)))
    shutil.copytree(ROOT / "rl" / "data" / "default", folder / "policy")
    shutil.copytree(bundle.PACKAGED, folder / "world")


def _tree(step: int) -> dict:
    return {
        "w": np.full((4, 3), step, np.float32),
        "half": np.arange(6, dtype=jnp.bfloat16),
        "key": jax.random.key(step),
        "none": np.zeros((0, 2), np.float32),
        "step": np.int32(step),
    }


def spoil_checkpoints(folder: Path, draw: Random) -> tuple[str, bool]:
    """Bytes and JSON of a step's files; half of the time the manifest is made to agree."""
    part = draw.choice(("run", "run", "run", "vae", "policy", "world"))
    for other in folder.iterdir():  # the other parts stay whole, and reading them again would take long
        if other.name != part:
            shutil.rmtree(other)
    step = max(path for path in (folder / part).iterdir() if path.is_dir())
    files = sorted(path for path in step.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix == ".json"]
    file = draw.choice(texts if draw.random() < 0.6 else files)
    if draw.random() < 0.15:
        return f"{part}/{spoil.spoil_entry(file, draw)}", False
    what = f"{part}/{spoil.spoil_file(file, draw)}"
    resealed = file.name != manifest.MANIFEST and draw.random() < 0.5
    if resealed:
        manifest.write_manifest(step)
    return f"{what}{', sealed again' if resealed else ''}", not resealed and file.name != manifest.MANIFEST


def read_checkpoints(folder: Path) -> set[str]:
    """Everything that is asked of a checkpoint: what its step holds, and what it was made into."""
    readers = {"run": _read_run, "vae": _read_vae, "policy": _read_policy, "world": _read_world}
    return {
        f"{part} {digest(read(folder / part))}" for part, read in readers.items() if (folder / part).exists()
    }


def _read_run(run: Path) -> list:
    restored = checkpoints.restore(run, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, _tree(1))))
    leaves = checkpoints.load_leaves(run)
    known = [checkpoints.load_config(run), checkpoints.load_metadata(run)["leaves"]]
    return [
        checkpoints.latest_step(run),
        known,
        leaves,
        {**restored, "key": jax.random.key_data(restored["key"])},
    ]


def _read_vae(folder: Path) -> list:
    model = models.load(folder)
    return [model.config, models.flat(model.params)]


def _read_policy(folder: Path) -> list:
    return jax.tree.leaves(load_policy(folder)[1])


def _read_world(folder: Path) -> list:
    return jax.tree.leaves(bundle.read_arrays(folder)[0])


def without_last_step(folder: Path) -> None:
    """What a run falls back on where its last checkpoint is not whole."""
    shutil.rmtree(folder / "run" / "00000002")


WEIGHTS = Reader("weights", prepare_weights, spoil_weights, read_weights, (WeightsError,))
CHECKPOINTS = Reader(
    "checkpoints",
    prepare_checkpoints,
    spoil_checkpoints,
    read_checkpoints,
    (checkpoints.CheckpointError, WeightsError),
    without_last_step,
)
