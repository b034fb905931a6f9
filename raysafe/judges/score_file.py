"""Verdicts as JSON Lines, written as they come, so that a second start goes on where the first one ended.

Each line names the row that it judges, a digest of what stood there, and a digest of the settings that decided it: a
file of other rows or another judge is never added to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysafe.errors import ConfigError, StorageError
from raysafe.runtime.lock import Held, exclusive


def digest_of(value: Any) -> str:
    """16 hexadecimal digits of the sha256 of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class ScoreFile:
    """The verdicts kept so far, by row, and a file to add to. Made by `open_scores`."""

    def __init__(self, path: Path, kept: dict[int, dict[str, Any]], settings: str) -> None:
        self.path, self.kept, self._settings = path, kept, settings

    def missing(self, rows: Sequence[tuple[int, str]]) -> list[int]:
        """Places, among (row, digest), of those without a verdict; raises ConfigError where another row stood there."""
        for row, case in rows:
            if row in self.kept and self.kept[row]["case"] != case:
                raise ConfigError(
                    f"row {row} isn't the one that {self.path} has a verdict on: name another file with --out"
                )
        return [place for place, (row, _) in enumerate(rows) if row not in self.kept]

    def add(self, verdicts: Sequence[dict[str, Any]]) -> None:
        """Append verdicts, each with `row` and `case`, durably; raises StorageError."""
        lines = [json.dumps({**verdict, "settings": self._settings}, ensure_ascii=False) for verdict in verdicts]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror}") from None
        self.kept.update({verdict["row"]: json.loads(line) for verdict, line in zip(verdicts, lines, strict=True)})


@contextmanager
def open_scores(path: Path, settings: str) -> Iterator[ScoreFile]:
    """The file, for one process at a time; a last line that a kill tore is cut off.

    Raises StorageError where it can't be read or is in use, ConfigError where it holds something else or verdicts by
    other settings (a digest).
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        with exclusive(lock):
            yield ScoreFile(path, _read(path, settings), settings)
    except Held as held:
        raise StorageError(f"{path} is being written by {held}: wait for it, or name another file with --out") from None
    except OSError as error:
        raise StorageError(f"can't write {path}: {error.strerror}") from None


def _read(path: Path, settings: str) -> dict[int, dict[str, Any]]:
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    kept: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        verdict = _verdict(line)
        if verdict is None:
            raise ConfigError(f"{path}:{number} is no verdict of a judge: name another file with --out")
        if verdict["settings"] != settings:
            raise ConfigError(
                f"{path} holds verdicts of another judge, constitution or method: name another file with --out"
            )
        kept[verdict["row"]] = verdict
    if len(whole) < len(content):
        # what is cut off is ours only where it follows verdicts, or begins as one
        if not kept and not content.startswith(b'{"row": '):
            raise ConfigError(f"{path} holds no verdicts of a judge: name another file with --out")
        os.truncate(path, len(whole))
    return kept


def _verdict(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    fields = {"row": int, "case": str, "settings": str}
    good = isinstance(value, dict) and all(isinstance(value.get(name), kind) for name, kind in fields.items())
    return value if good else None
