"""Names come in the order that people count in, and hidden files are nobody's data."""

from hypothesis import given
from hypothesis import strategies as st

from wm.store import listing


def test_numbers_in_names_are_compared_as_numbers(tmp_path):
    names = ["0.png", "1.png", "2.png", "9.png", "10.png", "11.png", "100.png"]
    for name in reversed(names):
        (tmp_path / name).touch()
    (tmp_path / "._0.png").touch()
    (tmp_path / ".DS_Store").touch()
    assert [path.name for path in listing.visible(tmp_path)] == names


def test_folders_come_before_what_is_in_them():
    assert sorted(["a10/1", "a2/b", "a2", "a2/1"], key=listing.natural) == ["a2", "a2/1", "a2/b", "a10/1"]


@given(st.lists(st.integers(0, 10**9), unique=True), st.text("ab-_", max_size=3))
def test_order_is_that_of_the_numbers_padded_or_not(numbers, stem):
    for form in ("{}{}", "{}{:010d}"):
        names = sorted((form.format(stem, number) for number in numbers), key=listing.natural)
        assert names == [form.format(stem, number) for number in sorted(numbers)]


@given(st.sets(st.text("a0129._-", min_size=1, max_size=6).filter(lambda name: name.strip(".")), max_size=8))
def test_order_does_not_depend_on_the_order_of_listing(names):
    assert sorted(names, key=listing.natural) == sorted(sorted(names, reverse=True), key=listing.natural)


def test_what_was_passed_over_fits_in_a_line(tmp_path):
    assert listing.passed_over(tmp_path, []) == ""
    paths = [tmp_path / f"._{number}.npz" for number in range(7)]
    assert listing.passed_over(tmp_path, paths) == (
        f"passed over in {tmp_path}: ._0.npz, ._1.npz, ._2.npz, ._3.npz, ._4.npz and 2 more"
    )
