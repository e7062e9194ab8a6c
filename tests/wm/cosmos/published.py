"""Files as NVIDIA and diffusers publish them, made of random weights of small models."""

import json

import jax
import numpy as np
from safetensors.numpy import save_file

from tests.wm.cosmos.parity.case import random_tree
from wm.cosmos.weights import keymaps, models
from wm.cosmos.weights.recognise import slots_of


def random_params(config, seed=0, dtype=np.float32):
    """A tree of random parameters for a configuration."""
    shapes = models.parameter_shapes(config)
    tree = models.tree_of({path: jax.ShapeDtypeStruct(shape, dtype) for path, shape in shapes.items()})
    return jax.tree.map(lambda leaf: leaf.astype(dtype), random_tree(tree, seed))


def tensors(config, params, naming):
    """The tensors of a model by their published names."""
    leaves = models.flat(params)
    return {
        slot.name: keymaps.to_theirs(
            slot, leaves[slot.path] if slot.row is None else leaves[slot.path][slot.row]
        )
        for slot in slots_of(config, naming)
    }


def write_shards(folder, state, count, index=True):
    """Writes `state` in `count` safetensors files; with `index`, their table of contents as well."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(state)
    weight_map = {}
    for number in range(count):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{count:05d}.safetensors"
        shard = {name: state[name] for name in names[number::count]}
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    if index:
        path = folder / "diffusion_pytorch_model.safetensors.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder
