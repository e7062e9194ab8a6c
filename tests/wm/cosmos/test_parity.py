"""Our modules against their originals: kept answers everywhere, live ones where torch and diffusers are."""

import jax
import numpy as np
import pytest

from launch.parity import TOLERANCE, difference, random_tree
from tests.wm.cosmos import make_golden

PARTS = ("dit", "solvers")
ROWS = [(part, name) for part in PARTS for name in make_golden.cases(part)]


@pytest.mark.parametrize(("part", "name"), ROWS)
def test_ours_equals_the_originals_kept_answer(part, name):
    ours = make_golden.cases(part)[name].ours()
    assert difference(ours, make_golden.answers(part)[name]) < TOLERANCE


@pytest.mark.filterwarnings("default")  # their warnings aren't ours to mend
@pytest.mark.parametrize(("part", "name"), ROWS)
def test_the_original_still_answers_what_was_kept(part, name):
    pytest.importorskip("diffusers", reason="the original needs the extra parity: torch and diffusers")
    theirs = make_golden.cases(part)[name].theirs()
    assert difference(theirs, make_golden.answers(part)[name]) < TOLERANCE / 10


@pytest.mark.parametrize("part", PARTS)
def test_kept_answers_are_of_the_rows_that_there_are(part):
    assert set(make_golden.answers(part)) == set(make_golden.cases(part))


def test_kept_answers_are_small():
    sizes = [path.stat().st_size for path in make_golden.GOLDEN.glob("*.npz")]
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
