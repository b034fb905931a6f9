"""What the audit log says of stopped and corrected exchanges: rows of gateways, reviewers' words, and corrections.

The chains that are read are verified first: a changed log must teach no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from raysafe.control.holds import CHAIN as HOLDS
from raysafe.errors import StorageError
from raysafe.oversight.corrections import Correction, is_correction_chain, read_corrections
from raysafe.records.audit_chain import SUFFIX, read_rows
from raysafe.records.audit_verify import verify
from raysafe.runtime.bar import Bar

GATEWAYS = "gateway-"
"""What the names of gateways' chains begin with."""
OF_CONTENT = ("policy", "capability")
"""Categories of verdicts against what an exchange says or does."""

_BAR_ROWS = 1000
Row = dict[str, Any]


class Word(NamedTuple):
    """A reviewer's decision on a hold."""

    outcome: Literal["released", "refused"]
    by: str
    note: str
    time: str
    row: str


class Traces(NamedTuple):
    """The rows of one exchange."""

    decision: Row
    """The row that stopped it, the last where several did; that of its answer where nothing did."""
    request: Row | None
    """The row of its input; the same one where it was stopped there."""
    word: Word | None
    correction: Correction | None


class IncidentLog:
    """One audit log. Raises StorageError where it can't be read, or one of its chains here is broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        reports = verify(folder, only=_is_ours)
        problems = "; ".join(f"{report.writer}: {problem}" for report in reports for problem in report.problems)
        if problems:
            raise StorageError(
                f"the audit log in {folder} is broken ({problems}), so no incident in it can be relied on: see "
                "`raysafe audit verify`"
            )
        writers = [report.writer for report in reports]
        self._gateways = {report.writer: report.rows for report in reports if report.writer.startswith(GATEWAYS)}
        self._corrections = read_corrections(folder, filter(is_correction_chain, writers))
        self._words = dict(self._read_words([writer for writer in writers if _is_hold_chain(writer)]))

    def read(self, wanted: Callable[[Mapping[str, Any]], bool]) -> tuple[list[Traces], int]:
        """Traces of the incidents whose deciding row is wanted, and the number of stops that aren't about content."""
        decisions: dict[str, Row] = {}
        others = 0
        for row in self._decisions():
            if not wanted(row):
                continue
            verdict = stopper(row)
            if verdict is None:
                corrected = row["subject"] in self._corrections and row["details"]["stage"] == "output"
                if corrected and row["subject"] not in decisions:
                    decisions[row["subject"]] = row
            elif verdict.get("category") in OF_CONTENT:
                decisions[row["subject"]] = row
            else:
                others += 1
        requests = self._requests(decisions.keys())
        return [self._traces(row, requests.get(subject)) for subject, row in decisions.items()], others

    def find(self, subject: str) -> Traces | None:
        """The traces of one exchange that was stopped for what it says, or answered in text."""
        stopped: Row | None = None
        answered: Row | None = None
        for row in self._decisions():
            if row["subject"] == subject:
                verdict = stopper(row)
                if verdict is None and row["details"]["stage"] == "output":
                    answered = row
                elif verdict is not None and verdict.get("category") in OF_CONTENT:
                    stopped = row
        row = stopped or answered
        return None if row is None else self._traces(row, self._requests({subject}).get(subject))

    def _traces(self, row: Row, request: Row | None) -> Traces:
        subject = row["subject"]
        words = sorted((word for name, word in self._words.items() if _exchange(name) == subject), key=_time)
        return Traces(row, request, words[-1] if words else None, self._corrections.get(subject))

    def _requests(self, subjects: Collection[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for row in self._decisions():
            if row["details"]["stage"] == "input" and row["subject"] in subjects:
                found.setdefault(row["subject"], row)
        return found

    def _decisions(self) -> Iterator[Row]:
        with Bar("reading the audit log", total=sum(self._gateways.values()), unit="row") as bar:
            for writer in self._gateways:
                path, number = self.folder / f"{writer}{SUFFIX}", 0
                for number, row in read_rows(path) if path.exists() else ():
                    if number % _BAR_ROWS == 0:
                        bar.advance(_BAR_ROWS)
                    if row is not None and row["kind"] == "verdict":
                        yield row
                bar.advance(number % _BAR_ROWS)

    def _read_words(self, writers: list[str]) -> Iterator[tuple[str, Word]]:
        """The decision on each hold: there is one, for what is decided waits no more."""
        for writer in writers:
            for _, row in read_rows(self.folder / f"{writer}{SUFFIX}"):
                if row is not None and row["kind"] in ("released", "refused"):
                    note = str(row["details"].get("note", ""))
                    outcome = cast("Literal['released', 'refused']", row["kind"])
                    yield row["subject"], Word(outcome, row["actor"], note, row["time"], row["hash"])


def stopper(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict that stopped the exchange, of a row of a decision."""
    return next((verdict for verdict in row["details"]["verdicts"] if verdict["action"] in ("block", "hold")), None)


def _is_ours(writer: str) -> bool:
    return writer.startswith(GATEWAYS) or is_correction_chain(writer) or _is_hold_chain(writer)


def _is_hold_chain(writer: str) -> bool:
    return re.fullmatch(rf"{HOLDS}(-\d+)?", writer) is not None


def _exchange(hold_id: str) -> str:
    """The exchange that was held: one that is held again after a release has a number behind its id."""
    return hold_id.partition(".")[0]


def _time(word: Word) -> str:
    return word.time
