"""Configurations from the command line and from JSON: what is right comes through, what is wrong is named."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import cli
from launch.shared import runs


@dataclass(frozen=True)
class Network:
    width: int = 64
    kind: Literal["mlp", "set"] = "set"

    def __post_init__(self):
        if self.width < 1:
            raise ValueError(f"network.width is {self.width}, must be positive")


@dataclass(frozen=True)
class Train:
    """Trains something."""

    learning_rate: float = 3e-4  # of Adam
    steps: int = 100
    resume: bool = False
    directory: Path = Path("runs")
    scale: float | None = None
    layers: tuple[int, ...] = (4, 4)
    bounds: tuple[float, str] = (1.0, "nm")
    weights: dict[str, float] = field(default_factory=lambda: {"score": 1.0})
    network: Network = Network()
    teacher: Network | None = None

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, must be zero or more")


def error_of(call):
    with pytest.raises(cli.ConfigError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def changed(**values):
    return {**cli.to_json(Train()), **values}


# Command line


def test_parse_reads_types_and_nested_fields():
    argv = ["--steps", "7", "--network.width", "8", "--resume", "--scale", "0.5", "--layers", "1", "2", "3"]
    config = cli.parse(Train, [*argv, "--directory", "a/b"])
    assert config == Train(
        steps=7, network=Network(width=8), resume=True, scale=0.5, layers=(1, 2, 3), directory=Path("a/b")
    )


def test_parse_starts_from_the_default():
    assert cli.parse(Train, ["--steps", "5"], default=Train(learning_rate=1.0)) == Train(1.0, steps=5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--network.widht", "3"], "Unrecognized options: --network.widht, 3; did you mean --network.width?"),
        (["--steps", "many"], "Error parsing --steps: invalid literal for int() with base 10: 'many'"),
        (["--steps", "-1"], "Error parsing Train: steps is -1, must be zero or more"),
        (["--network.width", "0"], "Error parsing network: network.width is 0, must be positive"),
        (["--steps"], "Missing value for argument '--steps'"),
    ],
)
@pytest.mark.parametrize("columns", ["40", "120"])
def test_a_wrong_command_line_is_one_line_and_status_2(argv, message, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(SystemExit) as caught:
        cli.parse(Train, argv)
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1


def test_help_shows_docstring_comment_and_default(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse(Train, ["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for text in ("Trains something.", "--learning-rate", "of Adam", "0.0003"):
        assert text in printed


def test_parse_takes_the_arguments_of_the_process():
    program = "from tests.configs.test_cli import Train, cli; print(cli.parse(Train).steps)"
    command = [sys.executable, "-c", program, "--steps", "12"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "12\n"


@dataclass(frozen=True)
class Saves:
    """A training command's options."""

    out: Path = Path("runs")
    save_every: int = 20


@pytest.mark.parametrize("argv", [["--directory", "a"], ["--directory=a", "--save-every", "2"]])
def test_an_option_by_its_old_name_names_the_new_one(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.parse(Saves, argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --directory is now --out (--help lists the options)\n"


def test_an_option_that_is_not_needed_any_more_is_noted(capsys):
    assert cli.parse(Saves, ["--out", "a", "--resume"]) == Saves(out=Path("a"))
    noted = "note: --resume is no longer needed: the same command goes on where it stopped\n"
    assert capsys.readouterr().err == noted
    with pytest.raises(SystemExit):  # a command that saves nothing never had it
        cli.parse(Network, ["--resume"])


def test_a_preset_is_named_first(capsys):
    presets = {"often": Saves(save_every=1)}
    assert cli.parse_preset(Saves, presets, ["often", "--out", "a"]) == Saves(Path("a"), 1)
    assert cli.parse_preset(Saves, presets, ["--out", "a"]) == Saves(Path("a"))
    with pytest.raises(SystemExit) as caught:
        cli.parse_preset(Saves, presets, ["oftn"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: preset 'oftn' must be one of often\n"


# JSON

trains = st.builds(
    Train,
    learning_rate=st.floats(allow_nan=False, allow_infinity=False),
    steps=st.integers(0, 10**9),
    resume=st.booleans(),
    directory=st.from_regex(r"[a-z]{1,9}(/[a-z]{1,9})?", fullmatch=True).map(Path),
    scale=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    layers=st.lists(st.integers()).map(tuple),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    network=st.builds(Network, width=st.integers(1, 99), kind=st.sampled_from(["mlp", "set"])),
    teacher=st.none() | st.just(Network(width=3)),
)


@given(trains)
def test_json_round_trip(config):
    assert cli.from_json(Train, cli.to_json(config)) == config


def test_file_round_trip(tmp_path):
    config = Train(steps=3, weights={"score": 1.0, "loss": -200.0}, teacher=Network(2))
    runs.write_config(tmp_path / "config.json", config)
    assert cli.load(Train, tmp_path / "config.json") == config


def test_a_whole_number_is_a_float():
    rate = cli.from_json(Train, changed(learning_rate=1)).learning_rate
    assert type(rate) is float
    assert rate == 1.0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed(leraning_rate=1.0), "Train has no field 'leraning_rate'; did you mean 'learning_rate'?"),
        (changed(zzz=1.0), "Train has no field 'zzz'; it has learning_rate, steps"),
        ({"steps": 1}, "field 'learning_rate' of Train is missing"),
        (changed(network={"width": 3}), "network: field 'kind' of Network is missing"),
        (changed(steps=1.0), "steps is 1.0, must be int"),
        (changed(steps=True), "steps is True, must be int"),
        (changed(resume=1), "resume is 1, must be bool"),
        (changed(learning_rate="1"), "learning_rate is '1', must be float"),
        (changed(learning_rate=float("nan")), "learning_rate is nan, must be float"),
        (changed(scale="big"), "scale is 'big', must be float or None"),
        (changed(layers=[4, "4"]), "layers[1] is '4', must be int"),
        (changed(bounds=[1.0]), "bounds is [1.0], must be tuple[float, str]"),
        (changed(weights={"score": None}), "weights.score is None, must be float"),
        (changed(network={"width": 3, "kind": "cnn"}), "network.kind is 'cnn', must be one of 'mlp', 'set'"),
        (changed(teacher={"width": 3}), "teacher: field 'kind' of Network is missing"),
        (changed(network=[1]), "network: [1] isn't a Network"),
        (changed(steps=-1), "steps is -1, must be zero or more"),
        (changed(network={"width": 0, "kind": "set"}), "network.width is 0, must be positive"),
        ([], "[] isn't a Train"),
    ],
)
def test_wrong_json_is_refused_by_name(value, message):
    assert message in error_of(lambda: cli.from_json(Train, value))


def test_unreadable_files_are_refused_by_path(tmp_path):
    path = tmp_path / "config.json"
    assert error_of(lambda: cli.load(Train, path)) == f"{path}: no such file"
    path.write_text("{")
    assert error_of(lambda: cli.load(Train, path)).startswith(f"{path} isn't JSON")
    path.write_text("{}")
    assert error_of(lambda: cli.load(Train, path)).startswith(f"{path}: field 'learning_rate'")


def test_what_is_not_json_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        runs.write_config(tmp_path / "config.json", Train(learning_rate=float("inf")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[" * 100_000, "isn't JSON: (maximum recursion depth|Stack overflow)"),
        ("\udcff", "isn't JSON"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, cause):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(cli.ConfigError, match=cause):
        cli.load(Train, path)


def test_a_number_beyond_all_floats_is_refused():
    assert "learning_rate is 1000" in error_of(lambda: cli.from_json(Train, changed(learning_rate=10**400)))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(cli.ConfigError, match="is no file"):
        cli.load(Train, tmp_path / "config.json")


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(cli.ConfigError, match="can't be read: Is a directory"):
        cli.load(Train, tmp_path)
