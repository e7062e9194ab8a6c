"""The clip format in both forms, what is refused and how, and the actions' scale."""

import cv2
import numpy as np
import pytest

from wm.cosmos.training import clips
from wm.cosmos.training.clips import Clip, ClipError, Normaliser, Shape

SHAPE = Shape(frames=5, height=16, width=24, actions=3)


def made(seed=0, frames=5, height=16, width=24, actions=3):
    generator = np.random.default_rng(seed)
    return Clip(
        generator.integers(0, 256, (frames, height, width, 3)).astype(np.uint8),
        generator.normal(size=(frames - 1, actions)).astype(np.float32),
    )


def test_npz_comes_back_as_written(tmp_path):
    clips.write(tmp_path / "a.npz", made())
    back = clips.read_checked(tmp_path / "a.npz", SHAPE)
    np.testing.assert_array_equal(back.frames, made().frames)
    np.testing.assert_array_equal(back.actions, made().actions)
    assert [path.name for path in clips.find(tmp_path)] == ["a.npz"]


def test_folder_of_pictures_equals_the_npz(tmp_path):
    folder, clip = tmp_path / "b", made()
    folder.mkdir()
    for number, frame in enumerate(clip.frames):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame[..., ::-1])
    np.savetxt(folder / "actions.csv", clip.actions, delimiter=",", fmt="%.9g")
    back = clips.read_checked(folder, SHAPE)
    np.testing.assert_array_equal(back.frames, clip.frames)
    np.testing.assert_array_equal(back.actions, clip.actions)


def test_mp4_has_the_colours_in_order(tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    writer = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (32, 32))
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 2] = 255  # OpenCV's order
    for _ in range(5):
        writer.write(red)
    writer.release()
    (folder / "actions.csv").write_text("0,0\n" * 4)
    frames = clips.read(folder).frames
    assert frames.shape == (5, 32, 32, 3)
    assert frames[..., 0].mean() > 200 > 60 > frames[..., 2].mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 9}, r"a\.npz: frames is 9, must be 5"),
        ({"height": 8}, r"a\.npz: size \(height, width\) is \(8, 24\), must be \(16, 24\)"),
        ({"actions": 2}, r"a\.npz: action width is 2, must be 3"),
    ],
)
def test_wrong_clips_are_refused_by_name(tmp_path, change, message):
    clips.write(tmp_path / "a.npz", made(**change))
    with pytest.raises(ClipError, match=message):
        clips.read_checked(tmp_path / "a.npz", SHAPE)


def damaged(path, kind):
    clip = made()
    if kind == "torn":
        clips.write(path, clip)
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "no actions":
        np.savez(path, frames=clip.frames)
    elif kind == "float frames":
        np.savez(path, frames=clip.frames / 255.0, actions=clip.actions)
    elif kind == "one action too many":
        np.savez(path, frames=clip.frames[:-1], actions=clip.actions)
    elif kind == "nan":
        clip.actions[2] = np.nan
        clips.write(path, clip)
    elif kind == "objects":
        np.savez(path, frames=clip.frames, actions=np.array([{}], object))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("torn", "can't be read"),
        ("no actions", "no array"),
        ("float frames", "must be uint8"),
        ("one action too many", "4 frames need 3 actions, one between neighbours; it has 4"),
        ("nan", "action 2 isn't finite"),
        ("objects", "can't be read"),
    ],
)
def test_damaged_clips_are_refused_by_name(tmp_path, kind, message):
    path = tmp_path / "bad.npz"
    damaged(path, kind)
    with pytest.raises(ClipError, match=rf"bad\.npz.*{message}"):
        clips.read(path)


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ClipError, match=r"holds no clip"):
        clips.find(tmp_path)
    with pytest.raises(ClipError, match=r"is not a folder"):
        clips.find(tmp_path / "nothing")


def test_normaliser_gives_zero_mean_and_unit_deviation():
    actions = np.random.default_rng(0).normal([5, -300, 7], [0.01, 200, 0], size=(50, 4, 3))
    normaliser = Normaliser.fit(actions)
    scaled = normaliser(actions)
    np.testing.assert_allclose(scaled.reshape(-1, 3).mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.reshape(-1, 3).std(0), [1, 1, 0], atol=1e-5)
    with pytest.raises(ClipError, match="2 numbers, the model was trained on 3"):
        normaliser(actions[..., :2])


def test_fingerprint_sees_every_byte_and_part(tmp_path):
    clips.write(tmp_path / "a.npz", made())
    first = clips.fingerprint(clips.find(tmp_path), "vae")
    assert first == clips.fingerprint(clips.find(tmp_path), "vae")
    assert first != clips.fingerprint(clips.find(tmp_path), "another vae")
    clips.write(tmp_path / "a.npz", made(seed=1))
    assert first != clips.fingerprint(clips.find(tmp_path), "vae")


def test_frames_and_video_are_inverse():
    frames = np.arange(256, dtype=np.uint8)
    video = clips.to_video(frames)
    assert (video.min(), video.max()) == (-1, 1)
    np.testing.assert_array_equal(clips.to_frames(video), frames)


def test_frames_and_clips_come_in_the_order_of_their_numbers(tmp_path):
    """Twelve frames called 0.png to 11.png, each as bright as its number, in clips called 1, 2 and 10."""
    for name in ("10", "2", "1"):
        folder = tmp_path / name
        folder.mkdir()
        for number in reversed(range(12)):
            cv2.imwrite(str(folder / f"{number}.png"), np.full((8, 8, 3), number, np.uint8))
        np.savetxt(folder / "actions.csv", np.arange(11)[:, None], delimiter=",")
    assert [path.name for path in clips.find(tmp_path)] == ["1", "2", "10"]
    clip = clips.read(tmp_path / "2")
    assert clip.frames[:, 0, 0, 0].tolist() == list(range(12))
    assert clip.actions[:, 0].tolist() == list(range(11))


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    clips.write(tmp_path / "a.npz", made())
    folder = tmp_path / "b"
    folder.mkdir()
    for number, frame in enumerate(made(seed=1).frames):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    np.savetxt(folder / "actions.csv", made(seed=1).actions, delimiter=",")
    before = clips.fingerprint(clips.find(tmp_path))
    (tmp_path / ".latents").mkdir()
    strangers = ["._a.npz", ".DS_Store", "notes.txt", "b/._0.png", "b/.DS_Store"]
    for name in strangers:
        (tmp_path / name).write_bytes(b"\0\5\26\7")  # how such a copy of a Mac begins
    assert [path.name for path in clips.find(tmp_path)] == ["a.npz", "b"]
    assert len(clips.read(folder).frames) == 5
    assert clips.fingerprint(clips.find(tmp_path)) == before
    assert {str(path.relative_to(tmp_path)) for path in clips.passed_over(tmp_path)} == set(strangers)
