"""Where anchors are kept: small files in a local folder or on any pyarrow filesystem, each written once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from raysafe.errors import StorageError

if TYPE_CHECKING:
    from pyarrow import fs


class Place(Protocol):
    """Names are `file` or `folder/file`. Every method raises StorageError where the place can't be used."""

    def read(self, name: str) -> bytes | None: ...

    def create(self, name: str, content: bytes) -> bool:
        """False, and nothing is written, where the name is taken."""
        ...

    def list(self, folder: str = "") -> list[tuple[str, bool]]:
        """Names in a folder, sorted, and whether each is a folder."""
        ...


def open_place(uri: str) -> Place:
    """The place behind a local folder or URI; raises StorageError."""
    if "://" not in uri:
        return LocalPlace(Path(uri).expanduser().absolute())
    from pyarrow import ArrowException, fs

    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ArrowException, ValueError, OSError) as error:
        raise StorageError(f"can't open the anchors at {uri}: {error}") from None
    return LocalPlace(Path(path)) if isinstance(filesystem, fs.LocalFileSystem) else RemotePlace(filesystem, path)


class LocalPlace:
    """A folder on this machine. A file appears whole and durable, or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes | None:
        with _told(self.root):
            try:
                return (self.root / name).read_bytes()
            except FileNotFoundError:
                return None

    def create(self, name: str, content: bytes) -> bool:
        target = self.root / name
        temporary = target.with_name(f".{uuid4().hex}")
        with _told(self.root):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def list(self, folder: str = "") -> list[tuple[str, bool]]:
        with _told(self.root):
            try:
                found = [(entry.name, entry.is_dir()) for entry in os.scandir(self.root / folder)]
            except FileNotFoundError:
                return []
        return sorted(item for item in found if not item[0].startswith("."))


class RemotePlace:
    """An object store or a distributed filesystem; what refuses to replace an object is the store's own retention."""

    def __init__(self, filesystem: fs.FileSystem, path: str) -> None:
        self.fs, self.path = filesystem, path

    def read(self, name: str) -> bytes | None:
        with _told(self.path):
            try:
                with self.fs.open_input_stream(f"{self.path}/{name}") as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def create(self, name: str, content: bytes) -> bool:
        target = f"{self.path}/{name}"
        with _told(self.path):
            if self.fs.get_file_info(target).is_file:
                return False
            self.fs.create_dir(os.path.dirname(target), recursive=True)
            with self.fs.open_output_stream(target) as stream:
                stream.write(content)
        return True

    def list(self, folder: str = "") -> list[tuple[str, bool]]:
        from pyarrow import fs

        selector = fs.FileSelector(f"{self.path}/{folder}".rstrip("/"), allow_not_found=True)
        with _told(self.path):
            return sorted((i.base_name, i.type == fs.FileType.Directory) for i in self.fs.get_file_info(selector))


@contextmanager
def _told(where: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"can't use the anchors at {where}: {error.strerror or error}") from error
