"""Write every recorded figure into launch/records/README.md, and those that README, cards and notebook show.

    python -m launch.records_page

Run it after a command has written figures with --record. configs/records_page.py says which figures are shown
under which words; a figure that it doesn't name stands in the last table. Takes a second on any machine.
"""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from configs import cli
from configs.records_page import CARDS, ELSEWHERE, README, TABLES, FigureTable, PolicyTable
from launch.shared import records, runs, scoreboard
from launch.shared.records import Figure, RecordError

HEADING = ("measured", "result", "95 % interval", "n")
ASSURANCE = ("claim", "evidence (95 % interval)", "record")
REPOSITORY = Path(__file__).parents[1]
GUIDES = REPOSITORY / "launch" / "guides"
NOTEBOOK = REPOSITORY / "launch" / "notebooks" / "07_cosmos_world_model_demo.ipynb"
INTRODUCTION = """# Every recorded figure

`python -m launch.records_page` wrote this page from the JSON files beside it; a test compares the two. Behind
each value stands its 95 % interval; n is how many hours, windows or repeats it rests on, and the number in
brackets which command measured it, on what and when: see [Origins](#origins). Rates of rare events have exact
Poisson intervals; other intervals are bootstrapped unless a table says otherwise. What was counted or
measured once has an interval of no width.
"""


@dataclass(frozen=True)
class Arguments:
    """Write launch/records/README.md, the README's table, the cards' and the notebook's kept figures from the
    records; no options."""


class Book:
    """All figures of a folder of records, by name, and the numbers of their origins in order of mention."""

    def __init__(self, directory: Path = records.DIRECTORY):
        self.figures: dict[str, Figure] = {}
        self.record: dict[str, str] = {}  # where each is, such as "spine.json"
        self._origin: dict[str, tuple[str, str, str, str]] = {}
        self.origins: list[tuple[str, str, str, str]] = []
        self.left: list[str] = []  # not shown yet
        for path in sorted(directory.glob("*.json")):
            record = records.read(path.stem, directory)
            for name, entry in record["figures"].items():
                self.figures[name] = records.figure_of(record, name, path.stem)
                self.record[name] = f"{path.name}: {name}"
                where = {key: entry.get(key, record[key]) for key in records.PROVENANCE}
                commit = (where["commit"] or "no commit").replace("-dirty", ", changed")
                self._origin[name] = (where["command"], where["device"], where["date"][:10], commit)
        self.left = list(self.figures)

    def take(self, name: str) -> tuple[Figure, str]:
        """A figure, and the number of its origin in brackets. Raises RecordError where no record has it."""
        if name not in self.figures:
            raise RecordError(f"no record has a figure {name!r}, which configs/records_page.py names")
        if name in self.left:
            self.left.remove(name)
        origin = self._origin[name]
        if origin not in self.origins:
            self.origins.append(origin)
        return self.figures[name], f"[{self.origins.index(origin) + 1}]"


def number(value: float) -> str:
    """A number in as many digits as a reader wants: 927,414; 124; 10.0; 0.97; 0.00013; never in powers."""
    size = abs(value)
    if size >= 100 or (float(value).is_integer() and size >= 10):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.01 or size == 0:
        return f"{value:.2f}"
    text = f"{value:.12f}"
    keep = next(i for i, letter in enumerate(text) if letter in "123456789") + 2
    return f"{value:.{keep - text.index('.') - 1}f}"


def interval(figure: Figure) -> str:
    """A figure's interval in words."""
    return f"{number(figure.low)} to {number(figure.high)}"


def markdown(rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table whose columns are padded, so that it also reads as plain text."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return [f"| {' | '.join(row)} |" for row in padded]


def readme_table(book: Book, rows: dict[str, str] = README) -> list[str]:
    """The README's table: label, value, interval and n of each figure in `rows`."""
    shown = [HEADING]
    for label, name in rows.items():
        figure, _ = book.take(name)
        shown.append((label, number(figure.value), interval(figure), str(figure.n)))
    return markdown(shown)


def assurance(book: Book, rows: dict[str, str]) -> list[str]:
    """A card's table: each claim with its figure, interval and n, and the record that holds it."""
    shown = [ASSURANCE]
    for claim, name in rows.items():
        figure, _ = book.take(name)
        shown.append((claim, f"{number(figure.value)} ({interval(figure)}), n {figure.n}", book.record[name]))
    return markdown(shown)


def with_table(text: str, table: list[str], heading: tuple[str, ...] = HEADING) -> str:
    """A page with `table` in place of the one that has this heading. Raises RecordError without one."""
    lines = text.splitlines()
    cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    if heading not in cells:
        raise RecordError(f"the page has no table with the heading | {' | '.join(heading)} |")
    begin = end = cells.index(heading)
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return "\n".join([*lines[:begin], *table, *lines[end:]]) + "\n"


def figure_rows(book: Book, table: FigureTable) -> list[tuple[str, ...]]:
    """Heading and rows of a table of figures."""
    named = list(table.rows)
    if table.every is not None:
        given = {name for _, name in named}
        more = [name for name in book.figures if name.startswith(table.every) and name not in given]
        named += [(name.removeprefix(table.every).replace("_", " ").strip(), name) for name in more]
    rows = [(*HEADING, "origin")]
    for label, name in named:
        figure, origin = book.take(name)
        rows.append((label, number(figure.value), interval(figure), str(figure.n), origin))
    return rows


def policy_rows(book: Book, table: PolicyTable) -> list[tuple[str, ...]]:
    """Heading and rows of a table of policies; what an evaluation could not give is left blank."""
    names = [scoreboard.record_names(dict.fromkeys(scoreboard.COLUMNS), *row[1:]) for row in table.rows]
    shown = [i for i in range(len(scoreboard.COLUMNS)) if any(list(n)[i] in book.figures for n in names)]
    titles = list(scoreboard.COLUMNS.values())
    rows = [("policy", *(titles[i] for i in shown), "n", "origin")]
    for (label, *_), named in zip(table.rows, names, strict=True):
        given = [list(named)[i] for i in shown]
        found = {name: book.take(name) for name in given if name in book.figures}
        if not found:
            raise RecordError(f"no record has a figure of {label!r}, which configs/records_page.py names")
        most = max(figure.n for figure, _ in found.values())
        cells = [policy_cell(found[name][0], most) if name in found else "" for name in given]
        origins = ", ".join(sorted({origin for _, origin in found.values()}))
        rows.append((label, *cells, str(most), origins))
    return rows


def policy_cell(figure: Figure, most: int) -> str:
    """Value and interval, and n where it isn't the row's."""
    text = f"{number(figure.value)} ({interval(figure)})"
    return text if figure.n == most else f"{text}, n {figure.n}"


def page(book: Book) -> str:
    """The text of launch/records/README.md."""
    lines = [INTRODUCTION]
    for table in TABLES:
        rows = figure_rows(book, table) if isinstance(table, FigureTable) else policy_rows(book, table)
        lines += [f"## {table.title}\n", f"{table.caption}\n", *markdown(rows), ""]
    if rest := [name for name in book.left if not name.startswith(ELSEWHERE)]:
        rows = figure_rows(book, FigureTable("", "", tuple((name, name) for name in rest)))
        lines += ["## All other figures\n", "By their names in the records.\n", *markdown(rows), ""]
    lines += ["## Origins\n"]
    for i, (command, device, date, commit) in enumerate(book.origins, 1):
        lines.append(f"{i}. `{command}`; {device}; {date}; commit {commit[:12]}{commit[40:]}")
    return "\n".join(lines) + "\n"


def kept_figures(notebook: str) -> str:
    """A notebook's text with the records' figures in the outputs that its cell `stored` has printed."""
    content, record = json.loads(notebook), ""
    for cell in content["cells"]:
        for output in cell.get("outputs", ()):
            for i, line in enumerate(output.get("text", ())):
                if named := re.match(r"From launch/records/(\w+)\.json", line):
                    record = named[1]
                elif row := re.match(r"  (\w+) +\S+  \(.*n = \d+(\n?)$", line):
                    output["text"][i] = records.line(record, row[1]) + row[2]
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Write all of them."""
    cli.parse(Arguments, argv)
    readme, records_readme = REPOSITORY / "README.md", records.DIRECTORY / "README.md"
    with runs.one_line_errors(RecordError, OSError):
        text = with_table(readme.read_text(encoding="utf-8"), readme_table(Book()))
        written = page(Book())
        cards = {GUIDES / f"{name}.md": assurance(Book(), rows) for name, rows in CARDS.items()}
        carded = {path: with_table(path.read_text("utf-8"), rows, ASSURANCE) for path, rows in cards.items()}
        kept = kept_figures(NOTEBOOK.read_text(encoding="utf-8"))
        for path, new in {readme: text, records_readme: written, NOTEBOOK: kept, **carded}.items():
            path.write_text(new, encoding="utf-8")
    print(f"wrote the tables of {readme} and of the cards in {GUIDES}, {records_readme} and {NOTEBOOK.name}")


if __name__ == "__main__":
    main(sys.argv[1:])
