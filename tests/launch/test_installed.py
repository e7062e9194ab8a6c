"""The project as others install it: a wheel in an environment of its own, used from their folders."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import launch
from launch.__main__ import COMMANDS
from wm.store.provenance import ROOT

PACKAGES = ("wm", "rl", "collect", "configs", "launch")


def test_every_command_is_in_the_table():
    modules = {path.stem for path in (ROOT / "launch").glob("*.py") if "__main__" in path.read_text()}
    assert set(COMMANDS) == (modules - {"__main__"}) | {"cosmos"}


def homeless():
    """What Path.home does for a user without HOME and without an entry among the system's users."""
    raise RuntimeError("Could not determine home directory.")


def test_compiled_programs_are_kept_where_there_is_room_for_them(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    launch._keep_compiled_programs()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    launch._keep_compiled_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("compiled programs are not kept: " in line for line in lines)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    launch._keep_compiled_programs()
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert (tmp_path / "openscope-wm" / "programs").is_dir()


def test_the_table_is_shown_and_a_wrong_name_refused():
    def ask(*words):
        command = [sys.executable, "-m", "launch", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    for words in ([], ["--help"]):
        shown = ask(*words)
        assert shown.returncode == 0
        assert all(re.search(rf"^    {name} ", shown.stdout, re.M) for name in COMMANDS)
    wrong = ask("rekord")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: no command 'rekord': record, validate")
    assert len(wrong.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment inside somebody's repository, with the wheel and, from here, what it needs."""
    home = tmp_path_factory.mktemp("home")
    source, project = home / "source", home / "project"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = home.glob("*.whl")
    shutil.rmtree(source)
    venv.create(project / ".venv", with_pip=False)
    python = project / ".venv" / "bin" / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    (packages,) = (project / ".venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    (project / "configs").mkdir()
    (project / "configs" / "__init__.py").write_text("raise ImportError('this is another project')\n")
    return project


def run(environment: Path, program: str, *arguments: str, where: str = "."):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(environment / ".venv" / "bin" / program), *arguments]
    return subprocess.run(command, cwd=environment / where, env=clean, capture_output=True, text=True)


LOAD = """
import jax, gymnax, wm
from pathlib import Path
from collect import dataset
from launch.shared import players
from rl.policy import load_policy
from wm.store.provenance import ROOT, git_commit

assert ".venv" in str(ROOT), ROOT
env, params = gymnax.make("OpenScopeWM-v0")
observation = jax.eval_shape(env.reset, jax.random.key(0), params)[0]
policy, weights = load_policy(players.SHIPPED)
action, _ = jax.eval_shape(policy.act, weights, (), observation, jax.random.key(1))
hours = dataset.load([Path(dataset.__file__).parent / "data" / "shipped" / "test"], "test")
print(action.shape, len(list(hours)), git_commit())
"""


HELP = """
import contextlib, io, sys
import launch
from launch.__main__ import COMMANDS, main
for command in COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        sys.argv = ["openscope-wm", command.replace("_", "-"), "--help"]
        main()
    print("asked for the help of", command)
"""


@pytest.mark.slow
def test_model_controller_and_recording_load_from_another_folder(environment):
    (environment / "elsewhere").mkdir()
    done = run(environment, "python", "-c", LOAD, where="elsewhere")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "(5,) 2 None"


@pytest.mark.slow
def test_the_console_command_does_not_see_the_folder_it_is_called_from(environment):
    (packages,) = (environment / ".venv" / "lib").glob("python*/site-packages")
    data = str(packages / "collect" / "data" / "shipped" / "test")
    hidden = run(environment, "python", "-m", "launch.validate", "--data", data)
    assert "this is another project" in hidden.stderr
    found = run(environment, "openscope-wm", "validate", "--data", data)
    assert found.returncode == 0, found.stderr
    asked = run(environment, "python", "-P", "-c", HELP)  # all in one process, on the path of the console
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split("asked for the help of ")[1:] == [f"{command}\n" for command in COMMANDS]


@pytest.mark.slow
@pytest.mark.openscope
def test_the_console_command_records_a_minute_of_the_game(environment, openscope_url):
    arguments = ("--minutes", "1", "--episodes", "1", "--url", openscope_url, "--out", "recordings")
    done = run(environment, "openscope-wm", "record", *arguments)
    assert done.returncode == 0, done.stderr
    assert list((environment / "recordings").rglob("*.array_record*"))
