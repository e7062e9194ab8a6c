"""README and records page say what the records say; and the comparison can fail."""

import json

import pytest

from launch import records_page
from launch.records_page import Book
from launch.shared import records
from launch.shared.records import Figure, RecordError

README = (records_page.REPOSITORY / "README.md").read_text(encoding="utf-8")
ROWS = {"error a minute ahead (nm)": "error", "steps per second": "speed", "points": "gap"}
TEXT = """# Project

| measured | result | 95 % interval | n |
| --- | --- | --- | --- |
| an old row | 7 | 6 to 8 | 9 |

| measured | otherwise |
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("records")
    figures = {
        "error": Figure(0.3468, 0.3012, 0.4, "nm", 500),
        "speed": Figure(3_512_345.0, 3.4e6, 3.6e6, "steps/s", 5),
        "gap": Figure(-12.4, -20.0, 0.0, "points", 30),
    }
    records.write("spine", figures, directory)
    return directory


def test_the_readme_s_table_is_the_records():
    table = records_page.readme_table(Book())
    assert len(table) == 2 + 10
    assert records_page.with_table(README, table) == README, "run python -m launch.records_page"


def test_the_records_page_is_the_records():
    written = (records.DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert records_page.page(Book()) == written, "run python -m launch.records_page"


@pytest.mark.parametrize("card", records_page.CARDS)
def test_a_card_s_claims_have_the_records_evidence(card):
    text = (records_page.GUIDES / f"{card}.md").read_text(encoding="utf-8")
    table = records_page.assurance(Book(), records_page.CARDS[card])
    assert len(table) > 2
    assert records_page.with_table(text, table, records_page.ASSURANCE) == text, "run launch.records_page"


def test_a_claim_names_figure_and_record(measured):
    table = records_page.assurance(Book(measured), {"it is fast": "speed"})
    assert [cell.strip() for cell in table[2].strip("|").split("|")] == [
        "it is fast",
        "3,512,345 (3,400,000 to 3,600,000), n 5",
        "spine.json: speed",
    ]


def test_the_readme_is_short_plain_text():
    assert len(README.splitlines()) <= 130
    assert "<!--" not in README


def test_the_table_in_numbers_worked_out_by_hand(measured):
    text = records_page.with_table(TEXT, records_page.readme_table(Book(measured), ROWS))
    assert text == """# Project

| measured                  | result    | 95 % interval          | n   |
| ------------------------- | --------- | ---------------------- | --- |
| error a minute ahead (nm) | 0.35      | 0.30 to 0.40           | 500 |
| steps per second          | 3,512,345 | 3,400,000 to 3,600,000 | 5   |
| points                    | -12.4     | -20 to 0.00            | 30  |

| measured | otherwise |
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("0.35 ", "0.36 "),
        ("0.30 to 0.40", "0.30 to 0.41"),
        ("3,512,345", "3,512,346"),
        ("| -12.4 ", "| 12.4  "),
        ("| 500 |", "| 501 |"),
        ("error a minute", "error an hour "),
        ("| points                    | -12.4     | -20 to 0.00            | 30  |\n", ""),
    ],
)
def test_a_wrong_quotation_is_found(measured, right, wrong):
    table = records_page.readme_table(Book(measured), ROWS)
    text = records_page.with_table(TEXT, table)
    assert right in text
    misquoted = text.replace(right, wrong)
    assert records_page.with_table(misquoted, table) == text != misquoted


def test_a_figure_measured_again_makes_the_page_stale(tmp_path):
    for path in records.DIRECTORY.glob("*.json"):
        record = json.loads(path.read_text())
        if "shapes_position_error_vae" in record["figures"]:
            record["figures"]["shapes_position_error_vae"]["value"] += 0.01
        (tmp_path / path.name).write_text(json.dumps(record))
    before, after = (records_page.page(book).splitlines() for book in (Book(), Book(tmp_path)))
    changed = [line for line in after if line not in before]
    assert len(changed) == 1
    assert "the autoencoder alone" in changed[0]


def test_a_figure_without_words_is_shown_by_its_name(tmp_path):
    for path in records.DIRECTORY.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    records.write("new", {"training_kills_lost": Figure(0, 0, 0, "kills", 10)}, tmp_path)
    text = records_page.page(Book(tmp_path))
    assert "## All other figures" in text
    assert "| training_kills_lost | 0.00   | 0.00 to 0.00  | 10 | [" in text


def test_a_row_without_a_figure_is_an_error(measured):
    with pytest.raises(RecordError, match="no record has a figure 'eror'"):
        records_page.readme_table(Book(measured), {"error": "eror"})
    with pytest.raises(RecordError, match="no table with the heading"):
        records_page.with_table("# Project\n", records_page.readme_table(Book(measured), ROWS))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (927414.4, "927,414"), (-2823.0, "-2,823"), (123.5, "124"), (42.5, "42.5"), (10, "10"),
        (9.99, "9.99"), (0.0, "0.00"), (0.97357, "0.97"), (0.0316, "0.03"), (0.0078, "0.0078"),
        (0.000125683, "0.00013"), (0.0000216961, "0.000022"),
    ],
)  # fmt: skip
def test_numbers_have_two_digits_at_least_and_no_powers(value, text):
    assert records_page.number(value) == text


def test_the_table_of_places_points_at_what_is_there():
    section = README.partition("| to see ")[2].partition("\n\n")[0]
    places = [line.strip("| ").rpartition("|")[2].strip() for line in section.splitlines()[2:]]
    assert len(places) >= 12
    for place in places:
        path, _, names = place.partition(": ")
        for one in path.split(", "):
            assert (records_page.REPOSITORY / one).exists(), place
        for name in filter(None, names.split(", ")):
            source = (records_page.REPOSITORY / path).read_text(encoding="utf-8")
            assert f"def {name}(" in source or f"class {name}" in source, place
