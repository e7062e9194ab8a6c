"""One browser for all tests of the real game, and the answers of a page stored with the package."""

from pathlib import Path

import pytest

import collect
from collect.browser import Browser

DATA = Path(collect.__file__).parent / "data"


@pytest.fixture(scope="session")
def browser():
    """A browser shared by the tests; a test that breaks its browser opens one of its own."""
    with Browser() as shared:
        yield shared


@pytest.fixture(scope="session")
def stored_answer():
    """Read a raw answer of the page: KABQ, seed 11, at the start or at its first scored event."""
    return lambda name: (DATA / f"{name}.txt").read_text()
