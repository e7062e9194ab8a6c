"""The notebook runs from its first cell to its last on what comes with the project; all parts are there."""

import json
import re
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib import pyplot

from launch import records_page
from launch.shared import records
from tests.launch.shared import event_files

NOTEBOOK = Path(__file__).parents[2] / "launch" / "notebooks" / "07_cosmos_world_model_demo.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
PARTS = (
    "1. Data collection",
    "2. Cosmos fine-tuning",
    "3. World-model evaluation: real against predicted",
    "4. RL training in the model",
    "5. Transfer to the real game",
    "6. Sample efficiency",
)


def sources(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == kind]


def test_the_six_parts_are_there_by_name():
    assert re.findall(r"^## (.*)$", "\n".join(sources("markdown")), re.M) == list(PARTS)


def test_cells_are_short_and_keep_what_they_printed():
    assert all(len(source.splitlines()) <= 15 for source in sources("code"))
    printing = [cell for cell in CELLS if cell["source"][-1].startswith(("print(", "stored("))]
    assert len(printing) > 5
    assert all(cell["outputs"] for cell in printing)
    kinds = {output["output_type"] for cell in CELLS for output in cell.get("outputs", ())}
    assert {"stream", "execute_result"} <= kinds
    assert "error" not in kinds


def test_kept_figures_are_those_of_the_records():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert records_page.kept_figures(text) == text
    rows = re.findall(r'"  (\w+) +([-\d.,e]+)  \(', text)
    assert len(rows) > 20
    record = records.read("fidelity")
    assert dict(rows)["hour_gap_kabq_noop"] == f"{record['figures']['hour_gap_kabq_noop']['value']:,.6g}"


@pytest.mark.slow
def test_every_cell_runs_on_what_comes_with_the_project(tmp_path, monkeypatch):
    """Without game and GPU: what needs them shows the records."""
    monkeypatch.delenv("OPENSCOPE_URL", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left: dict = {}
    for number, source in enumerate(sources("code")):
        exec(compile(source, f"cell {number}", "exec"), left)  # our own page
    pyplot.close("all")
    out = left["OUT"]
    assert left["GAME"] is None
    assert left["both"][0].sum() > 5  # aircraft that fly on in both
    assert np.nanmedian(left["error"][12]) < 0.1  # nm after a minute
    assert left["video"].shape == left["truth"].shape == (1, 5, 32, 32, 3)
    assert jax.tree.leaves(left["controller"](left["observation"]))[0].shape == (5,)
    assert (out / "real_and_predicted.html").stat().st_size > 10_000
    for run in ("cosmos", "ppo"):
        assert len(event_files.read(out / run)) == len((out / run / "metrics.jsonl").read_text().splitlines())
