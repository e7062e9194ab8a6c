"""Compiled programs that several runs of a test share."""

import contextlib
from pathlib import Path

import jax


@contextlib.contextmanager
def kept_in(folder: Path):
    """While it lasts, every compiled program is kept in `folder` and taken from there."""
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
