"""Pictures of a trajectory, read from below one folder and from nowhere else: no link is followed on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from raysafe.errors import DataError

FRAME_BYTES = 16 << 20
MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class Frame(NamedTuple):
    """A picture's bytes, and its type by what they begin with."""

    content: bytes
    media_type: str


def read_frame(folder: Path, name: str) -> Frame:
    """The picture `name`, a path relative to `folder`; raises DataError where it isn't a PNG or JPEG file inside."""
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or PurePosixPath(name).is_absolute() or ".." in parts:
        raise DataError(f"frame {name[:200]!r} must be a path below the folder of the items' file")
    try:
        content = _read(folder, parts)
    except OSError as error:
        raise DataError(
            f"can't read frame {name[:200]!r} ({error.strerror}): it must be a file below the folder of the items' "
            "file, with no link on the way"
        ) from None
    if content is None or len(content) > FRAME_BYTES:
        raise DataError(f"frame {name[:200]!r} must be a file of at most {FRAME_BYTES >> 20} MiB")
    media_type = next((kind for magic, kind in MAGIC.items() if content.startswith(magic)), None)
    if media_type is None:
        raise DataError(f"frame {name[:200]!r} is neither PNG nor JPEG by its first bytes")
    return Frame(content, media_type)


def _read(folder: Path, parts: tuple[str, ...]) -> bytes | None:
    """The file's bytes, cut just over the limit; None where it isn't a regular file.

    Each step is opened from the one before, so that nothing can be put in a link's place between a check and its use.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = below
        # without O_NONBLOCK a named pipe would hold the reader
        descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    finally:
        os.close(place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        return file.read(FRAME_BYTES + 1)
