"""Arrow tables kept on disk by the content they were made from."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from raysafe.errors import StorageError


def default_folder() -> Path:
    """RAYSAFE_CACHE, or raysafe/ in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("RAYSAFE_CACHE") or Path(base, "raysafe"))


def cache_key(table: pa.Table, *parts: str) -> str:
    """sha256 over a table's columns and values, not its metadata, and further strings."""
    table = table.replace_schema_metadata(None)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    digest.update(sink.getvalue())
    return digest.hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end of the block, or is gone where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


class TableCache:
    """Files `<key>.arrow` in one folder; written whole, then memory-mapped."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def get(self, key: str, make: Callable[[], pa.Table]) -> pa.Table:
        """The table kept under `key`, or that of `make()`, which is then kept; raises StorageError.

        A file that isn't whole, as a power cut may leave one, is made again.
        """
        kept = self.find(key)
        if kept is None:
            self.keep(key, make())
            kept = self.find(key)
        if kept is None:
            path = self.folder / f"{key}.arrow"
            raise StorageError(f"what was written to {path} can't be read back: set RAYSAFE_CACHE to another disk")
        return kept

    def find(self, key: str) -> pa.Table | None:
        """The whole table kept under `key`, if there is one."""
        path = self.folder / f"{key}.arrow"
        try:
            with pa.memory_map(str(path)) as source:
                return pa.ipc.open_file(source).read_all()
        except (FileNotFoundError, pa.ArrowInvalid):
            return None
        except OSError as error:
            raise self._unusable(error) from None

    def keep(self, key: str, table: pa.Table) -> None:
        """Write a table whole, or not at all; raises StorageError."""
        try:
            with (
                written_whole(self.folder / f"{key}.arrow") as path,
                pa.OSFile(str(path), "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as writer,
            ):
                writer.write_table(table)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> StorageError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return StorageError(
            f"can't use the cache {self.folder} ({reason}): make room or set RAYSAFE_CACHE to another folder"
        )
