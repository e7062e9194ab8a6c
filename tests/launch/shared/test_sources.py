"""Which code a digest covers: all that is imported, through whatever other modules, and nothing else."""

import shutil
import subprocess
import sys

import pytest

from launch.shared import sources
from wm.store.provenance import ROOT

TREE = {
    "rl/__init__.py": "",
    "rl/expert.py": "from rl import paths\nimport numpy as np\nfrom rl.sequence import order\n",
    "rl/paths.py": "from wm.sector.approach import GLIDE_DEG, final\n",
    "rl/sequence.py": "def order():\n    from . import gaps\n    return gaps.SECONDS\n",
    "rl/gaps.py": "SECONDS = 90\n",
    "rl/other.py": "from rl.expert import np\nUNRELATED = 1\n",
    "wm/__init__.py": "def make():\n    from wm.state import env\n",
    "wm/sector/__init__.py": "try:\n    from .units import NM\nexcept ImportError:\n    NM = 1\n",
    "wm/sector/approach.py": "GLIDE_DEG = 3.0\ndef final(): pass\n",
    "wm/sector/units.py": "NM = 1852\n",
    "wm/state/__init__.py": "",
    "wm/state/env.py": "import wm.sector.approach\n",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_form_of_import_is_followed(tree):
    assert list(sources.imported(("rl.expert",), tree)) == [
        "rl", "rl.expert", "rl.gaps", "rl.paths", "rl.sequence",
        "wm", "wm.sector", "wm.sector.approach", "wm.sector.units",
    ]  # fmt: skip
    assert "wm.state.env" in sources.imported(("wm.state.env",), tree)


UNRELATED = ("rl/other.py", "wm/state/env.py", "wm/state/__init__.py")


@pytest.mark.parametrize("name", [name for name in TREE if name not in UNRELATED])
def test_a_change_in_an_imported_module_changes_the_digest(tree, name):
    before = sources.digest("rl.expert", root=tree)
    (tree / name).write_text(TREE[name] + "MORE = 1\n")
    assert sources.digest("rl.expert", root=tree) != before


def test_a_constant_that_moves_is_followed(tree):
    """Moved two imports away and then changed: both are seen."""
    before = sources.digest("rl.expert", root=tree)
    (tree / "wm/sector/approach.py").write_text("from wm.sector.angles import GLIDE_DEG\ndef final(): pass\n")
    (tree / "wm/sector/angles.py").write_text("GLIDE_DEG = 3.0\n")
    moved = sources.digest("rl.expert", root=tree)
    (tree / "wm/sector/angles.py").write_text("GLIDE_DEG = 3.5\n")
    assert len({before, moved, sources.digest("rl.expert", root=tree)}) == 3


def test_a_change_elsewhere_leaves_the_digest(tree):
    before = sources.digest("rl.expert", root=tree)
    for name in UNRELATED:
        (tree / name).write_text("UNRELATED = 2\n")
    (tree / "numpy.py").write_text("")
    assert sources.digest("rl.expert", root=tree) == before


def test_an_unknown_entry_is_refused(tree):
    with pytest.raises(ValueError, match=r"rl\.experts is no module of this project"):
        sources.imported(("rl.experts",), tree)


def test_the_project_s_own_expert_in_a_copied_tree(tmp_path):
    for package in ("rl", "wm", "configs"):
        ignored = shutil.ignore_patterns("data", "__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    before = sources.digest("rl.expert", root=tmp_path)
    assert before == sources.digest("rl.expert")
    transitive = sources.imported(("rl.expert",), tmp_path)["wm.sector.geometry"]
    transitive.write_text(transitive.read_text() + "\nMORE = 1\n")
    assert sources.digest("rl.expert", root=tmp_path) != before


def test_python_imports_nothing_that_the_walk_misses():
    """Independent of the walk: what a fresh interpreter has in sys.modules after importing the expert."""
    code = "import sys, rl.expert; print(*[n for n in sys.modules if n.split('.')[0] in sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", code, *sources.PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= set(sources.imported(("rl.expert",)))
