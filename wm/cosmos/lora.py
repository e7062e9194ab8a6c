"""Low-rank adaptation (Hu et al. 2021): W + (alpha / rank) A B, with W as it was and only A, B learned.

The layers of `wm.cosmos.layers` add x a b wherever the collection "lora" holds a and b for them, so a model's
variables are {"params": ..., "lora": ...}, and a training run divides them into what is trained and what is
frozen:

    trained   {"params": {"action": ...}, "lora": {"blocks": {"self": {"q": {"a": (L, in, rank), "b": ...}}}}}
    frozen    {"params": everything else}

a starts random and b at zero: the first step computes the old function. No gradient of W is ever computed.
Whole training has everything in trained["params"] and nothing frozen.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from configs.cosmos import LoRAConfig


def init(params: dict, config: LoRAConfig, key: jax.Array) -> dict:
    """Adapters for every kernel (..., in, out) whose path, joined by "/", `config.targets` matches.

    `params` may be the shapes alone. A leading axis of stacked blocks gets one adapter per block.

    Raises:
      ValueError: no kernel matches.
    """
    flat = flatten_dict(params, sep="/")
    kernels = {path.removesuffix("/kernel"): x for path, x in flat.items() if path.endswith("/kernel")}
    chosen = [path for path in kernels if any(re.search(target, path) for target in config.targets)]
    if not chosen:
        raise ValueError(f"lora.targets {config.targets} match none of {', '.join(sorted(kernels))}")
    adapters = {}
    for path, own in zip(chosen, jax.random.split(key, len(chosen)), strict=True):
        *stack, width_in, width_out = kernels[path].shape
        shape = (*stack, width_in, config.rank)
        adapters[f"{path}/a"] = jax.random.normal(own, shape) * width_in**-0.5
        adapters[f"{path}/b"] = jnp.zeros((*stack, config.rank, width_out))
    return unflatten_dict(adapters, sep="/")


def divide(params: dict, config: LoRAConfig | None, key: jax.Array) -> tuple[dict, dict]:
    """(trained, frozen): adapters and the parameters that `also_train` matches, and all others.

    Without a config everything is trained.
    """
    if config is None:
        return {"params": params}, {}
    flat = flatten_dict(params, sep="/")
    whole = {path: x for path, x in flat.items() if any(re.search(p, path) for p in config.also_train)}
    rest = unflatten_dict({path: x for path, x in flat.items() if path not in whole}, sep="/")
    return {"params": unflatten_dict(whole, sep="/"), "lora": init(rest, config, key)}, {"params": rest}


def join(trained: dict, frozen: dict, config: LoRAConfig | None) -> dict:
    """The model's variables, both parts as one, with the adapters scaled."""
    if config is None:
        return trained
    params = flatten_dict(frozen["params"]) | flatten_dict(trained["params"])
    adapters = {
        path: x * jnp.asarray(config.scale, x.dtype) if path[-1] == "b" else x
        for path, x in flatten_dict(trained["lora"]).items()
    }
    return {"params": unflatten_dict(params), "lora": unflatten_dict(adapters)}


def merge(variables: dict) -> dict:
    """Plain parameters that compute what `join`ed variables compute; for export and inference.

    The product is added in float32 and kept in the kernel's dtype.
    """
    flat = flatten_dict(variables["params"])
    adapters = flatten_dict(variables.get("lora", {}))
    for path, a in adapters.items():
        if path[-1] == "a":
            kernel = (*path[:-1], "kernel")
            flat[kernel] = _added(flat[kernel], a, adapters[(*path[:-1], "b")])
    return unflatten_dict(flat)


def _added(kernel: Any, a: Any, b: Any) -> jax.Array:
    product = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return (kernel.astype(jnp.float32) + product).astype(kernel.dtype)
