"""The commit that results name is this project's own, never that of a repository around it."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from wm.store import provenance


def git(folder, *arguments):
    name = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    done = subprocess.run(["git", *name, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "thesis.tex").write_text("years of work\n")
    git(tmp_path, "add", "thesis.tex")
    git(tmp_path, "commit", "--quiet", "-m", "Begin")
    return tmp_path


def installed(root: Path):
    """The module as it is found under another root."""
    path = root / "wm" / "store" / "provenance.py"
    path.parent.mkdir(parents=True)
    shutil.copy(provenance.__file__, path)
    spec = importlib.util.spec_from_file_location("provenance_elsewhere", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("ignored", [False, True])
def test_a_virtual_environment_inside_another_repository_has_no_commit(repository, ignored):
    (repository / ".gitignore").write_text(".venv\n" if ignored else "")
    module = installed(repository / ".venv" / "lib" / "python3" / "site-packages")
    assert module.git_commit() is None


def test_no_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert installed(tmp_path / "site-packages").git_commit() is None


def test_a_clone_has_its_own_commit_and_says_when_it_was_changed(repository):
    module = installed(repository)
    assert module.git_commit() is None  # not tracked yet
    git(repository, "add", "wm")
    git(repository, "commit", "--quiet", "-m", "Add the code")
    head = git(repository, "rev-parse", "HEAD")
    assert module.git_commit() == head
    (repository / "thesis.tex").write_text("one more year\n")
    assert module.git_commit() == f"{head}-dirty"


def test_a_clone_below_another_project_counts_where_it_is_tracked(repository):
    """A project that holds this one's files in its own history knows what they are."""
    module = installed(repository / "vendor")
    git(repository, "add", "vendor")
    git(repository, "commit", "--quiet", "-m", "Vendor it")
    assert module.git_commit() == git(repository, "rev-parse", "HEAD")
