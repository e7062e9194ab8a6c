"""Compares the Cosmos modules with diffusers' on random weights, and counts parameters.

    python -m tests.wm.cosmos.parity --record cosmos

Needs the extra `parity` (torch and diffusers). Every row runs in float32 on the CPU. The record cosmos.json
has 35 rows with a largest difference of 2.2e-5.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax

from configs import cli
from launch.shared import records, runs
from tests.wm.cosmos.parity import golden
from tests.wm.cosmos.parity.case import TOLERANCE, difference
from wm.cosmos.networks.config import PRESETS
from wm.cosmos.training import cost

COUNTED = {
    "params_predict2_2b": "predict2-2b",
    "params_predict2p5_2b": "predict2.5-2b",
    "params_7b": "predict1-7b",
}


@dataclass(frozen=True)
class Parity:
    """Compare the Cosmos modules with diffusers' and with references in torch, float32 on the CPU."""

    parts: tuple[Literal["dit", "solvers", "vae"], ...] = ("dit", "solvers", "vae")
    out: Path | None = None
    """A new folder in runs if left out."""
    record: str = ""
    """Merge the figures into launch/records/<record>.json."""

    def __post_init__(self):
        if not self.parts:
            raise ValueError("parts is empty, must name at least one")


def compare(parts: tuple[str, ...]) -> dict[str, float]:
    """Largest absolute difference of every row, by name."""
    rows = {name: case for part in parts for name, case in golden.cases(part).items()}
    found = {}
    with runs.progress(len(rows), "row") as line:
        for name, case in rows.items():
            found[name] = difference(case.ours(), case.theirs())
            line.update()
    return found


def figures_of(found: dict[str, float]) -> dict[str, records.Figure]:
    """The largest difference, every row's, and the parameter counts."""
    worst = max(found.values())
    figures = {"parity_max_abs": records.Figure(worst, min(found.values()), worst, "", len(found))}
    for name, value in found.items():
        figures[f"parity_max_abs_{name}"] = records.Figure(value, value, value, "", 1)
    counts = {name: cost.transformer_parameters(PRESETS[model]) for name, model in COUNTED.items()}
    counts["params_wan_vae"] = cost.parameter_counts(PRESETS["predict2.5-2b"])["autoencoder"]
    return figures | {name: records.Figure(count, count, count, "", 1) for name, count in counts.items()}


def draw(found: dict[str, float], path) -> None:
    """Every row's difference on a logarithmic axis, and the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.6 + 0.2 * len(found)), layout="constrained")
    axes.barh(list(found), [max(value, 1e-9) for value in found.values()])
    axes.axvline(TOLERANCE, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("largest absolute difference, float32")
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> None:
    """Compare, write results.json and parity.png; status 1 if a row is off by more than 1e-4."""
    config = cli.parse(Parity, argv)
    missing = [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]
    if missing:
        runs.fail(f"the originals need {' and '.join(missing)}: pip install -e '.[parity]'")
    jax.config.update("jax_platforms", "cpu")
    found = compare(config.parts)
    figures = figures_of(found)
    folder = config.out or runs.create("cosmos-parity")
    folder.mkdir(parents=True, exist_ok=True)
    draw(found, folder / "parity.png")
    versions = {name: importlib.import_module(name).__version__ for name in ("torch", "diffusers")}
    runs.write_results(folder, {"rows": found, "tolerance": TOLERANCE, "originals": versions})
    for name, value in found.items():
        print(f"{name:34s} {value:.1e}{'' if value < TOLERANCE else '  too large'}")
    for name in (*COUNTED, "params_wan_vae"):
        print(f"{name:34s} {figures[name].value:,}")
    bad = [name for name, value in found.items() if value >= TOLERANCE]
    if config.record and not bad:
        records.write(config.record, figures)
    print(f"{folder}/results.json")
    if bad:
        runs.fail(f"off by {TOLERANCE} or more: {', '.join(bad)}")


if __name__ == "__main__":
    main()
