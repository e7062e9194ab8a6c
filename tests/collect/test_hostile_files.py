"""Recordings from somewhere else: what they name, announce or hold leads nowhere but to one line of error."""

import json
import lzma
import os
import struct
import sys

import episodes
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from collect import dataset, export, store
from collect.validate import validate
from launch import export as command


@pytest.fixture
def recording(tmp_path, stored_answer, static):
    """A directory with one episode."""
    episodes.write(tmp_path / "recording", [episodes.example(stored_answer("kabq_start"), static)])
    return tmp_path / "recording"


def refusal(directory) -> str:
    with pytest.raises(store.DataError) as caught:
        list(dataset.load(directory))
    line = str(caught.value)
    assert "\n" not in line
    return line


def rewrite(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rewrite_record(directory, change):
    """The same episode with other contents, in a file that is whole."""
    (shard,) = store.shards(directory)
    example = tf_example_pb2.Example.FromString(store.read_records(shard)[0])
    change(example.features.feature)
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    writer.write(example.SerializeToString())
    writer.close()


def test_metadata_loads_no_module_that_it_names(recording):
    def name_a_module(features):
        features["featuresDict"]["features"]["episode_metadata"]["pythonClassName"] = "this.Zen"

    rewrite(recording / "features.json", name_a_module)
    assert "names the class 'this.Zen', which no recording has" in refusal(recording)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "template", ["../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}", "/etc/passwd-{SHARD_INDEX}"]
)
def test_metadata_leads_to_no_other_folder(recording, template):
    rewrite(recording / "dataset_info.json", lambda info: info["splits"][0].update(filepathTemplate=template))
    assert refusal(recording).startswith(str(recording))


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", "openscope-train.array_record-00000"])
def test_a_pipe_is_not_waited_for(recording, name):
    (recording / name).unlink()
    os.mkfifo(recording / name)
    assert "no file" in refusal(recording)


def test_metadata_nested_without_end_is_refused(recording):
    (recording / "features.json").write_text("[" * 100_000)
    assert "unreadable metadata" in refusal(recording)
    (recording / "dataset_info.json").write_text("[" * 100_000)
    assert "unreadable metadata" in refusal(recording)


def test_a_record_that_would_fill_the_memory_is_not_unpacked(recording):
    rewrite_record(recording, lambda f: f["episode_metadata/about"].bytes_list.value.append(bytes(2**27)))
    assert "announces 134," in refusal(recording)
    *_, report = validate(recording)
    assert "announces 134," in report.faults[0].text


def lose(name):
    return lambda features: features.pop(name)


def say(name, text):
    def change(features):
        features[f"episode_metadata/{name}"].bytes_list.value[0] = text

    return change


def add_numbers(features):
    features["steps/observation/score"].bytes_list.value.append(b"x")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lose("steps/observation/score"), "has columns of [0, 7] steps"),
        (add_numbers, "not what its metadata says"),
        (say("static", b"null"), "tables of no airport (airport is None, must be an object)"),
        (say("static", b'{"icao": "kabq"}'), "airport has no version"),
        (say("routes", b'[{"waypoints": [1]}]'), "routes[0].waypoints[0] is 1, must be an object"),
        (say("routes", b"[" * 100_000), "RecursionError"),
        (say("about", b"[]"), "cannot be read (TypeError"),
        (say("callsigns", b'{"x": "AAL1"}'), "cannot be read (ValueError"),
        (say("static", b"\xff"), "cannot be read (UnicodeDecodeError"),
    ],
)
def test_a_whole_record_that_no_recorder_writes_is_refused(recording, change, text):
    rewrite_record(recording, change)
    assert text in refusal(recording)


def test_a_record_without_a_key_is_refused(recording):
    rewrite_record(recording, lose("episode_metadata/key"))
    with pytest.raises(store.DataError, match="has no key"):
        store.stored_keys([recording])


@pytest.mark.parametrize("icao", ["../../elsewhere", "/elsewhere", "a/b", "", "a\0b", "x" * 300])
def test_an_episode_names_no_file_elsewhere(recording, tmp_path, icao):
    def rename(features):
        texts = features["episode_metadata/key"].bytes_list.value
        texts[0] = json.dumps(json.loads(texts[0]) | {"airport": icao}).encode()

    rewrite_record(recording, rename)
    with pytest.raises(store.DataError, match="which is no name"):
        command.pack(command.Pack(recording, tmp_path / "out" / "packed"))
    assert list((tmp_path / "out").rglob("*.episode")) == []


# Packed episodes


def repacked(path, change, body=None):
    """The packed episode with another layout, or with other bytes behind it."""
    whole = lzma.decompress(path.read_bytes()[len(export.MAGIC) :])
    (size,) = struct.unpack("<I", whole[:4])
    head = change(json.loads(whole[4 : 4 + size]))
    rest = whole[4 + size :] if body is None else body
    path.write_bytes(export.MAGIC + lzma.compress(struct.pack("<I", len(head)) + head + rest, preset=0))


def told(name, **values):
    return lambda layout: json.dumps(layout | {name: layout[name] | values}).encode()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (told("steps/action", bytes=10**18), "a part of 1000000000000000000 bytes"),
        (told("steps/action", bytes=10**9), "bytes are announced"),
        (told("steps/action", bytes=-1), "a part of -1 bytes"),
        (told("steps/action", dtype="O"), "is damaged"),
        (told("steps/action", kind="pictures", count=10**9, side=10**6), "1000000000 pictures"),
        (told("steps/action", kind=None, dtype=[1]), "is damaged"),
        (
            lambda layout: json.dumps({"a": layout["steps/action"], "a/b": layout["steps/reward"]}).encode(),
            "damaged",
        ),
        (lambda layout: b"[" * 100_000, "is damaged"),
        (lambda layout: b"[]", "is damaged"),
    ],
)
def test_a_packed_episode_claims_no_more_than_it_has(recording, tmp_path, change, text):
    command.pack(command.Pack(recording, tmp_path / "packed"))
    (path,) = export.find(tmp_path / "packed")
    repacked(path, change)
    with pytest.raises(store.DataError, match=text):
        export.read(path)


def test_a_packed_something_is_no_episode(recording, tmp_path):
    command.pack(command.Pack(recording, tmp_path / "packed"))
    (path,) = export.find(tmp_path / "packed")
    repacked(path, lambda layout: json.dumps({"x": {"kind": "value", "value": 1}}).encode())
    with pytest.raises(store.DataError, match="holds no episode"):
        command.unpack(command.Unpack(tmp_path / "packed", tmp_path / "b"))
    assert store.written_directories(tmp_path / "b") == []
