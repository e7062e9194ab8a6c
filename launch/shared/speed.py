"""Timing compiled functions, and what the hardware gives at best, measured in the same process.

A row is plain JSON: median, low and high of repeated runs, with the time to trace and to compile apart.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from launch.shared import parallel

Row = dict[str, float | int | str]
SIDE = 8192  # of the square matrices multiplied
FLOATS = 1 << 28  # copied: 1 GiB


def mapped(update: Callable, backend: str, devices: int, donate: tuple[int, ...] = (0, 1)) -> Callable:
    """`parallel.wrap` of `update(axis)`, and "single": one device without any axis, in the same shapes."""
    if backend != "single":
        return parallel.wrap(update(parallel.AXIS), backend, devices, donate_argnums=donate)
    alone = update(None)

    def on_one(state, carry, key, params):
        state, carry, metrics = alone(state, jax.tree.map(lambda x: x[0], carry), key[0], params)
        return state, jax.tree.map(lambda x: x[None], carry), metrics

    return jax.jit(on_one, donate_argnums=donate)


def measure(update: Callable, start: tuple, key: Callable, params, steps: int, repeats: int) -> Row:
    """Time `update(state, carry, key(i), params) -> (state, carry, _)`; rates in `steps` per second."""
    begin = time.perf_counter()
    lowered = update.lower(*start, key(0), params)
    traced = time.perf_counter()
    compiled = lowered.compile()
    ready = time.perf_counter()
    state, carry = start
    rates = []
    for run in range(repeats + 2):  # the first two warm up
        now = key(run)
        jax.block_until_ready((state, carry, now))
        at = time.perf_counter()
        state, carry, metrics = compiled(state, carry, now, params)
        jax.block_until_ready((state, carry, metrics))
        rates.append(steps / (time.perf_counter() - at))
    memory = compiled.memory_analysis()
    gib = {} if memory is None else {"temporary_gib": memory.temp_size_in_bytes / 2**30,
                                     "arguments_gib": memory.argument_size_in_bytes / 2**30}  # fmt: skip
    return summary(rates[2:], "env-steps/s") | {"trace_s": traced - begin, "compile_s": ready - traced} | gib


def summary(samples: list[float], unit: str) -> Row:
    """Median, fastest and slowest of repeated measurements."""
    middle = statistics.median(samples)
    ends = {"low": min(samples), "high": max(samples)}
    return {"median": middle, **ends, "unit": unit, "repeats": len(samples)}


def milliseconds(function: Callable, *arguments, repeats: int = 10, calls: int = 5) -> Row:
    """How long one call of a compiled function takes: of `repeats` groups of `calls` calls in a row."""
    begin = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    ready = time.perf_counter() - begin
    jax.block_until_ready(compiled(*arguments))
    samples = []
    for _ in range(repeats):
        at = time.perf_counter()
        for _ in range(calls):
            out = compiled(*arguments)
        jax.block_until_ready(out)
        samples.append((time.perf_counter() - at) / calls * 1e3)
    return summary(samples, "ms") | {"compile_s": ready}


def ceilings(side: int = SIDE, floats: int = FLOATS) -> dict[str, Row]:
    """What this device gives at best: matrix products (TFLOP/s) and a copy (GB/s)."""
    rows = {}
    for name in ("bfloat16", "float32"):
        square = jnp.ones((side, side), jnp.dtype(name))
        rows[f"matmul_{name}"] = _rate(jnp.dot, (square, square), 2 * side**3 / 1e12, "TFLOP/s")
    numbers = jnp.ones(floats, jnp.float32)
    rows["copy"] = _rate(lambda x: x + 1, (numbers,), 8 * floats / 1e9, "GB/s")
    return rows


def _rate(function, arguments, amount: float, unit: str) -> Row:
    row = milliseconds(function, *arguments, calls=10)
    fastest, slowest = amount / row["low"] * 1e3, amount / row["high"] * 1e3
    return {"median": amount / row["median"] * 1e3, "low": slowest, "high": fastest, "unit": unit,
            "repeats": row["repeats"]}  # fmt: skip
