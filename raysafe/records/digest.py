"""Content digests: the identity of models and data, so that evidence and approvals can't drift to other bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NoReturn

from raysafe.errors import ModelError, StorageError

_CHUNK_BYTES = 1 << 20


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_digest(path: str | Path) -> str:
    """sha256 over the sorted relative names and contents of a folder's files, as hex.

    A linked file counts with the content that it leads to, as in the Hugging Face cache, where every file is a link.
    A linked folder raises ModelError: who opens a file in it is led to one that isn't counted. Raises StorageError
    where the folder can't be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise StorageError(f"{root} is not a folder; give a model folder or a finished run")
    digest = hashlib.sha256()
    try:
        for file in _files(root):
            name = file.relative_to(root).as_posix().encode("utf-8", "surrogateescape")
            digest.update(b"%b\0%b\n" % (name, file_digest(file).encode()))
    except OSError as error:
        _unreadable(error)
    return digest.hexdigest()


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, files in os.walk(root, onerror=_unreadable):
        linked = next((name for name in folders if Path(place, name).is_symlink()), None)
        if linked is not None:
            raise ModelError(
                f"{Path(place, linked)} is a linked folder, and no digest covers what it leads to: put its files there"
            )
        found += [Path(place, name) for name in files]
    return sorted(file for file in found if file.is_file())


def _unreadable(error: OSError) -> NoReturn:
    raise StorageError(f"can't read {error.filename}: {error.strerror}") from None
