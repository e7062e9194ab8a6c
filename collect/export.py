"""Recordings in one small file each, to move between machines: state as it is, pictures without loss.

    write(example, path)      # an episode as it was read from a recording (store.parse_record)
    example = read(path)      # the same, bit for bit; pictures pixel for pixel

A file holds a JSON layout and blocks of bytes, compressed by LZMA. Of a picture it holds the difference of
its indices to those of the picture before, so only pictures of the recorder's palette can be exported. A file
is written whole or not at all.
"""

import json
import lzma
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from collect.pictures import palette_indices, palette_png
from collect.store import DataError, reason_of, say_once
from wm.store import listing

SUFFIX = ".episode"
MAGIC = b"openscope-episode-1\n"
# What a layout may claim: of an hour with ten pictures a decision there is a hundredth.
LARGEST, LARGEST_LAYOUT, MOST_PICTURES, LARGEST_SIDE = 2**30, 2**24, 10**6, 2**13
PRESET = 3  # a fifth of the time of the best, for a tenth more bytes


def write(example: dict, path: Path | str) -> int:
    """Write one episode, given as columns over time; returns the size in bytes.

    Raises DataError where its pictures have other colours than the palette, OSError as the disk does.
    """
    path = Path(path)
    encoded = {name: _encode(name, value) for name, value in _flat(example).items()}
    head = json.dumps({name: header for name, (header, _) in encoded.items()}).encode()
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            file.write(MAGIC)
            with lzma.LZMAFile(file, "wb", preset=PRESET) as out:
                out.write(struct.pack("<I", len(head)) + head)
                for _, parts in encoded.values():
                    for part in parts:
                        out.write(part)
            file.flush()
            os.fsync(file.fileno())
        except BaseException as error:
            os.unlink(file.name)
            if isinstance(error, OSError):
                raise OSError(error.errno, f"{error.strerror}; is the disk full?", str(path)) from None
            raise
    os.replace(file.name, path)
    return path.stat().st_size


def find(folder: Path | str) -> list[Path]:
    """The exported episodes in a folder, in order; other files are passed over, named once.

    One that is cut short at its very beginning is not another file but a damaged one.
    """
    found, others = [], []
    files = (path for path in Path(folder).glob(f"*{SUFFIX}") if path.is_file())
    for path in sorted(files, key=listing.natural):
        with open(path, "rb") as file:
            begin = file.read(len(MAGIC))
        foreign = path.name.startswith(".") or not MAGIC.startswith(begin)
        (others if foreign else found).append(path)
    if others:
        names = ", ".join(path.name for path in others[:3]) + (", ..." if len(others) > 3 else "")
        say_once(f"{folder} holds {len(others)} other files named *{SUFFIX} ({names}): passed over")
    return found


def read(path: Path | str) -> dict:
    """One episode as `write` was given it. Raises DataError for anything but its files."""
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DataError(f"{path} is no exported episode: export one with `python -m launch.export`")
        try:
            with lzma.LZMAFile(file) as source:
                (size,) = struct.unpack("<I", _exactly(source, 4))
                layout = json.loads(_exactly(source, size, LARGEST_LAYOUT))
                return _nested({name: _decode(header, source) for name, header in layout.items()})
        except Exception as error:  # of whatever kind it is that a layout of another program leads to
            raise DataError(f"{path} is damaged ({reason_of(error)}): export it again") from None


def _exactly(source: BinaryIO, size: int, largest: int = LARGEST) -> bytes:
    """So many bytes. Raises EOFError where there are fewer, ValueError for more than a layout may claim."""
    if not 0 <= size <= largest:
        raise ValueError(f"a part of {size} bytes is more than {largest}")
    data = source.read(size)
    if len(data) < size:
        raise EOFError(f"{size} bytes are announced, {len(data)} are there")
    return data


def _flat(tree: dict, prefix: str = "") -> dict:
    """Leaves by their path."""
    leaves = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}/")
        else:
            leaves[prefix + name] = value
    return leaves


def _nested(flat: dict) -> dict:
    tree: dict = {}
    for path, value in flat.items():
        *folders, name = path.split("/")
        branch = tree
        for folder in folders:
            branch = branch.setdefault(folder, {})
        branch[name] = value
    return tree


def _is_picture(name: str) -> bool:
    last = name.rsplit("/", 1)[-1]
    return last == "picture" or (last.startswith("picture_") and last.removeprefix("picture_").isdigit())


def _encode(name: str, value) -> tuple[dict, Iterable[bytes]]:
    """What the layout says of one leaf, and its bytes in parts."""
    if isinstance(value, bytes):
        return {"kind": "bytes", "bytes": len(value)}, [value]
    if isinstance(value, int | float | str):
        return {"kind": "value", "value": value}, []
    value = np.asarray(value)
    if _is_picture(name):
        side = _side(name, value)
        return {"kind": "pictures", "count": len(value), "side": side}, _picture_changes(name, value)
    if value.dtype == object:
        items = [bytes(item) for item in value.ravel()]
        lengths = [len(item) for item in items]
        return {"kind": "strings", "shape": value.shape, "lengths": lengths}, items
    header = {"kind": "array", "dtype": value.dtype.str, "shape": value.shape, "bytes": value.nbytes}
    # Bytes of equal weight side by side, because most of them hardly change from step to step.
    planes = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8).reshape(-1, value.dtype.itemsize)
    return header, [np.ascontiguousarray(planes.T).tobytes()]


def _decode(header: dict, source: BinaryIO):
    """Inverse of `_encode`, from where `source` stands."""
    kind = header["kind"]
    if kind == "value":
        return header["value"]
    if kind == "bytes":
        return _exactly(source, header["bytes"])
    if kind == "pictures":
        return _pictures(source, header["count"], header["side"])
    if kind == "strings":
        out = np.empty(len(header["lengths"]), object)
        for i, length in enumerate(header["lengths"]):
            out[i] = _exactly(source, length)
        return out.reshape(header["shape"])
    dtype = np.dtype(header["dtype"])
    planes = np.frombuffer(_exactly(source, header["bytes"]), np.uint8).reshape(dtype.itemsize, -1)
    return np.frombuffer(np.ascontiguousarray(planes.T).tobytes(), dtype).reshape(header["shape"])


def _side(name: str, pngs: np.ndarray) -> int:
    """Side of the pictures. Raises DataError where they are not of the palette."""
    return len(_indices(name, 0, pngs[0]))


def _indices(name: str, step: int, png: bytes) -> np.ndarray:
    try:
        return palette_indices(bytes(png))
    except ValueError as error:
        raise DataError(f"{name} of step {step} cannot be exported: {error}") from None


def _picture_changes(name: str, pngs: np.ndarray) -> Iterator[bytes]:
    """Each picture's indices less the last picture's, modulo 256."""
    before = np.uint8(0)
    for step, png in enumerate(pngs):
        indices = _indices(name, step, png)
        yield (indices - before).tobytes()
        before = indices


def _pictures(source: BinaryIO, count: int, side: int) -> np.ndarray:
    if not (0 <= count <= MOST_PICTURES and 0 < side <= LARGEST_SIDE):
        raise ValueError(f"{count} pictures of {side} pixels are more than {MOST_PICTURES} of {LARGEST_SIDE}")
    out = np.empty(count, object)
    indices = np.zeros((side, side), np.uint8)
    for i in range(count):
        indices = indices + np.frombuffer(_exactly(source, side * side), np.uint8).reshape(side, side)
        out[i] = palette_png(indices)
    return out
