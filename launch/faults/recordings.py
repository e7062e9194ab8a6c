"""Recordings, and packed episodes beside them, as a reader of what others wrote."""

import json
import lzma
import struct
from pathlib import Path
from random import Random

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

import collect
from collect import dataset, export, store
from collect.validate import validate
from launch.export import name_of, unpacked, write_first
from launch.faults import spoil
from launch.faults.digests import digest
from launch.faults.fuzz import Reader
from wm.sector import airport

DATA = Path(collect.__file__).parent / "data"
STEPS = 6  # of the recorded episode


def prepare(folder: Path) -> None:
    """The first decisions of a shipped hour, recorded and packed."""
    write_first(STEPS, DATA / "shipped" / "test", folder)
    (folder / ".lock").unlink()
    (record,) = store.read_records(store.shards(folder)[0])
    example = store.parse_record(record, store.open_directory(folder))
    export.write(example, folder / f"packed{export.SUFFIX}")


def spoil_one(folder: Path, draw: Random) -> tuple[str, bool]:
    """Bytes of any file, JSON beside the records, what a record says, or what lies in a file's place."""
    way = draw.choice(("file", "file", "entry", "record", "record", "metadata", "packed"))
    (shard,) = folder.glob("*array_record*")
    if way == "record":
        return _rewrite_record(shard, _spoil_features, draw), False
    if way == "metadata":
        return _rewrite_record(shard, _spoil_metadata, draw), False
    if way == "packed":
        return _spoil_packed(folder / f"packed{export.SUFFIX}", draw), False
    file = draw.choice(sorted(folder.iterdir()))
    if way == "entry":
        return spoil.spoil_entry(file, draw), False
    what = spoil.spoil_file(file, draw)
    return what, file == shard


def _rewrite_record(shard: Path, change, draw: Random) -> str:
    (record,) = store.read_records(shard)
    example = tf_example_pb2.Example.FromString(record)
    what = change(example.features.feature, draw)
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    writer.write(example.SerializeToString())
    writer.close()
    return f"record: {what}"


def _spoil_features(features, draw: Random) -> str:
    name = draw.choice(sorted(features))
    column = features[name]
    kind = column.WhichOneof("kind")
    values = getattr(column, kind).value
    way = draw.choice(("lost", "empty", "cut", "longer", "value", "type", "bomb"))
    if way == "lost":
        del features[name]
    elif way == "empty":
        del values[:]
    elif way == "cut":
        del values[len(values) // 2 :]
    elif way == "longer":
        values.extend(values[:])
    elif way == "bomb":  # some kilobytes on the disk
        column.bytes_list.value.append(bytes(2**27))
    elif way == "type":
        other = {"bytes_list": "int64_list", "int64_list": "float_list", "float_list": "bytes_list"}[kind]
        values = getattr(column, other).value
        values.extend([b"x"] * 3 if other == "bytes_list" else [1] * 3)
    elif values:
        numbers = {
            "float_list": (float("nan"), float("inf"), 1e30, -1),
            "int64_list": (-(2**63), 2**40, -7, 99),
        }
        texts = (b"\xff\xfe", b"", b"[" * 10**5, b'{"a":1}', b"null")
        values[draw.randrange(len(values))] = draw.choice(numbers.get(kind, texts))
    return f"{name}: {way}"


def _spoil_metadata(features, draw: Random) -> str:
    name = draw.choice(("about", "static", "routes", "callsigns", "key"))
    texts = features[f"episode_metadata/{name}"].bytes_list.value
    what, text = spoil.spoil_json(json.loads(texts[0]), draw)
    texts[0] = text.encode(errors="surrogatepass")
    return f"{name}: {what}"


def _spoil_packed(path: Path, draw: Random) -> str:
    """The layout at the beginning of a packed episode, or more bytes than it says."""
    raw = path.read_bytes()
    whole = lzma.decompress(raw[len(export.MAGIC) :])
    (size,) = struct.unpack("<I", whole[:4])
    what, text = spoil.spoil_json(json.loads(whole[4 : 4 + size]), draw)
    head = text.encode(errors="surrogatepass")
    claim = draw.choice((len(head), len(head), len(head), 2**32 - 1, 0))
    body = whole[4 + size :] if draw.random() < 0.8 else bytes(2**28)
    spoilt = lzma.compress(struct.pack("<I", claim) + head + body, preset=0)
    path.write_bytes(export.MAGIC + spoilt)
    return f"packed: {what}, {claim} bytes of layout, {len(body)} of data"


def read(folder: Path) -> set[str]:
    """Load, validate, list and unpack; the airports' tables too, which whoever learns from them makes."""
    packed = folder / f"packed{export.SUFFIX}"
    seen = []
    if export.find(folder):
        seen.append(unpacked(export.read(packed), packed))
    for directory in store.find_directories(folder):
        builder = store.open_directory(directory)
        for shard in store.shards(directory):
            examples = [store.parse_record(record, builder) for record in store.read_records(shard)]
            seen += [name_of(example["episode_metadata"]) for example in examples]
    *_, report = validate(folder)
    keys = sorted(store.stored_keys(store.written_directories(folder)))
    for episode in dataset.load(folder, "test"):
        seen += [episode, airport.from_static(episode.static, episode.routes)]
    return {digest([seen, keys, report.episodes, [f.text for f in report.findings]])}


READER = Reader("recordings", prepare, spoil_one, read, (store.DataError,))
