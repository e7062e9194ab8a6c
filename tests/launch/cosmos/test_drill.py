"""The drill of conversion, export and damage, on files of the smallest model."""

import pytest

from launch.cosmos import __main__ as cosmos
from launch.cosmos import drill as cosmos_drill
from launch.shared import records


@pytest.mark.slow
@pytest.mark.parity
def test_the_drill_passes_and_records_what_it_measured(tmp_path, monkeypatch, capfd):
    written = {}
    monkeypatch.setattr(records, "write", lambda name, figures: written.update({name: figures}))
    arguments = ["drill", "--model", "tiny", "--out", str(tmp_path / "drill"), "--record", "cosmos"]
    cosmos.main(arguments)
    figures = written["cosmos"]
    assert figures["damaged_refused"].value == 1.0
    assert figures["damaged_refused"].n == 18
    assert 0.1 < figures["drill_peak_gib"].value < 8
    assert not (tmp_path / "drill").exists()
    assert "diffusers loaded 47 tensors of the export with the same bits" in capfd.readouterr().out


@pytest.mark.parity
def test_the_drill_wants_a_folder_of_its_own(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cosmos_drill.main(["--model", "tiny", "--out", str(tmp_path)])
    assert "exists already" in capsys.readouterr().err
