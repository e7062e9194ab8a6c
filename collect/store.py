"""Recordings on disk: RLDS in TFDS format, array_record files, no TensorFlow.

One episode is one record in one file; a directory has one writer, and readers join directories:

    source = tfds.builder_from_directories(directories).as_data_source("train")
    for step in source[0]["steps"]: ...          # as any RLDS data set; dataset.load is much faster

Step t holds the observation at its start, the action taken and what came of it; the last step has
the final observation and a no-op. Aircraft keep one of 128 columns (of 64 in recordings made before
there were that many) from spawn to removal; values are rounded on writing (layout.STEPS), times and
integers are exact.
"""

import errno
import functools
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from google.protobuf.message import DecodeError
from tensorflow_datasets.core import example_parser, sequential_writer
from tensorflow_datasets.proto import tf_example_pb2

from collect.layout import features, signature
from collect.slots import COLUMNS
from wm.store import listing, lock

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
METADATA_PREFIX = ".metadata-"  # of the folders in which new metadata is prepared
INFO = "dataset_info.json"  # the file that makes a directory a data set
FEATURES = "features.json"
METADATA_FILES = (FEATURES, "metadata.json", INFO)  # in the order in which they are written
# The classes that metadata may name: TFDS loads the module of whatever it finds there.
PLAIN = "tensorflow_datasets.core.features."
FEATURE_CLASSES = {
    None,
    *(
        f"{PLAIN}{name}"
        for name in ("features_dict.FeaturesDict", "dataset_feature.Dataset", "scalar.Scalar")
    ),
    *(f"{PLAIN}{name}" for name in ("text_feature.Text", "tensor_feature.Tensor", "image_feature.Image")),
}
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
# Bytes of a record, and how much more it is than its file:
# an hour without commands has 94 times its file, 24 MB.
LARGEST_RECORD, UNSUSPECTED, MOST_PACKED = 2**30, 2**26, 500
NAME, VERSION, SPLIT = "openscope", "1.0.0", "train"
COLLECTOR_VERSION = 2  # raised when the same seed and policy would be recorded differently


class DataError(ValueError):
    """A data set is not what it should be; one line that says where, and what would help."""


class EpisodeWriter(sequential_writer.SequentialWriter):
    """Appends episodes to one directory; an episode is stored once `write` has returned.

    A killed writer loses at most the episode it was writing, and so does a full disk (OSError). Raises
    DataError for a directory that holds something else or that another process writes into.
    """

    def __init__(
        self,
        directory: Path | str,
        picture_px: int | None = None,
        pictures: int = 1,
        columns: int = COLUMNS,
    ):
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = hold(directory)
        self._turn = threading.Lock()  # pages of one process write one after the other
        try:
            self._begin(directory, features(picture_px, pictures, columns))
        except BaseException:
            self.close()
            raise

    def _begin(self, directory: Path, wanted) -> None:
        for leftover in directory.glob(f"{METADATA_PREFIX}*"):
            shutil.rmtree(leftover)
        if (directory / INFO).exists():
            found = open_directory(directory).info.features
            if signature(found) != signature(wanted):
                raise DataError(
                    f"{directory} holds recordings of another layout (schema, pictures or number of "
                    "aircraft): record into a new directory"
                )
        identity = tfds.core.dataset_info.DatasetIdentity(
            name=NAME, version=tfds.core.Version(VERSION), data_dir=str(directory), module_name=""
        )
        info = tfds.core.DatasetInfo(
            builder=identity, features=wanted, description="Episodes of the real openScope."
        )
        super().__init__(info, max_examples_per_shard=1, overwrite=False, file_format="array_record")
        self.initialize_splits([SPLIT], fail_if_exists=False)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """Let others write into the directory."""
        self._lock.close()

    def write(self, example: dict) -> None:
        """Store one episode, given as `features` say."""
        with self._turn:
            self._write(example)

    def _write(self, example: dict) -> None:
        split = self._splits[SPLIT]
        path = split.info.filename_template.sharded_filepath(
            shard_index=split.complete_shards, num_shards=None
        )
        lengths, count = split.info, split.complete_shards
        try:
            self._serialize_into(split, example)
            _check_stored(str(path))
            _sync(str(path))
            self._write_splits_metadata()
        except BaseException:
            # Forget the file: the metadata never names it, and the next episode overwrites it.
            split.info, split.complete_shards, split.current_shard = lengths, count, None
            raise

    def _serialize_into(self, split, example: dict) -> None:
        try:
            encoded = self._ds_info.features.encode_example(example)
            serialized = self._serializer.serialize_example(encoded)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                f"the episode does not fit the layout of {self._data_dir} ({reason_of(error)})"
            ) from None
        try:
            split.add_example(serialized)
            split.close_shard()
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(errno.EIO, f"the episode could not be written ({error})") from None

    def _write_splits_metadata(self) -> None:
        """Replace the metadata files whole; dataset_info.json, the last, is what counts."""
        self._ds_info.set_splits(sequential_writer._split_dict(self._splits))
        with tempfile.TemporaryDirectory(dir=self._data_dir, prefix=METADATA_PREFIX) as folder:
            self._ds_info.write_to_directory(folder)
            for name in METADATA_FILES:
                part = os.path.join(folder, name)
                if os.path.exists(part):
                    _sync(part)
                    os.replace(part, os.path.join(self._data_dir, name))
        _sync(str(self._data_dir))


def hold(directory: Path | str) -> TextIO:
    """Make a directory this process's until the returned file is closed; DataError where it is another's."""
    try:
        return lock.hold(directory)
    except lock.FolderBusy:
        raise DataError(
            f"another process is recording into {directory}: wait for it, or choose another"
        ) from None


def wait_until_free(directory: Path | str, patience_s: float) -> None:
    """Wait until nobody writes into a directory; raises DataError after `patience_s` seconds.

    The worker of a killed recorder ends within a decision, but may first finish storing an episode.
    Nobody writes into a directory that is read-only.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return hold(directory).close()
        except DataError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            return None


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not os.path.isdir(path) or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise  # some file systems write folders by themselves and refuse to be asked
    finally:
        os.close(descriptor)


def _check_stored(path: str) -> None:
    """Raise OSError unless the file at `path` gives back one whole record."""
    try:
        records = read_records(path)
    except DataError as error:
        raise OSError(errno.ENOSPC, f"{error}; is the disk full?") from None
    if len(records) != 1:
        raise OSError(errno.EIO, f"{path} holds {len(records)} records instead of one")


def read_records(path: Path | str) -> list[bytes]:
    """The records of one array_record file; raises DataError where it is torn, or no file at all."""
    if not Path(path).is_file():  # a pipe would never answer, a device never end
        raise DataError(f"{path} is missing or no file: record it again")
    _check_size(Path(path))
    try:
        reader = ArrayRecordReader(str(path))
        try:
            return list(reader.read_all())
        finally:
            reader.close()
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is torn or no array_record file ({error})") from None


def _check_size(path: Path) -> None:
    """Raise DataError where a file's record would take far more memory than any episode does.

    The first record's size stands in the header of its chunk, 40 bytes behind the 64 of the file's own
    (https://github.com/google/riegeli/blob/master/doc/riegeli_records_file_format.md).
    """
    with open(path, "rb") as file:
        header = file.read(104)
    claimed, size = int.from_bytes(header[96:], "little"), path.stat().st_size
    if claimed > LARGEST_RECORD or claimed > max(UNSUSPECTED, MOST_PACKED * size):
        raise DataError(
            f"{path} announces {claimed:,} bytes in a file of {size:,}: no episode does; record it again"
        )


def open_directory(directory: Path | str):
    """The TFDS builder of one directory; raises DataError for anything but our recordings."""
    directory = Path(directory)
    if not os.path.lexists(directory / INFO):
        raise DataError(f"{directory} holds no recordings: give the directory of a recorder's --out")
    try:
        _check_metadata(directory)
        builder = tfds.builder_from_directory(str(directory))
        name, kinds = builder.info.name, set(builder.info.features)
        paths = [path for split in builder.info.splits.values() for path in split.filepaths]
    except Exception as error:  # TFDS raises many types for damaged metadata
        raise DataError(
            f"{directory} has unreadable metadata ({reason_of(error)}): remove or record it again"
        ) from None
    if name != NAME or "steps" not in kinds:
        raise DataError(f"{directory} is the data set {name!r}, not recordings of openScope")
    if outside := next((path for path in paths if Path(path).parent != directory), None):
        raise DataError(
            f"{directory} names {str(outside)!r} as one of its files, which is not in it: record it again"
        )
    return builder


def reason_of(error: Exception) -> str:
    """The beginning of an error's message, in one line; its class where it has none."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _check_metadata(directory: Path) -> None:
    """Raise ValueError where TFDS would wait for a pipe, or load a module because the metadata names it."""
    for name in METADATA_FILES:
        if os.path.lexists(directory / name) and not (directory / name).is_file():
            raise ValueError(f"{name} is no file")
    if not (directory / FEATURES).exists():
        raise ValueError(f"{FEATURES} is missing")
    waiting = [json.loads((directory / FEATURES).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        for key in CLASS_KEYS if isinstance(node, dict) else ():
            name = node.get(key)
            if not isinstance(name, dict) and name not in FEATURE_CLASSES:  # a feature may be called type
                raise ValueError(f"{FEATURES} names the class {str(name)[:60]!r}, which no recording has")


def written_directories(root: Path | str) -> list[Path]:
    """Directories at or below `root` that a writer has begun, in order.

    What is hidden is passed over: metadata that a killed writer left half done, and what other systems put
    beside files. So are other data sets below `root`, which are named once.
    """
    root, found = Path(root), []
    for name, below, files in os.walk(root):
        below[:] = [folder for folder in below if not folder.startswith(".")]
        folder = Path(name)
        if INFO not in files:
            continue
        if folder == root or _name_of(folder) in (NAME, None):
            found.append(folder)
        else:
            say_once(f"{folder} is the data set {_name_of(folder)!r}: passed over")
    return sorted(found, key=listing.natural)


def _name_of(directory: Path) -> str | None:
    """The name of a data set; None where its metadata cannot be read."""
    try:
        if (directory / INFO).is_file():
            return json.loads((directory / INFO).read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


@functools.cache
def say_once(text: str) -> None:
    """Print a note for the user, the first time only."""
    print(f"note: {text}", file=sys.stderr)


def find_directories(root: Path | str) -> list[Path]:
    """All recording directories at or below `root`, in order; raises DataError where there are none."""
    found = written_directories(root)
    if not found:
        raise DataError(f"{root} holds no recordings: record some with `python -m launch.record`")
    return found


def shards(directory: Path | str) -> list[Path]:
    """The files of the episodes that a directory's metadata names, in order."""
    splits = open_directory(directory).info.splits
    return [Path(path) for path in splits[SPLIT].filepaths] if SPLIT in splits else []


@functools.cache
def _parser(features_json: str) -> example_parser.ExampleParserNp:
    features = tfds.features.FeatureConnector.from_json(json.loads(features_json))
    return example_parser.ExampleParserNp(features.get_serialized_info())


def parse_record(record: bytes, builder) -> dict:
    """The columns of one record: {"steps": {...}, "episode_metadata": {...}}, over time.

    Raises DataError where it isn't what the metadata says.
    """
    try:
        return _parser(json.dumps(builder.info.features.to_json())).parse_example(record)
    except Exception as error:  # TFDS and protocol buffers raise many types
        raise DataError(
            f"a record in {builder.data_dir} is not what its metadata says ({reason_of(error)}): record "
            "it again"
        ) from None


def stored_keys(directories: Iterable[Path | str]) -> set[str]:
    """Keys of all episodes stored in `directories`."""
    keys = set()
    for directory in directories:
        for path in shards(directory):
            for record in read_records(path):
                try:
                    found = tf_example_pb2.Example.FromString(record).features.feature
                    keys.add(found["episode_metadata/key"].bytes_list.value[0].decode())
                except (DecodeError, IndexError, ValueError) as error:
                    raise DataError(f"{path} has no key ({reason_of(error)}): record it again") from None
    return keys
