"""Taking results out of a sandbox's folder, once nothing in it runs any more.

Every step is relative to an open folder and follows no link, so no name can lead elsewhere; only regular files with
one name are read, and no more bytes than the policy lets be written. What they hold stays bytes: nothing is unpacked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from raysafe.control.sandbox.policy import HOME
from raysafe.control.sandbox.result import Breach

MAX_DEPTH = 32
MAX_REFUSED = 100
"""Refusals that are listed: beyond these they are the same in kind."""
MAX_BREACHES = 10
"""Each is a row of the audit log: beyond these they say nothing new."""
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
KINDS = {stat.S_IFLNK: "a link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class Harvest(NamedTuple):
    """Files by path, and what was left where it is."""

    files: dict[str, bytes]
    refused: dict[str, str]
    breaches: list[Breach]


def harvest(home: int, *, most_bytes: int, given: Mapping[str, bytes]) -> Harvest:
    """The files below the folder `home` that weren't given, or were changed."""
    found = Harvest({}, {}, [])
    _Walk(found, most_bytes, given).folder(home, "", 0)
    return found


class _Walk:
    def __init__(self, found: Harvest, most_bytes: int, given: Mapping[str, bytes]) -> None:
        self._found, self._left, self._given = found, most_bytes, given

    def folder(self, folder: int, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._refuse(path, f"more than {MAX_DEPTH} folders inside each other")
            return
        for name in sorted(os.listdir(folder)):
            here = f"{path}/{name}" if path else name
            if not _plain(name):
                self._refuse(ascii(here), "a name that isn't plain text")
                continue
            try:
                self._entry(folder, name, here, depth)
            except OSError as error:
                self._refuse(here, error.strerror or "it can't be read")

    def _entry(self, folder: int, name: str, path: str, depth: int) -> None:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            inner = os.open(name, FLAGS | os.O_DIRECTORY, dir_fd=folder)
            try:
                self.folder(inner, path, depth + 1)
            finally:
                os.close(inner)
        elif not stat.S_ISREG(facts.st_mode):
            self._special(folder, name, path, facts.st_mode)
        elif facts.st_nlink != 1:
            self._refuse(path, "a file of several names")
        else:
            self._file(folder, name, path, facts)

    def _special(self, folder: int, name: str, path: str, mode: int) -> None:
        kind = KINDS.get(stat.S_IFMT(mode), "a device")
        self._refuse(path, kind)
        leads_out = kind == "a device" or (kind == "a link" and _leads_out(os.readlink(name, dir_fd=folder), path))
        if leads_out and len(self._found.breaches) < MAX_BREACHES:
            self._found.breaches.append(Breach("result", f"{path} is {kind} that leads out of the folder"))

    def _file(self, folder: int, name: str, path: str, facts: os.stat_result) -> None:
        if facts.st_size > self._left:
            self._refuse(path, f"{facts.st_size} bytes, more than are left of disk_bytes")
            return
        opened = os.open(name, FLAGS, dir_fd=folder)
        with open(opened, "rb") as file:
            now = os.fstat(opened)
            if (now.st_ino, now.st_dev) != (facts.st_ino, facts.st_dev):
                self._refuse(path, "it changed while it was read")
                return
            content = file.read(facts.st_size)
        self._left -= len(content)
        if self._given.get(path) != content:
            self._found.files[path] = content

    def _refuse(self, path: str, why: str) -> None:
        if len(self._found.refused) < MAX_REFUSED:
            self._found.refused[path] = why


def _plain(name: str) -> bool:
    """UTF-8 that shows as what it is: no control characters, no change of direction, no separator of another system."""
    return name.isprintable() and "\\" not in name


def _leads_out(target: str, path: str) -> bool:
    """Whether a link at `path`, below the sandbox's folder, points elsewhere; links on the way count by their names."""
    place = os.path.normpath(os.path.join(HOME, os.path.dirname(path), target))
    return place != HOME and not place.startswith(HOME + "/")
