"""Writes the originals' answers that the parity tests compare with; wants torch and diffusers.

    python -m tests.wm.cosmos.make_golden [dit solvers ...]

Weights and inputs are made from seeds in launch/parity_*.py, so only the answers are kept.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
PARTS = ("dit", "solvers", "vae")


def cases(part: str):
    """The cases of one part, by name."""
    return importlib.import_module(f"launch.parity_{part}").cases()


def answers(part: str) -> dict[str, list[np.ndarray]]:
    """What the originals answered, by case, from the file of a part."""
    found: dict[str, list[np.ndarray]] = {}
    with np.load(GOLDEN / f"{part}.npz") as file:
        for name in sorted(file.files):
            found.setdefault(name.rsplit("/", 1)[0], []).append(file[name])
    return found


def main(parts: list[str]) -> None:
    """Run the originals and write golden/<part>.npz."""
    GOLDEN.mkdir(exist_ok=True)
    for part in parts or PARTS:
        arrays = {
            f"{name}/{index}": array.astype(np.float32)
            for name, case in cases(part).items()
            for index, array in enumerate(case.theirs())
        }
        np.savez_compressed(GOLDEN / f"{part}.npz", **arrays)
        print(f"golden/{part}.npz: {len(arrays)} arrays, {(GOLDEN / f'{part}.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
