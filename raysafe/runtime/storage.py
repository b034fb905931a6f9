"""Files behind any pyarrow filesystem URI: whole-file atomic writes, reads, folder copies."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import ArrowException, fs

from raysafe.errors import StorageError


def resolve(uri: str | Path) -> tuple[fs.FileSystem, str]:
    """Filesystem and path of a local folder or URI (`s3://`, `gs://`, `hdfs://`, `file://`); raises StorageError."""
    text = str(uri)
    if "://" not in text:
        return fs.LocalFileSystem(), str(Path(text).expanduser().absolute())
    try:
        return fs.FileSystem.from_uri(text)
    except (ArrowException, ValueError, OSError) as error:
        raise StorageError(f"can't open storage '{text}': {error}") from None


class Folder:
    """One folder on a pyarrow filesystem. Every write replaces a whole file at once, so a reader never sees half."""

    def __init__(self, uri: str | Path) -> None:
        self.fs, self.path = resolve(uri)
        self.uri = str(uri) if "://" in str(uri) else self.path

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, fs.LocalFileSystem)

    def local_path(self, name: str = "") -> Path:
        """The folder (or a file in it) as a local path; raises StorageError where the storage is remote."""
        if not self.is_local:
            raise StorageError(f"{self.uri} is not on this machine's disk")
        return Path(self.path, name)

    def join(self, name: str) -> str:
        return f"{self.uri.rstrip('/')}/{name}"

    def exists(self, name: str = "") -> bool:
        with self.told(name):
            return self.fs.get_file_info(self._at(name)).type != fs.FileType.NotFound

    def create(self) -> None:
        """Make the folder; raises StorageError where none can be."""
        with self.told():
            self._make(self.path)

    def write(self, name: str, content: bytes | str) -> None:
        """Replace `name` atomically; raises StorageError on a full disk or missing permission."""
        data = content.encode() if isinstance(content, str) else content
        target = self._at(name)
        with self.told(name):
            self._make(os.path.dirname(target))
            # an object store's put is atomic by itself; a local file is written beside and renamed
            temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp" if self.is_local else target
            try:
                with self.fs.open_output_stream(temporary) as stream:
                    stream.write(data)
                if temporary != target:
                    self.fs.move(temporary, target)
            except OSError:
                if temporary != target and self.fs.get_file_info(temporary).type != fs.FileType.NotFound:
                    self.fs.delete_file(temporary)
                raise

    def read(self, name: str) -> bytes:
        with self.told(name), self.fs.open_input_stream(self._at(name)) as stream:
            return stream.read()

    def remove(self, name: str) -> None:
        """Delete a file or a whole folder; what isn't there is gone already."""
        with self.told(name):
            kind = self.fs.get_file_info(self._at(name)).type
            if kind == fs.FileType.Directory:
                self.fs.delete_dir(self._at(name))
            elif kind == fs.FileType.File:
                self.fs.delete_file(self._at(name))

    def list(self, name: str = "") -> list[str]:
        """Names in the folder, or in one inside it, sorted; none where it doesn't exist."""
        selector = fs.FileSelector(self._at(name), allow_not_found=True)
        with self.told(name):
            return sorted(info.base_name for info in self.fs.get_file_info(selector))

    def upload(self, local: str | Path, name: str) -> None:
        """Copy a local folder to `name` here; a complete copy replaces an old one at once on a local disk."""
        target = self._at(name)
        with self.told(name):
            temporary = f"{target}.{uuid.uuid4().hex[:8]}.tmp" if self.is_local else target
            self._make(temporary)
            fs.copy_files(str(local), temporary, destination_filesystem=self.fs)
            if temporary != target:
                if self.exists(name):
                    self.fs.delete_dir(target)
                self.fs.move(temporary, target)

    def download(self, name: str, local: str | Path) -> None:
        with self.told(name):
            Path(local).mkdir(parents=True, exist_ok=True)
            fs.copy_files(self._at(name), str(local), source_filesystem=self.fs)

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _make(self, path: str) -> None:
        try:
            self.fs.create_dir(path, recursive=True)
        except OSError as error:
            # other numbers say what is wrong with the disk, not with the name
            if error.errno not in (errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL):
                raise
            reason = os.strerror(error.errno)
            raise StorageError(f"can't make {path} ({reason}): give a folder that can be made: --storage") from error

    @contextmanager
    def told(self, name: str = "") -> Iterator[None]:
        """Turn an operating system error into a sentence that names the place and the remedy."""
        where = self.join(name) if name else self.uri
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                then = f": raysafe runs resume {self.uri}" if self.exists("config.yaml") else " try again"
                raise StorageError(f"the disk that holds {where} is full: free some space, then{then}") from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StorageError(f"no permission to write or read {where}: choose another --storage") from error
            if error.errno == errno.ENOTDIR:
                raise StorageError(
                    f"{where} is not a folder: give one that is, or that can be made: --storage"
                ) from error
            raise StorageError(f"can't use {where}: {error}") from error
