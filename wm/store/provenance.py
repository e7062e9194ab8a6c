"""Where a result came from (code, libraries), and writing it down whole."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "gymnax", "numpy")
ROOT = Path(__file__).resolve().parents[2]


def git_commit() -> str | None:
    """Commit of this code, with "-dirty" when tracked files differ from it; None outside a clone.

    A repository that does not track this very file, such as one that holds a virtual environment, is somebody
    else's. What commands have measured, launch/records, is no code.
    """
    try:
        _git("ls-files", "--error-unmatch", "--", str(Path(__file__).resolve()))
        commit = _git("rev-parse", "HEAD")
        dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!launch/records")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if dirty else commit


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide numerical results."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        versions[library] = metadata.version(library)
    return versions


def write_json(path: Path | str, value: object) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never a part.

    Raises:
      TypeError, ValueError: `value` is not plain JSON (NaN and infinity are refused too); nothing is written.
    """
    path = Path(path)
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
