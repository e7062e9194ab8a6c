"""One browser for all tests of the real game, and the answers of a page stored with the package."""

import json
import sys
from pathlib import Path

import pytest

import collect
from collect.browser import Browser

DATA = Path(collect.__file__).parent / "data"
sys.path.append(str(Path(__file__).parent))  # for episodes.py


@pytest.fixture(scope="session")
def browser():
    """A browser shared by the tests; a test that breaks its browser opens one of its own."""
    with Browser() as shared:
        yield shared


@pytest.fixture(scope="session")
def stored_answer():
    """Read a raw answer of the page: KABQ, seed 11, at the start or at its first scored event."""
    return lambda name: (DATA / f"{name}.txt").read_text()


@pytest.fixture(scope="session")
def static():
    """The airport's tables of those answers."""
    return json.loads((DATA / "kabq_static.json").read_text())
