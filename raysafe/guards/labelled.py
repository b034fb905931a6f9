"""Labelled texts for training and testing guards, from JSONL (also .gz) or CSV; the first bad row is named."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysafe.errors import DataError

ATTACK = frozenset({"attack", "harmful", "unsafe", "malicious", "toxic", "jailbreak", "injection", "1", "true"})
BENIGN = frozenset({"benign", "safe", "harmless", "clean", "0", "false"})
_TEXT_FIELDS = ("text", "prompt", "question", "instruction", "content")


@dataclass(frozen=True)
class Labelled:
    """One text. `attack` is its label; `group` names where it comes from."""

    text: str
    attack: bool
    group: str


def read_labelled(
    path: str | Path,
    *,
    text_field: str | None = None,
    label_field: str = "label",
    group_field: str = "group",
    label: str | None = None,
) -> list[Labelled]:
    """Rows of a JSONL or CSV file; raises DataError naming file, line and remedy.

    label: the label of rows without one, such as benign for a file of benign texts.
    """
    source, rows = Path(path), []
    for line, values in _rows(source):
        where = f"{source}, line {line}"
        field = text_field or next((name for name in _TEXT_FIELDS if name in values), None)
        text = values.get(field) if field else None
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: no text in the field '{field or _TEXT_FIELDS[0]}': name it with --text-field")
        found = values.get(label_field, label)
        shown = str(found).strip().lower()
        if shown not in ATTACK | BENIGN:
            raise DataError(
                f"{where}: {label_field} is {found!r}, it must be one of {', '.join(sorted(ATTACK | BENIGN))}; "
                "name another field with --label-field"
            )
        rows.append(Labelled(text, shown in ATTACK, str(values.get(group_field) or "")))
    if not rows:
        raise DataError(f"{source} holds no rows")
    return rows


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError) as error:
        raise DataError(f"can't read {path}: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    if path.name.removesuffix(".gz").endswith(".csv"):
        for number, values in enumerate(csv.DictReader(io.StringIO(text)), start=2):
            yield number, dict(values)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}, line {number}: not JSON ({error}); give JSONL or a .csv file") from None
            if not isinstance(values, dict):
                raise DataError(f"{path}, line {number}: must be a mapping, found a {type(values).__name__}")
            yield number, values
