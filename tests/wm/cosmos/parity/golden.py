"""The originals' kept answers: reading them, and writing them anew, which needs torch and diffusers.

    python -m tests.wm.cosmos.parity.golden [dit solvers vae]

Weights and inputs are made from seeds (`dit_cases`, `solver_cases`, `vae_cases`), so only answers are kept.
"""

import sys
from pathlib import Path

import numpy as np

from tests.wm.cosmos.parity import dit_cases, solver_cases, vae_cases
from tests.wm.cosmos.parity.case import Arrays, Case

GOLDEN = Path(__file__).parents[1] / "golden"
PARTS = {"dit": dit_cases.cases, "solvers": solver_cases.cases, "vae": vae_cases.cases}


def cases(part: str) -> dict[str, Case]:
    """The cases of one part, by name."""
    return PARTS[part]()


def answers(part: str) -> dict[str, Arrays]:
    """What the originals answered, by case, from the file of a part."""
    found: dict[str, Arrays] = {}
    with np.load(GOLDEN / f"{part}.npz") as file:
        for name in sorted(file.files, key=lambda name: int(name.rsplit("/", 1)[1])):
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
