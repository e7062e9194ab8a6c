"""The files of a folder with size and SHA-256, to tell a whole folder from a torn or an altered one."""

import hashlib
import json
import os
from pathlib import Path

from wm.store.provenance import write_json

MANIFEST = "manifest.json"
LONGEST = 255  # letters of a file's name, on every file system


def write_manifest(folder: Path) -> None:
    """Flushes every file of `folder` to disk, then lists them all in its manifest. Call it last."""
    files = {}
    for path in _files(folder):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    write_json(folder / MANIFEST, {"files": files})


def missing_part(folder: Path) -> str | None:
    """What makes `folder` incomplete (a missing or short file), or None. Reads sizes only."""
    if not folder.is_dir():
        return "no such folder"
    try:
        if not (folder / MANIFEST).is_file():
            return f"no {MANIFEST}"
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        sizes = {name: entry["bytes"] for name, entry in files.items()}
        if not all(isinstance(entry["sha256"], str) for entry in files.values()):
            return f"unreadable {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"unreadable {MANIFEST}"
    for name, size in sizes.items():
        if not _is_inside(name):
            return f"{MANIFEST} names {name[:60]!r}, which is not in it"
        path = folder / name
        if not path.is_file():
            return f"no file {name}"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, {size} were written"
    return None


def changed_file(folder: Path, only: str | None = None) -> str | None:
    """Name of the first file (or of the one asked about) that is not what was written, or None.

    Reads the files; `missing_part(folder)` has to be None. A file that isn't listed isn't what was written.
    """
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    if only is not None and only not in files:
        return only
    for name, entry in files.items():
        if only in (None, name) and _sha256(folder / name) != entry["sha256"]:
            return name
    return None


def content_hash(folder: Path) -> str:
    """SHA-256 of the manifest, and so of every file's name and content, wherever the folder lies."""
    return _sha256(folder / MANIFEST)


def _is_inside(name: str) -> bool:
    """Whether the name of a file leads to no other folder."""
    parts = name.split("/")
    return all(parts) and ".." not in parts and "\0" not in name and max(map(len, parts)) <= LONGEST


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
