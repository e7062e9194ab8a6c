"""The code that a module's behaviour follows from: its own file and those of this project that it imports."""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from wm.store.provenance import ROOT

PACKAGES = ("collect", "configs", "launch", "rl", "wm")


def imported(entries: tuple[str, ...], root: Path = ROOT) -> dict[str, Path]:
    """Modules of this project that importing `entries` runs, directly or through others: name -> file.

    An import inside a function counts, since calling the function runs it. In a package's own file it does
    not: importing a module of the package runs that file, and calls nothing in it.

    Raises ValueError for an entry that is no module under `root`.
    """
    found: dict[str, Path] = {}
    waiting = [name for entry in entries for name in _with_packages(entry)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _file(name, root)
        if path is None:
            if name in entries:
                raise ValueError(f"{name} is no module of this project")
            continue  # a name that a module defines, in `from module import name`
        found[name] = path
        waiting += _imports(name, path)
    return dict(sorted(found.items()))


def digest(*entries: str, root: Path = ROOT) -> str:
    """SHA-256 of the names and files of all modules that `entries` run."""
    whole = hashlib.sha256()
    for name, path in imported(entries, root).items():
        whole.update(hashlib.sha256(name.encode() + b"\0" + path.read_bytes()).digest())
    return whole.hexdigest()


def _with_packages(name: str) -> list[str]:
    """`a.b.c` runs `a`, `a.b` and itself; nothing where it isn't this project's."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def _file(name: str, root: Path) -> Path | None:
    place = root.joinpath(*name.split("."))
    found = (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())
    return next(found, None)


def _imports(name: str, path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_bytes(), str(path))
    is_package = path.name == "__init__.py"
    for node in _outside_functions(tree) if is_package else ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: None if is_package else -1]
            base = base[: len(base) - max(node.level - 1, 0)] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                yield from _with_packages(f"{source}.{alias.name}")


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _outside_functions(node)
