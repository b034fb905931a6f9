"""Content digests: the identity of models and data, so that evidence and approvals can't drift to other bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from raysafe.errors import StorageError

_CHUNK_BYTES = 1 << 20


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_digest(path: str | Path) -> str:
    """sha256 over the sorted relative names and contents of a folder's files, as hex; raises StorageError."""
    root = Path(path)
    if not root.is_dir():
        raise StorageError(f"{root} is not a folder; give a model folder or a finished run")
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()
