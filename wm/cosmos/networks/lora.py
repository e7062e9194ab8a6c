"""Low-rank adaptation (Hu et al. 2021): W + (alpha / rank) A B, with W as it was and only A, B learned.

A training run divides a model's parameters into what is trained and what is frozen:

    trained   {"params": {"action": ...}, "lora": {"blocks": {"self": {"q": {"a": (L, in, rank), "b": ...}}}}}
    frozen    {"params": everything else}

a starts random and b at zero: the first step computes the old function. Whole training has everything in
trained["params"] and nothing frozen.

`join` puts the adapters, scaled, beside the kernels they adapt, as "lora_a" and "lora_b"; `applying` makes
modules that have such leaves add x a b to what they return. So a model needs no code for adapters, and no
gradient of W is ever computed. `merge` gives plain parameters again.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
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
    """The model's variables, both parts as one, for `applying`."""
    if config is None:
        return trained
    params = flatten_dict(frozen["params"]) | flatten_dict(trained["params"])
    for (*path, which), x in flatten_dict(trained["lora"]).items():
        scale = config.scale if which == "b" else 1.0
        params[(*path, f"lora_{which}")] = x * jnp.asarray(scale, x.dtype)
    return {"params": unflatten_dict(params)}


@contextmanager
def applying() -> Iterator[None]:
    """While it lasts, modules that are called with adapters among their parameters add what these compute."""

    def add_low_rank(call, args, kwargs, context):
        y = call(*args, **kwargs)
        module = context.module
        if context.method_name != "__call__" or not module.has_variable("params", "lora_a"):
            return y
        a, b = (module.get_variable("params", name).astype(y.dtype) for name in ("lora_a", "lora_b"))
        return y + (args[0].astype(y.dtype) @ a) @ b

    with nn.intercept_methods(add_low_rank):
        yield


def merge(variables: dict) -> dict:
    """Plain parameters that compute what `join`ed variables compute; for export and inference.

    The product is added in float32 and kept in the kernel's dtype.
    """
    flat = flatten_dict(variables["params"])
    merged = {path: x for path, x in flat.items() if path[-1] not in ("lora_a", "lora_b")}
    for path, a in flat.items():
        if path[-1] == "lora_a":
            kernel = (*path[:-1], "kernel")
            merged[kernel] = _added(flat[kernel], a, flat[(*path[:-1], "lora_b")])
    return unflatten_dict(merged)


def _added(kernel: Any, a: Any, b: Any) -> jax.Array:
    product = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)
    return (kernel.astype(jnp.float32) + product).astype(kernel.dtype)
