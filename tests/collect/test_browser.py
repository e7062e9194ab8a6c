"""A browser that does not start is passed over for the next; one that is named is the only one."""

import os
import subprocess
import sys

import pytest

from collect import GameError, browser
from collect.browser import Browser, candidates


@pytest.fixture
def stub(tmp_path):
    """An executable such as Ubuntu's chromium: it only says how to install the real one."""
    path = tmp_path / "chromium"
    path.write_text("#!/bin/sh\necho 'Command requires the chromium snap to be installed.' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_a_browser_that_is_named_is_the_only_one(stub, monkeypatch):
    monkeypatch.setenv("OPENSCOPE_BROWSER", str(stub))
    assert candidates() == [str(stub)]
    with pytest.raises(GameError, match=f"no usable Chromium .{stub}: .*set OPENSCOPE_BROWSER"):
        Browser()


def test_browsers_are_tried_once_each_and_playwright_s_own_last(stub, monkeypatch):
    monkeypatch.delenv("OPENSCOPE_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(stub.parent))
    monkeypatch.setattr(browser, "SYSTEM_BROWSERS", ("chromium", str(stub), "google-chrome"))
    assert candidates() == [str(stub), None]


@pytest.mark.openscope
def test_the_next_browser_is_tried_where_one_does_not_start(stub, monkeypatch):
    monkeypatch.delenv("OPENSCOPE_BROWSER", raising=False)
    monkeypatch.setattr(browser, "SYSTEM_BROWSERS", (str(stub), *browser.SYSTEM_BROWSERS))
    assert candidates()[0] == str(stub)
    with Browser() as found:
        assert found.pid


def test_setup_says_in_one_line_which_browser_is_missing(stub):
    done = subprocess.run(
        [sys.executable, "-m", "collect.browser"],
        env=os.environ | {"OPENSCOPE_BROWSER": str(stub)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no usable Chromium (")
    assert len(done.stderr.splitlines()) == 1
