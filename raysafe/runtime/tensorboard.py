"""TensorBoard's event file of one fit(), with tensorboardX's messages but without its writer thread.

That thread dies with a traceback where the disk refuses a byte, and again at the end; here the caller gets the OSError.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import scalar

FLUSH_INTERVAL_S = 10.0


class EventFile:
    """A new file in `folder`. Every method may raise OSError; after one the file is not to be used further."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._buffer = record(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        self.flush()

    def add(self, step: int, row: dict[str, Any]) -> None:
        """The figures of a step, written every few seconds and at `flush`."""
        values = [value for name, figure in row.items() for value in scalar(name, figure).value]
        self._buffer += record(
            Event(wall_time=time.time(), step=step, summary=Summary(value=values)).SerializeToString()
        )
        if time.monotonic() - self._flushed_at > FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        with self.path.open("ab") as file:
            file.write(self._buffer)
        self._buffer, self._flushed_at = b"", time.monotonic()


def record(data: bytes) -> bytes:
    """TFRecord framing: length, its checksum, data, its checksum."""
    header = struct.pack("<Q", len(data))
    checks = [struct.pack("<I", masked_crc32c(part)) for part in (header, data)]
    return header + checks[0] + data + checks[1]
