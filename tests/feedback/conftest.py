"""A small project: its items' file, its desk, its app, and a client for each rater."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from raysafe.feedback.desk import Desk
from raysafe.feedback.items import read_items
from raysafe.feedback.project import ProjectSettings, make_project, open_judgements
from raysafe.feedback.server import create_app

Row = dict[str, Any]


def png(shade: int = 0) -> bytes:
    """A whole picture of two by two grey pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade, shade, 0, shade, shade]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pair(index: int, **fields: Any) -> Row:
    return {"id": f"q{index}", "prompt": f"Question {index}?", "a": f"good {index}", "b": f"bad {index}"} | fields


def write_items(folder: Path, rows: list[Row]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


class Project:
    """A desk and its app; `rater(name)` is a client with that rater's token."""

    def __init__(self, folder: Path, rows: list[Row], *, wanted: int = 1, **settings: Any) -> None:
        self.file = write_items(folder, rows)
        self.folder = folder / "out"
        kept = ProjectSettings(**settings)
        make_project(self.folder, kept)
        self.store, self.judgements = open_judgements(self.folder)
        items = read_items(self.file)
        self.judgements.add_items(items)
        self.desk = Desk(self.judgements, items, kept, wanted=wanted)
        self.app = create_app(self.desk, folder=self.file.parent)

    def rater(self, name: str) -> TestClient:
        token = self.judgements.add_rater(name)
        return TestClient(self.app, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """Makes projects below the test's folder."""
    made: list[Project] = []

    def build(rows: list[Row], **settings: Any) -> Project:
        made.append(Project(tmp_path / f"project-{len(made)}", rows, **settings))
        return made[-1]

    yield build
    for project in made:
        project.store.close()
