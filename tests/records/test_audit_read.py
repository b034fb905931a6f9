"""Reading the audit log from its end gives what reading it from its beginning gives, turned round."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysafe.records import audit_chain
from raysafe.records.audit import AuditLog
from raysafe.records.audit_chain import read_back, read_rows
from raysafe.records.audit_read import newest_rows, search
from tests.examples import examples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for writer in ("a", "b"):
        with AuditLog(tmp_path / "audit", writer) as log:
            for number in range(5):
                log.append("even" if number % 2 == 0 else "odd", writer, f"{writer}{number}", {"n": number})
    return tmp_path / "audit"


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 90), max_size=12), block=st.integers(1, 200), torn=st.booleans())
def test_rows_read_back_are_those_read_forward_reversed(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], block: int, torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("log")
    with AuditLog(folder, "w") as log:
        for size in sizes:
            log.append("k", "a", "é" * size, {"text": "\n" * size})
    path = folder / "w.jsonl"
    with path.open("ab") as file:
        file.write(b'{"half' if torn else b"")
    patched = pytest.MonkeyPatch()
    with patched.context() as context:
        context.setattr(audit_chain, "BLOCK_BYTES", block)
        found = list(read_back(path))
    whole = [row for _, row in read_rows(path)]
    assert found == (whole[:-1] if torn else whole)[::-1]


def test_chains_are_read_as_one_by_their_clock(folder: Path) -> None:
    times = [found.time for found in newest_rows(folder)]
    assert len(times) == 10 and times == sorted(times, reverse=True)


def test_a_search_finds_the_newest_that_fit(folder: Path) -> None:
    found = search(folder, lambda found: found.row["kind"] == "odd", most=3)
    assert [each.row["subject"] for each in found.rows] == ["b3", "b1", "a3"]


def test_a_search_goes_on_where_it_stopped(folder: Path) -> None:
    first = search(folder, most=4)
    assert first.older is not None
    rest = search(folder, most=50, before=first.older)
    assert [each.row["subject"] for each in (*first.rows, *rest.rows)] == [
        each.row["subject"] for each in newest_rows(folder)
    ]
    assert rest.older is None


def test_a_search_looks_at_so_many_rows_and_says_where_it_stopped(folder: Path) -> None:
    found = search(folder, lambda found: found.row["subject"] == "a0", looks=7)
    assert (found.rows, found.looked) == ([], 7)
    assert [each.row["subject"] for each in search(folder, before=str(found.older)).rows] == ["a2", "a1", "a0"]


def test_a_search_ends_at_its_beginning(folder: Path) -> None:
    since = list(newest_rows(folder))[2].time
    assert len(search(folder, since=since).rows) == 3
