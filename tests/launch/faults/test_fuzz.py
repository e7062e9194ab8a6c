"""Readers take whole data or say one line; the fuzzing that tells so sees every other end.

OPENSCOPE_FUZZ=1000 spoils as many inputs of each reader, in ten minutes.
"""

import json
import os
import time

import pytest

from configs.fault_checks import Fuzz
from launch import check_faults
from launch.faults import fuzz
from launch.faults.fuzz import Reader
from launch.faults.readers import READERS

INPUTS = int(os.environ.get("OPENSCOPE_FUZZ", "10"))


class Refusal(ValueError):
    """What the reader below may raise."""


@pytest.mark.parametrize("name", READERS)
def test_a_spoilt_input_is_equal_or_refused_in_one_line(tmp_path, name):
    outcomes = list(fuzz.fuzz(READERS[name], INPUTS, 0, tmp_path))
    assert [outcome for outcome in outcomes if outcome.crashed] == []
    assert any(outcome.ended == "refused" for outcome in outcomes)
    assert len({outcome.done for outcome in outcomes}) > INPUTS / 2


def reader(read, sealed: bool = False) -> Reader:
    """A reader of a folder with one file, which is spoilt by a word."""

    def prepare(folder):
        folder.mkdir()
        (folder / "a").write_text("whole")

    def spoil(folder, draw):
        (folder / "a").write_text("spoilt")
        return "spoilt", sealed

    return Reader("own", prepare, spoil, lambda f: read(f, (f / "a").read_text() == "spoilt"), (Refusal,))


def ends(read, tmp_path, sealed: bool = False) -> str:
    (outcome,) = fuzz.fuzz(reader(read, sealed), 1, 0, tmp_path)
    assert outcome.crashed == (tmp_path / "own-0").exists()  # what crashed is kept
    return outcome.ended


def refuse(folder, spoilt, error=Refusal, text="a: is spoilt, write it again"):
    if spoilt:
        raise error(text)
    return {"whole"}


def linger(folder, spoilt):
    if spoilt:
        time.sleep(60)
    return {"whole"}


def grow(folder, spoilt):
    return {str(len(b"x" * 10**8)) if spoilt else "whole"}


def stray(folder, spoilt):
    if spoilt:
        (folder.parent / "elsewhere").write_text("x")
    return {"whole"}


def load_what_it_names(folder, spoilt):
    if spoilt:
        __import__("this")
    return {"whole"}


def test_every_end_is_told_from_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, "GROWTH_MB", 50.0)
    assert ends(refuse, tmp_path) == "refused"
    assert ends(lambda f, s: refuse(f, s, KeyError), tmp_path) == "crash"
    assert ends(lambda f, s: refuse(f, s, Refusal, ""), tmp_path) == "no message"
    assert ends(lambda f, s: {"whole"}, tmp_path) == "equal"
    assert ends(lambda f, s: {"other" if s else "whole"}, tmp_path) == "other"
    assert ends(lambda f, s: {"other" if s else "whole"}, tmp_path, sealed=True) == "taken for the whole"
    assert ends(grow, tmp_path) == "grew"
    assert ends(stray, tmp_path) == "wrote outside"
    assert ends(load_what_it_names, tmp_path) == "ran what the data names"
    monkeypatch.setattr(fuzz, "LIMIT_S", 0.2)
    assert ends(linger, tmp_path) == "hang"


def test_a_number_is_always_the_same_input(tmp_path):
    one, again = ([o.done for o in fuzz.fuzz(READERS["configurations"], 5, 3, tmp_path)] for _ in range(2))
    other = [o.done for o in fuzz.fuzz(READERS["configurations"], 5, 4, tmp_path)]
    assert one == again != other


def test_the_command_counts_and_fails_where_an_input_crashes(tmp_path, monkeypatch, capsys):
    arguments = ["fuzz", "--readers", "configurations", "--inputs", "3", "--out", str(tmp_path / "out")]
    check_faults.main(arguments)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    figures = {name: figure["value"] for name, figure in results["figures"].items()}
    assert figures == {"fuzz_inputs": 3, "fuzz_crashes": 0}
    monkeypatch.setitem(READERS, "configurations", reader(lambda f, s: refuse(f, s, KeyError)))
    with pytest.raises(SystemExit):
        check_faults.main(arguments)
    assert "error: own 0 (spoilt): crash KeyError" in capsys.readouterr().err


def test_a_record_takes_all_inputs():
    with pytest.raises(ValueError, match="1,000 inputs of every reader"):
        Fuzz(inputs=10, record="people")
    with pytest.raises(ValueError, match="1,000 inputs of every reader"):
        Fuzz(readers=("answers",), record="people")
