"""The proxy's end inside a sandbox: a loopback port whose connections go to the unix socket, for programs that go by
HTTPS_PROXY. It judges nothing, for what runs beside it could kill it: the proxy outside does.
"""

from __future__ import annotations

import os
import selectors
import socket

ADDRESS = "127.0.0.1"
_CHUNK = 1 << 14
_MOST_WAITING = 1 << 16
_LOOKS_UP_S = 0.5


def start(path: str, port: int) -> None:
    """Listen at a loopback port, and leave a child process to forward; returns once a program may connect."""
    listening = socket.create_server((ADDRESS, port), backlog=64)
    own = os.getpid()
    if os.fork() == 0:
        try:
            _leave_all_but(listening.fileno())
            Forwarder(listening, path).run(own)
        finally:
            os._exit(0)
    listening.close()


def _leave_all_but(kept: int) -> None:
    """Nothing of the parent's is this process's own: neither the way to the host nor the job's pipes."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1024)
    os.setsid()


class Side:
    """One end of a forwarded connection, with what waits to be written to it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end, self.waiting = end, b""
        self.other: Side = self
        self.ended = False
        """Whether nothing more comes from it."""


class Forwarder:
    """Copies bytes both ways until both sides have ended."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        listening.setblocking(False)
        self._listening, self._path = listening, path
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ, None)

    def run(self, parent: int) -> None:
        """As long as this process's parent runs."""
        while os.getppid() == parent:
            for key, _ in self._selector.select(_LOOKS_UP_S):
                if key.data is None:
                    self._accept()
                elif key.fd != -1 and key.data.end.fileno() != -1:
                    self._move(key.data)

    def _accept(self) -> None:
        try:
            near, _ = self._listening.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        # where the proxy takes no more, this one connection ends, and the others go on
        far.setblocking(False)
        try:
            far.connect(self._path)
        except OSError:
            near.close()
            far.close()
            return
        one, other = Side(near), Side(far)
        one.other, other.other = other, one
        for side in (one, other):
            self._selector.register(side.end, selectors.EVENT_READ, side)

    def _move(self, side: Side) -> None:
        """Write what waits for a side, read what it says, and wait for what it needs next."""
        try:
            if side.waiting:
                side.waiting = side.waiting[side.end.send(side.waiting) :]
            if not side.ended and len(side.other.waiting) < _MOST_WAITING:
                self._read(side)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            return self._close(side)
        for each in (side, side.other):
            if each.other.ended and not each.waiting:
                try:
                    each.end.shutdown(socket.SHUT_WR)
                except OSError:
                    return self._close(side)
        if side.ended and side.other.ended and not side.waiting and not side.other.waiting:
            return self._close(side)
        self._wait(side)
        self._wait(side.other)
        return None

    def _read(self, side: Side) -> None:
        data = side.end.recv(_CHUNK)
        if data:
            side.other.waiting += data
        else:
            side.ended = True

    def _wait(self, side: Side) -> None:
        reads = not side.ended and len(side.other.waiting) < _MOST_WAITING
        wanted = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if side.waiting else 0)
        known = side.end.fileno() in self._selector.get_map()
        if wanted and known:
            self._selector.modify(side.end, wanted, side)
        elif wanted:
            self._selector.register(side.end, wanted, side)
        elif known:
            self._selector.unregister(side.end)

    def _close(self, side: Side) -> None:
        for each in (side, side.other):
            if each.end.fileno() in self._selector.get_map():
                self._selector.unregister(each.end)
            each.end.close()
