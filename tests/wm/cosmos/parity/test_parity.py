"""The Cosmos modules against their originals: against kept answers, and against torch where there is one."""

import jax
import numpy as np
import pytest

from tests.wm.cosmos.parity import __main__ as parity
from tests.wm.cosmos.parity import golden
from tests.wm.cosmos.parity.case import TOLERANCE, difference, random_tree

CASES = {part: golden.cases(part) for part in golden.PARTS}


def rows(slow: bool) -> list:
    """(part, name) of every row; with `slow`, the autoencoders' rows that take long to compile are marked."""
    return [
        pytest.param(part, name, marks=pytest.mark.slow if slow and name.endswith(("_5", "_17")) else ())
        for part, cases in CASES.items()
        for name in cases
    ]


@pytest.fixture(scope="module")
def answers():
    return {part: golden.answers(part) for part in golden.PARTS}


@pytest.mark.parametrize(("part", "name"), rows(slow=True))
def test_ours_equals_the_originals_kept_answer(part, name, answers):
    assert difference(CASES[part][name].ours(), answers[part][name]) < TOLERANCE


@pytest.mark.parity
@pytest.mark.filterwarnings("default")  # their warnings aren't ours to mend
@pytest.mark.parametrize(("part", "name"), rows(slow=False))
def test_the_original_still_answers_what_was_kept(part, name, answers):
    assert difference(CASES[part][name].theirs(), answers[part][name]) < TOLERANCE / 10


def test_kept_answers_are_of_the_rows_that_there_are(answers):
    assert {part: set(kept) for part, kept in answers.items()} == {
        part: set(cases) for part, cases in CASES.items()
    }


def test_kept_answers_are_small():
    sizes = [path.stat().st_size for path in golden.GOLDEN.glob("*.npz")]
    assert sum(sizes) < 600_000


def test_difference_refuses_shapes_and_numbers_that_hide_one():
    one = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="shapes"):
        difference([one], [one[:1]])
    with pytest.raises(ValueError, match="finite"):
        difference([one], [one * np.nan])
    assert difference([one, one], [one, one * 1.5]) == 0.5


def test_random_weights_leave_no_parameter_at_its_initial_value():
    shapes = {"a": {"kernel": (4, 5), "scale": (6,), "bias": (7,)}}
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )
    tree = random_tree(shapes, 0)["a"]
    assert (np.abs(tree["scale"] - 1) > 1e-4).all()
    assert (np.abs(tree["bias"]) > 1e-4).all()
    assert (np.abs(tree["kernel"]) > 1e-4).all()


def test_the_record_holds_every_row_and_the_published_counts():
    figures = parity.figures_of({"one": 1e-6, "two": 3e-6})
    assert figures["parity_max_abs"].value == 3e-6
    assert figures["parity_max_abs"].n == 2
    assert figures["parity_max_abs_one"].value == 1e-6
    counts = {name: figures[name].value for name in figures if name.startswith("params_")}
    assert counts == {
        "params_predict2_2b": 1_956_413_440,
        "params_predict2p5_2b": 2_059_174_912,
        "params_7b": 7_236_208_640,
        "params_wan_vae": 126_892_531,
    }
