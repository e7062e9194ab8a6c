"""Checkpoints from somewhere else, sealed by whoever made them, are no more than data in their own folder."""

import json
import os

import numpy as np
import pytest

from wm.store import checkpoints, manifest
from wm.store.checkpoints import CheckpointError, CheckpointWarning

TREE = {"w": np.ones((4, 3), np.float32)}


@pytest.fixture
def folder(tmp_path):
    """The folder of one step."""
    return checkpoints.save(tmp_path, 1, TREE, {"seed": 3})


def rewrite(folder, name, text):
    """Other contents, with a manifest that agrees."""
    (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
    manifest.write_manifest(folder)


def readings(folder):
    directory = folder.parent
    return (
        lambda: checkpoints.restore(directory, TREE),
        lambda: checkpoints.load_leaves(directory),
        lambda: (checkpoints.load_config(directory), checkpoints.load_metadata(directory)),
    )


def refusals(folder) -> list[str]:
    """What the readings that are refused say, one line each."""
    said = []
    for read in readings(folder):
        try:
            read()
        except CheckpointError as error:
            said.append(str(error))
            assert "\n" not in said[-1]
    return said


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "a/../../b", "", "x\0", "x" * 10_000])
@pytest.mark.filterwarnings("ignore::wm.store.checkpoints.CheckpointWarning")
def test_a_manifest_names_no_file_elsewhere(folder, name):
    listed = json.loads((folder / "manifest.json").read_text())
    listed["files"][name] = {"bytes": 1, "sha256": "x"}
    (folder / "manifest.json").write_text(json.dumps(listed))
    assert "which is not in it" in manifest.missing_part(folder)
    assert len(refusals(folder)) == 3


def test_a_file_that_the_manifest_does_not_list_is_not_believed(folder):
    listed = json.loads((folder / "manifest.json").read_text())
    del listed["files"]["config.json"]
    (folder / "manifest.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=r"config\.json is not what was saved"):
        checkpoints.load_config(folder.parent)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {"bytes": 1}}}']
)
def test_a_manifest_of_something_else_is_unreadable(folder, text):
    (folder / "manifest.json").write_text(text)
    assert manifest.missing_part(folder) == "unreadable manifest.json"
    with (
        pytest.warns(CheckpointWarning, match="unreadable"),
        pytest.raises(CheckpointError, match="no complete"),
    ):
        checkpoints.load_config(folder.parent)


def test_a_pipe_is_not_waited_for(folder):
    for name in ("config.json", "manifest.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        assert manifest.missing_part(folder).startswith("no ")


@pytest.mark.parametrize("name", ["config.json", "metadata.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "null", "\x00"])
def test_sealed_json_of_something_else_is_refused(folder, name, text):
    rewrite(folder, name, text)
    assert any(name in line for line in refusals(folder))


@pytest.mark.parametrize(
    "leaf",
    [
        {"shape": [10**9, 10**9], "dtype": "float32"}, {"shape": [-1], "dtype": "float32"},
        {"shape": "ab", "dtype": "float32"}, {"shape": [2], "dtype": "object_"}, {"shape": [2]}, None, [1],
        {"shape": [True], "dtype": "int8"}, {"shape": [2], "dtype": ["f4"]}, {"shape": [[2]], "dtype": "f4"},
    ],
)  # fmt: skip
def test_leaves_that_claim_anything_are_refused(folder, leaf):
    metadata = json.loads((folder / "metadata.json").read_text())
    rewrite(folder, "metadata.json", metadata | {"leaves": {"w": leaf}})
    assert len(refusals(folder)) >= 2


def test_names_of_steps_are_plain_numbers(folder):
    for name in ("٣", "9" * 200, "1e3", "-2"):
        (folder.parent / name).mkdir()
    assert checkpoints.latest_step(folder.parent) == 1
