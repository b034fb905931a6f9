"""One driver a run: an exclusive lock on a file, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Held(Exception):
    """Another process, or another part of this one, has the lock; the text says which."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; raises Held where it is taken, OSError where the file can't be made."""
    # Python closes it in what it starts (PEP 446): Ray's processes, which may outlive the driver, don't hold the lock
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, _, host = os.pread(descriptor, 300, 0).decode(errors="replace").strip().partition(" ")
            raise Held(f"process {pid} on {host}" if host else "another process") from None
        except OSError:
            pass  # a file system without locks
        # a full disk takes the lock, but not the name of its holder
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
