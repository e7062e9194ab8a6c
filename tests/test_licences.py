"""Licences of everything that this project needs, and no data that runs: no pickle, no code from a file."""

import ast
import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# Licences under which others may use, change and pass on what they get, and this project with it.
KNOWN = re.compile(
    r"apache|\bmit\b|bsd|isc|python software foundation|\bpsf|mpl|mozilla public|hpnd|zlib|unlicense|cc0|"
    r"public domain|0bsd|historical permission",
    re.IGNORECASE,
)
# Whose metadata names no licence: read in their repositories.
READ = {"array-record": "Apache 2.0", "tensorflow-metadata": "Apache 2.0"}
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def needed(name: str, found: dict[str, str]) -> dict[str, str]:
    """What a distribution needs here, by name, with what each says of its licence."""
    for text in metadata.requires(name) or ():
        wanted = Requirement(text)
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        about = metadata.metadata(wanted.name)
        classified = [line for line in about.get_all("Classifier", []) if line.startswith("License ::")]
        said = [about.get("License-Expression"), *classified, (about.get("License") or "")[:100]]
        found[key] = READ.get(key) or " ".join(filter(None, said))
        needed(wanted.name, found)
    return found


def test_every_dependency_has_a_licence_that_lets_others_use_it():
    found = needed("openscope-world-model", {})
    assert len(found) > 50
    assert {name: said for name, said in found.items() if not KNOWN.search(said)} == {}


def test_nothing_that_is_read_can_run():
    """No pickle, no eval; NumPy and torch are told so where they could."""
    wrong = []
    for path in [
        p for room in ("collect", "configs", "launch", "rl", "wm") for p in (ROOT / room).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            told = {k.arg: ast.unparse(k.value) for k in node.keywords} if isinstance(node, ast.Call) else {}
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            bad = NEVER & {name.split(".")[0] for name in names} or called in ("eval", "exec", "compile")
            bad |= called == "np.load" and told.get("allow_pickle", "False") != "False"  # as is its default
            bad |= called == "torch.load" and told.get("weights_only") != "True"
            wrong += [f"{path.relative_to(ROOT)}:{node.lineno}"] if bad else []
    assert wrong == []
