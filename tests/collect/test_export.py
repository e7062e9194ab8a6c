"""Exported episodes come back as they were, pixels included, and are refused when they are not whole."""

import json

import cv2
import episodes
import numpy as np
import pytest

from collect import dataset, export, store
from collect.pictures import palette_png
from launch import export as command

PX = 64


@pytest.fixture
def pictured(tmp_path, stored_answer, static):
    """A recording of two episodes with two pictures per decision."""
    rng = np.random.default_rng(0)

    def picture() -> bytes:
        indices = np.zeros((PX, PX), np.uint8)
        indices[rng.integers(PX, size=9), rng.integers(PX, size=9)] = rng.integers(256, size=9)
        return palette_png(indices)

    with store.EpisodeWriter(tmp_path / "recorded", PX, 2) as writer:
        for seed in (7, 8):
            example = episodes.example(stored_answer("kabq_start"), static, seed)
            for step in example["steps"]:
                step["observation"] |= {"picture": picture(), "picture_page": np.int32(1)}
                step["between"] = {"picture_1": picture(), "page_1": np.int32(0)}
            about = json.loads(example["episode_metadata"]["about"])
            about["view"] = {"px": PX, "each": 2, "palette": True}
            example["episode_metadata"]["about"] = json.dumps(about)
            writer.write(example)
    return tmp_path / "recorded"


def same(one, other) -> None:
    """Compare two trees of columns; pictures by their pixels."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            same(one[name], other[name])
    elif isinstance(one, np.ndarray) and one.dtype == object and len(one[0]) > 4 and one[0][:4] == b"\x89PNG":
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(read(a), read(b))
    else:
        np.testing.assert_array_equal(one, other)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


def read(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_an_episode_comes_back_whole_and_is_smaller(pictured, tmp_path):
    (name, example), _ = command.examples(pictured)
    size = export.write(example, tmp_path / "one")
    same(example, export.read(tmp_path / "one"))
    assert size < 0.6 * store.shards(pictured)[0].stat().st_size
    assert name == "kabq-000007-random-30s"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_packed_episodes_make_the_same_recording(pictured, tmp_path, capsys):
    packed, back = tmp_path / "packed", tmp_path / "back"
    for _ in range(2):  # the second time there is nothing to do
        command.main(["pack", "--data", str(pictured), "--out", str(packed)])
        command.main(["unpack", "--data", str(packed), "--out", str(back)])
    assert "2 episodes in" in capsys.readouterr().out
    for (_, one), (_, other) in zip(command.examples(pictured), command.examples(back), strict=True):
        same(one, other)
    assert [episode.seed for episode in dataset.load(back)] == [7, 8]


def test_episodes_of_several_widths_are_unpacked_side_by_side(tmp_path, stored_answer, static):
    data, packed, back = tmp_path / "data", tmp_path / "packed", tmp_path / "back"
    one, other = (episodes.example(stored_answer("kabq_start"), static, seed) for seed in (7, 8))
    episodes.write(data / "narrow", [episodes.narrow(one)], columns=64)
    episodes.write(data / "wide", [other])
    command.main(["pack", "--data", str(data), "--out", str(packed)])
    command.main(["unpack", "--data", str(packed), "--out", str(back)])
    for (_, one), (_, other) in zip(command.examples(data), command.examples(back), strict=True):
        same(one, other)


def test_a_video_shows_every_picture_in_order(pictured, tmp_path):
    command.main(["video", "--data", str(pictured), "--out", str(tmp_path / "videos")])
    one, _ = sorted((tmp_path / "videos").iterdir())
    video, frames = cv2.VideoCapture(str(one)), []
    while (frame := video.read())[0]:
        frames.append(frame[1])
    (_, example), _ = command.examples(pictured)
    shown = [read(png) for png in command.pictures_of(example)]
    assert len(frames) == len(shown) == 13  # seven starts of steps, six pictures between them
    errors = [[np.abs(a.astype(int) - b).mean() for b in shown] for a in frames]
    assert np.argmin(errors, axis=1).tolist() == list(range(13))


def test_pictures_of_other_colours_are_refused_and_nothing_is_left(pictured, tmp_path):
    (_, example), _ = command.examples(pictured)
    other = cv2.imencode(".png", np.zeros((PX, PX, 3), np.uint8))[1].tobytes()
    example["steps"]["observation"]["picture"][3] = other
    with pytest.raises(store.DataError, match="step 3 cannot be exported"):
        export.write(example, tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["recorded"]


def test_what_is_not_whole_is_refused(pictured, tmp_path):
    (_, example), _ = command.examples(pictured)
    path = tmp_path / "one"
    export.write(example, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(store.DataError, match="is damaged"):
        export.read(path)
    path.write_bytes(b"something else")
    with pytest.raises(store.DataError, match="no exported episode"):
        export.read(path)
    with pytest.raises(SystemExit):
        command.main(["unpack", "--data", str(pictured), "--out", str(tmp_path / "back")])
