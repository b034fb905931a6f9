"""What endpoints answered, kept on disk by the content that was asked: asking the same again makes no request.

The key is a digest of everything that decides the answer; API keys are no part of it, and are never written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysafe.data.cache import default_folder, written_whole
from raysafe.errors import StorageError


def request_key(request: Mapping[str, Any]) -> str:
    """sha256 of a request's JSON, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """JSON files `ab/abcd….json` in one folder, judges/ in RaySafe's cache by default; each written whole."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder() / "judges"

    def find(self, key: str) -> dict[str, Any] | None:
        """What is kept under `key`; a file that isn't whole counts as absent. Raises StorageError."""
        path = self._path(key)
        try:
            kept = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise self._unusable(error) from None
        return kept if isinstance(kept, dict) else None

    def keep(self, key: str, answer: Mapping[str, Any]) -> None:
        """Write an answer whole, readable by its owner only, or not at all; raises StorageError."""
        try:
            with (
                written_whole(self._path(key)) as path,
                open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
            ):
                json.dump(answer, file)
        except OSError as error:
            raise self._unusable(error) from None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"can't use the cache {self.folder} ({error.strerror or error}): make room, set RAYSAFE_CACHE to another "
            "folder, or set the judge's cache to false"
        )
