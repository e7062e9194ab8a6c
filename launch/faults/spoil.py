"""Ways to spoil an input: bytes, JSON and entries of a folder. All follow from a `random.Random`.

Each function returns what it did, in a few words, beside the spoilt value.
"""

import contextlib
import copy
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

DEEP = "@deep@"  # stands for a list in a list in a list ..., which json.dumps could not write
DEPTH = 100_000
NAMES = (
    "../../../../etc/passwd", "/etc/passwd", "..", "", "a/../../b", "__proto__", "constructor", "__class__",
    "this.Zen", "os.system", "\x00", "\ud800", "x" * 10_000, "/dev/zero", "{0.__class__}", "%s%n", "a\nb",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 255, 10**9, -(10**9), 2**31, 2**63, 2**64, 10**18, 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [[]], [None], {"__proto__": {"x": 1}}, [0] * 10_000, DEEP)


# Bytes


def _flip(data: bytearray, draw: Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _truncate(data: bytearray, draw: Random) -> None:
    del data[draw.randrange(len(data)) :]


def _overwrite(data: bytearray, draw: Random, fill: Callable[[int], bytes]) -> None:
    begin, size = draw.randrange(len(data)), draw.choice((1, 4, 8, 64, 4096))
    size = min(size, len(data) - begin)
    data[begin : begin + size] = fill(size)


def _insert(data: bytearray, draw: Random) -> None:
    begin = draw.randrange(len(data))
    data[begin:begin] = draw.randbytes(draw.choice((1, 8, 1000)))


def _splice(data: bytearray, draw: Random) -> None:
    """A piece of the input over another place of it."""
    begin, source = draw.randrange(len(data)), draw.randrange(len(data))
    piece = data[source : source + draw.choice((8, 100, 5000))]
    data[begin : begin + len(piece)] = piece


BYTES = {
    "flipped": _flip,
    "cut short": _truncate,
    "ones": lambda data, draw: _overwrite(data, draw, lambda n: b"\xff" * n),
    "zeros": lambda data, draw: _overwrite(data, draw, bytes),
    "noise": lambda data, draw: _overwrite(data, draw, draw.randbytes),
    "inserted": _insert,
    "spliced": _splice,
    "twice": lambda data, draw: data.extend(bytes(data)),
    "first 64 bytes": lambda data, draw: data.__setitem__(slice(0, 64), draw.randbytes(64)),
    "empty": lambda data, draw: data.clear(),
    "another file": lambda data, draw: data.__setitem__(slice(None), draw.randbytes(len(data))),
}


def spoil_bytes(data: bytes, draw: Random) -> tuple[str, bytes]:
    """`data` with bytes changed, lost or added."""
    name = draw.choice([*BYTES] if data else ["empty"])
    spoilt = bytearray(data)
    BYTES[name](spoilt, draw)
    return name, bytes(spoilt)


# JSON


def spoil_json(value: Any, draw: Random) -> tuple[str, str]:
    """The text of `value` with one to three of its parts replaced, lost, renamed or moved."""
    tree, done = json.loads(json.dumps(value)), []
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            tree = copy.deepcopy(draw.choice(OTHERS))
            done.append("another whole")
            continue
        holder, key = draw.choice(places)
        done.append(_spoil_part(holder, key, draw))
    text = json.dumps(tree).replace(f'"{DEEP}"', "[" * DEPTH + "]" * DEPTH)
    return ", ".join(done), text


def _places(tree: Any):
    """Every (dictionary or list, key) below a value."""
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])


def _spoil_part(holder: dict | list, key: Any, draw: Random) -> str:
    way = draw.choice(("lost", "another key", "name", "number", "type", "text", "in a list", "twice"))
    before = holder[key]
    if way == "lost" and isinstance(holder, dict):
        del holder[key]
    elif way == "another key" and isinstance(holder, dict):
        holder[draw.choice(NAMES)] = holder.pop(key)
    elif way == "name":
        holder[key] = draw.choice(NAMES)
    elif way == "number":
        holder[key] = draw.choice(NUMBERS)
    elif way == "in a list":
        holder[key] = [before]
    elif way == "twice" and isinstance(before, list):
        holder[key] = before + before
    elif way == "text":
        holder[key] = json.dumps(before)[:10_000]
    else:
        way = "type"
        holder[key] = copy.deepcopy(draw.choice(OTHERS))
    return f"{str(key)[:30]!r}: {way}"


# Folders


def _away(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _link(target: str) -> Callable[[Path, Random], None]:
    def replace(path: Path, draw: Random) -> None:
        _away(path)
        path.symlink_to(target.replace("{name}", path.name))

    return replace


def _pipe(path: Path, draw: Random) -> None:
    _away(path)
    os.mkfifo(path)


def _folder(path: Path, draw: Random) -> None:
    _away(path)
    path.mkdir()


ENTRIES = {
    "lost": lambda path, draw: _away(path),
    "a folder": _folder,
    "a pipe": _pipe,
    "a link to nothing": _link("/nowhere/at/all"),
    "a link to itself": _link("{name}"),
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /etc/passwd": _link("/etc/passwd"),
    "renamed": lambda path, draw: path.rename(path.with_name(f"{draw.choice(('x', '٣', '..x', '9' * 40))}")),
}


def spoil_entry(path: Path, draw: Random) -> str:
    """Put something else, or nothing, in a file's place."""
    name = draw.choice([*ENTRIES])
    ENTRIES[name](path, draw)
    return f"{path.name}: {name}"


def spoil_file(path: Path, draw: Random) -> str:
    """Spoil a file's bytes or, where it is JSON and half of the time, what it says."""
    data = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.6:
        what, text = spoil_json(json.loads(data), draw)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    else:
        what, data = spoil_bytes(data, draw)
        path.write_bytes(data)
    return f"{path.name}: {what}"


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write beyond `size` bytes, as a full disk does."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
