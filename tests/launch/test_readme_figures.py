"""Every figure that the README quotes is the one in launch/records; and the check itself can fail."""

import re
from pathlib import Path

import pytest

from launch.shared import records
from launch.shared.records import Figure

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("records")
    figures = {
        "error": Figure(0.3468, 0.3012, 0.4, "nm", 500),
        "share": Figure(0.873, 0.85, 0.89, "", 30),
        "landed": Figure(87.3, 85.0, 89.0, "%", 30),
        "speed": Figure(3_512_345.0, 3.4e6, 3.6e6, "steps/s", 5),
        "gap": Figure(-12.4, -20.0, -3.0, "points", 30),
        "count": Figure(1234.0, 1234.0, 1234.0, "", 1),
    }
    records.write("spine", figures, directory)
    return directory


def test_readme_quotes_the_records():
    assert records.misquotations(README.read_text(encoding="utf-8")) == []


def test_readme_marks_the_figures_of_its_results():
    """Each row of the table under "Results" carries a record, except the heading and the rule below it."""
    section = re.search(
        r"^## Results\n(.*?)(?=^## |\Z)", README.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    rows = [line for line in section[1].splitlines() if line.startswith("|")][2:] if section else []
    with_numbers = [row for row in rows if re.search(r"\d", row.partition("|")[2].partition("|")[2])]
    assert [row for row in with_numbers if not records.quotations(row)] == []


@pytest.mark.parametrize(
    "text",
    [
        "| error | 0.35 nm <!-- record: spine.error --> |",
        "| error | **0.347** nm<!-- record: spine.error --> |",
        "| error | 0.3<!-- record: spine.error --> (0.30<!-- record: spine.error.low --> to "
        "0.40 <!-- record: spine.error.high -->) of 500 <!--record: spine.error.n--> |",
        "87.3 % <!-- record: spine.share -->",
        "0.87 <!-- record: spine.share -->",
        "87 % <!-- record: spine.landed -->",
        "3.5 M <!-- record: spine.speed --> 3.51 million steps/s <!-- record: spine.speed -->",
        "3,512,345 steps/s <!-- record: spine.speed -->",
        "-12 points <!-- record: spine.gap -->, \N{MINUS SIGN}12.4 <!-- record: spine.gap -->",
        "1,234 <!-- record: spine.count --> and 1.2 k <!-- record: spine.count -->",
    ],
)
def test_right_quotations_pass(measured, text):
    assert records.quotations(text) >= 1
    assert records.misquotations(text, measured) == []


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("0.36 nm <!-- record: spine.error -->", "the text says 0.36, the record 0.3468"),
        ("0.3460 nm <!-- record: spine.error -->", "the text says 0.346, the record 0.3468"),
        (
            "0.3 <!-- record: spine.error --> to 0.5 <!-- record: spine.error.high -->",
            "says 0.5, the record 0.4",
        ),
        ("8.73 % <!-- record: spine.share -->", "says 0.0873, the record 0.873"),
        ("3.5 <!-- record: spine.speed -->", "says 3.5, the record 3.51234e+06"),
        ("12.4 <!-- record: spine.gap -->", "says 12.4, the record -12.4"),
        ("0.35 km <!-- record: spine.error -->", "no number in front of it"),
        ("low <!-- record: spine.error -->", "no number in front of it"),
        ("<!-- record: spine.error -->", "no number in front of it"),
        ("0.35 nm\n<!-- record: spine.error -->", "no number in front of it"),
        ("0.35 nm <!-- record: spine -->", "not of the form"),
        ("0.35 nm <!-- record: spine.error.mean -->", "not of the form"),
        ("0.35 <!-- record: spine.eror -->", "has no figure 'eror'; it has error, share"),
        ("0.35 <!-- record: spin.error -->", "no record 'spin'; there are: spine"),
    ],
)
def test_wrong_quotations_are_found(measured, text, cause):
    problems = records.misquotations(text, measured)
    assert len(problems) == 1
    assert cause in problems[0]
