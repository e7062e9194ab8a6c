"""The API reference: pdoc makes a page of every module from its docstrings. `python -m pdoc wm rl` shows it.

Nothing of it is kept. What it shows is public, so everything public says what it is.
"""

import ast
import importlib
import pkgutil
from pathlib import Path

import pdoc
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("wm", "rl", "collect", "configs")


def modules() -> list[str]:
    found = list(PACKAGES)
    for name in PACKAGES:
        package = importlib.import_module(name)
        found += [each.name for each in pkgutil.walk_packages(package.__path__, f"{name}.")]
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # of annotations that pdoc shows as they are written
def test_the_reference_is_made_of_the_docstrings(tmp_path):
    pdoc.pdoc(*PACKAGES, output_directory=tmp_path)
    pages = {name: tmp_path / f"{name.replace('.', '/')}.html" for name in modules()}
    assert [name for name, path in pages.items() if not path.is_file()] == []
    assert len(pages) > 100
    shown = pages["wm"].read_text(encoding="utf-8")
    assert "A simulator as gymnax.make gives it" in shown
    assert "Raises CheckpointError, in one line" in shown


def test_everything_public_says_what_it_is():
    wrong = []
    for path in (each for name in (*PACKAGES, "launch") for each in (ROOT / name).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        named = [("module", tree), *((node.name, node) for node in nodes if not node.name.startswith("_"))]
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name, node in named if not ast.get_docstring(node)]
    assert wrong == []
