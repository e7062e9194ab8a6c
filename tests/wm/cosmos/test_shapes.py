"""The moving shapes obey their commands, and the ruler that measures them is finer than what it measures."""

import numpy as np
import pytest

from wm.cosmos.training import shapes
from wm.cosmos.training.shapes import World


def some(world, count=20):
    made = [shapes.clip(world, seed) for seed in range(count)]
    return [clip for clip, _ in made], np.stack([centres for _, centres in made])


def test_clips_follow_their_actions():
    world = World()
    clips, centres = some(world, 5)
    for clip, true in zip(clips, centres, strict=True):
        commands = clip.actions.reshape(world.frames - 1, world.shapes, 2)
        np.testing.assert_allclose(shapes.positions(world, true[0], commands), true, atol=1e-4)
        assert true.min() >= world.radius
        assert true.max() <= world.size - 1 - world.radius


def test_a_seed_is_a_clip():
    (first, _), (again, _), (other, _) = (shapes.clip(World(), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.frames != other.frames).any()


def test_positions_are_read_off_pictures_to_a_fraction_of_a_pixel():
    clips, centres = some(World())
    errors = shapes.position_error(np.stack([clip.frames for clip in clips]), centres, World())
    assert np.median(errors) < 0.15
    assert errors.max() < 1.0  # shapes that overlap


def test_other_commands_lead_somewhere_else():
    """What obeying is measured against: replayed under another clip's commands, shapes are pixels off."""
    clips, centres = some(World())
    frames = np.stack([clip.frames for clip in clips])
    assert shapes.position_error(np.roll(frames, 1, 0), centres, World()).mean() > 5.0


def test_what_is_not_there_is_not_found():
    empty = np.broadcast_to(np.rint(shapes.GROUND).astype(np.uint8), (1, 3, 64, 64, 3))
    assert np.isnan(shapes.locate(empty, 2)).all()
    assert shapes.position_error(empty, np.full((1, 3, 2, 2), 20.0), World()) == pytest.approx(32.0)


def test_drifters_are_solid_and_their_moves_are_not_told():
    world = World(drifters=1)
    clips, centres = some(world)
    frames = np.stack([clip.frames for clip in clips])
    assert clips[0].actions.shape == (world.frames - 1, 2 * world.shapes)
    assert centres.shape[2] == 3
    assert np.median(shapes.solidity(frames, world)) > 0.9  # less where another shape hides them
    assert shapes.position_error(frames, centres, world).max() < 1.5


def test_an_average_over_futures_has_no_drifter():
    world = World(drifters=1)
    frames = np.stack([clip.frames for clip in some(world, 40)[0]]).mean(0, keepdims=True)
    assert shapes.solidity(np.rint(frames).astype(np.uint8), world)[0] < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [({"shapes": 2, "drifters": 2}, "together 3 at most"), ({"size": 16}, "four radii")],
)
def test_impossible_worlds_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        World(**change)
