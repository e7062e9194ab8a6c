"""Commands: the only code that knows argv, devices, progress bars and run folders.

Compiled programs are kept from one command to the next, in JAX_COMPILATION_CACHE_DIR or in a folder of the
user's; XLA takes up to a minute over a training step that it then finds in a second.
"""

import os
import sys
from pathlib import Path


def _keep_compiled_programs() -> None:
    """Sets the folder before jax is imported, which reads it then."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = Path("openscope-wm", "programs")
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / folder
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home
        writable = False
    if writable:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    else:
        print(f"compiled programs are not kept: {folder} cannot be written", file=sys.stderr)


_keep_compiled_programs()
