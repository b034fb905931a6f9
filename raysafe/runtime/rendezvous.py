"""Where processes find each other to form a process group: a TCPStore on one node's address and a free port."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True)
class Meeting:
    """The meeting point of `ends` processes."""

    host: str
    port: int
    ends: int


def open_store(ends: int, timeout_s: float) -> tuple[Any, Meeting]:
    """The store, in the process that opens it, and where the others reach it.

    It listens on the node's address in the cluster alone; by itself a TCPStore listens on every interface.
    """
    import ray

    host = ray.util.get_node_ip_address()
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = _store(host, port, ends, timeout_s, is_master=True, master_listen_fd=listener.detach())
    return store, Meeting(host, port, ends)


def join_store(meeting: Meeting, timeout_s: float) -> Any:
    """The store that another process opened; raises a torch DistError where it can't be reached."""
    return _store(meeting.host, meeting.port, meeting.ends, timeout_s, is_master=False)


def _store(host: str, port: int, ends: int, timeout_s: float, **options: Any) -> Any:
    import torch.distributed as dist

    return dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        host, port, ends, wait_for_workers=False, timeout=timedelta(seconds=timeout_s), **options
    )
