"""Which entries of a folder count, and in which order.

Numbers in names are compared as numbers, so 2.png comes before 10.png. Hidden entries never count:
.DS_Store, the copies that a Mac makes (._a.npz), and what an unfinished write left.
"""

import re
from collections.abc import Iterable
from pathlib import Path

SHOWN = 5  # names in one line


def natural(path: Path | str) -> tuple:
    """Key that sorts paths, part by part, with their numbers as numbers."""
    return tuple(
        (tuple(int(piece) if odd % 2 else piece for odd, piece in enumerate(re.split(r"(\d+)", part))), part)
        for part in Path(path).parts
    )


def visible(folder: Path) -> list[Path]:
    """Entries of a folder that aren't hidden, in natural order."""
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural)


def passed_over(folder: Path, entries: Iterable[Path]) -> str:
    """One line that names entries of a folder which were not read; "" where there are none."""
    names = [str(path.relative_to(folder)) for path in sorted(entries, key=natural)]
    if not names:
        return ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"passed over in {folder}: {', '.join(names[:SHOWN])}{more}"
