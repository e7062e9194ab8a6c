"""What other systems and other data sets put beside recordings is passed over, and said once."""

import episodes
import numpy as np
import pytest
import tensorflow_datasets as tfds

from collect import dataset, export, store
from collect.validate import validate
from launch import export as command


@pytest.fixture(autouse=True)
def nothing_said_yet():
    store.say_once.cache_clear()


@pytest.fixture
def make(stored_answer, static):
    """A function that makes an episode with a given seed."""
    return lambda seed: episodes.example(stored_answer("kabq_start"), static, seed)


def other_data_set(folder):
    folder.mkdir()
    features = tfds.features.FeaturesDict({"x": np.int32})
    identity = tfds.core.dataset_info.DatasetIdentity(
        name="numbers", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features, description="Others.")
    info.set_file_format("array_record")
    info.write_to_directory(folder)


def litter(folder):
    """Files such as a Mac, Windows or a file server leave."""
    for path in [*folder.iterdir(), folder / "folder"]:
        (folder / f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
    for name in (".DS_Store", "Thumbs.db", "openscope-train.array_record.txt", "notes.episode.txt"):
        (folder / name).write_bytes(b"?")


def test_recordings_are_read_and_go_on_beside_foreign_files(tmp_path, make, capsys):
    ours = tmp_path / "recordings"
    episodes.write(ours, [make(1)])
    (tmp_path / ".snapshot").mkdir()
    (tmp_path / ".snapshot" / "recordings").symlink_to(ours)
    episodes.write(tmp_path / ".backup" / "recordings", [make(1)])
    other_data_set(tmp_path / "numbers")
    for folder in (tmp_path, ours, tmp_path / "numbers"):
        litter(folder)
    episodes.write(ours, [make(2)])
    assert store.find_directories(tmp_path) == [ours]
    assert [episode.seed for episode in dataset.load(tmp_path)] == [1, 2]
    assert len(store.stored_keys(store.written_directories(tmp_path))) == 2
    *_, report = validate(tmp_path)
    assert (report.episodes, report.findings) == (2, [])
    assert capsys.readouterr().err == f"note: {tmp_path}/numbers is the data set 'numbers': passed over\n"


def test_a_hidden_folder_that_is_named_is_read(tmp_path, make):
    episodes.write(tmp_path / ".cache" / "recordings", [make(1)])
    assert len(list(dataset.load(tmp_path / ".cache"))) == 1


def test_packed_episodes_are_unpacked_beside_foreign_files(tmp_path, make, capsys):
    episodes.write(tmp_path / "a", [make(1), make(2)])
    packed = tmp_path / "packed"
    command.main(["pack", "--data", str(tmp_path / "a"), "--out", str(packed)])
    litter(packed)
    (packed / "film.episode").write_bytes(b"another program's")
    (packed / "season.episode").mkdir()
    capsys.readouterr()
    for _ in range(2):
        command.main(["unpack", "--data", str(packed), "--out", str(tmp_path / "b")])
    said = capsys.readouterr()
    assert said.out == f"2 episodes in {tmp_path / 'b'}\n" * 2
    notes = [line for line in said.err.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert "holds 3 other files named *.episode (._kabq-" in notes[0]
    assert "film.episode" in notes[0]
    assert [episode.seed for episode in dataset.load(tmp_path / "b")] == [1, 2]


@pytest.mark.parametrize("size", [0, 7])
def test_an_episode_that_is_cut_short_is_damaged_and_not_foreign(tmp_path, make, size):
    episodes.write(tmp_path / "a", [make(1)])
    command.main(["pack", "--data", str(tmp_path / "a"), "--out", str(tmp_path / "packed")])
    (path,) = export.find(tmp_path / "packed")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(store.DataError, match="no exported episode"):
        command.unpack(command.Unpack(tmp_path / "packed", tmp_path / "b"))


def test_a_folder_of_foreign_files_alone_holds_no_episodes(tmp_path):
    (tmp_path / "._a.episode").write_bytes(b"?")
    with pytest.raises(store.DataError, match="holds no packed episodes"):
        command.unpack(command.Unpack(tmp_path, tmp_path / "b"))
    other_data_set(tmp_path / "numbers")
    with pytest.raises(store.DataError, match="holds no recordings"):
        list(dataset.load(tmp_path))
    with pytest.raises(store.DataError, match="'numbers', not recordings"):
        list(dataset.load(tmp_path / "numbers"))


def test_episodes_and_directories_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 100):
        (tmp_path / f"kabq-{number}{export.SUFFIX}").write_bytes(export.MAGIC)
        (tmp_path / f"worker-{number}").mkdir()
        (tmp_path / f"worker-{number}" / store.INFO).write_text(f'{{"name": "{store.NAME}"}}')
    assert [path.stem for path in export.find(tmp_path)] == ["kabq-9", "kabq-10", "kabq-100"]
    found = store.written_directories(tmp_path)
    assert [path.name for path in found] == ["worker-9", "worker-10", "worker-100"]
