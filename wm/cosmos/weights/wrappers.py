"""Names of tensors without what training puts around them, and running means apart from the weights.

A tensor that is x_embedder.proj.1.weight in a published file is net.x_embedder.proj.1.weight in NVIDIA's
training checkpoints, module.net.x_embedder... after data-parallel training, and blocks.0._orig_mod.mlp...
after torch.compile. Its running mean may lie beside it: as net_ema.x_embedder..., in a dictionary called ema,
with "_ema" at the end of its own name, or as model_ema.x_embedderproj1weight.
"""

from collections.abc import Iterable

# Parts that wrappers put in front of a name. No tensor of a known model begins with one.
FRONT = frozenset({"module", "net", "model", "state_dict", "dit", "diffusion_model", "transformer"})
# Parts that wrappers put anywhere in it.
INSIDE = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
# Parts that a file with a part of a known model may have in front of all names.
OWN = frozenset({"blocks", "transformer_blocks", "encoder", "decoder"})
COUNTERS = frozenset({"decay", "num_updates", "n_averaged", "initted", "step"})  # that running means keep


def unwrapped(name: str) -> tuple[str, bool]:
    """(the name without known wrappers, whether the tensor is a running mean)."""
    parts, mean = [], False
    for part in name.split("."):
        plain = part.removesuffix("_ema").removeprefix("ema_")
        mean |= plain != part or part == "ema"
        if part in INSIDE or part == "ema" or (not parts and plain in FRONT):
            continue
        parts.append(plain)
    return ".".join(parts), mean


def is_wrapper(key: str) -> bool:
    """Whether a dictionary of that key holds a model's tensors, rather than an optimiser's or a counter."""
    return unwrapped(f"{key}.x")[0] == "x"


def common_front(names: Iterable[str]) -> str:
    """An unknown wrapper that all names have in front, such as "student."; "" if there is none."""
    split = [name.split(".")[:-1] for name in names]
    front = ""
    for column in zip(*split, strict=False):
        if len(set(column)) > 1 or column[0] in OWN:
            break
        front += f"{column[0]}."
    return front


def paired(means: Iterable[str], weights: Iterable[str]) -> dict[str, str]:
    """The weight that each running mean is of, by the mean's name; some are named without dots."""
    of = {front + name.replace(".", ""): name for name in weights for front in ("", *FRONT)}
    known = set(weights)
    return {name: name if name in known else of.get(name, name) for name in means}
