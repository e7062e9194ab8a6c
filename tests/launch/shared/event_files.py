"""Reads TensorBoard's event files back, apart from what wrote them: lengths, then protocol buffers."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def read(run: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, numbers by name) of every event of a run's one event file, in their order."""
    (path,) = (run / "tensorboard").iterdir()
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])  # after the length and its checksum
        at += 16 + length
        if event.summary.value:
            found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return found
