"""`run` around its sandbox: what it validates, and what becomes of a breach."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import BaseModel

from raysafe.control.sandbox import Breach, OutputRefused, Policy, Result, Usage, run
from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.running import report
from raysafe.control.sandbox.validate import validated
from raysafe.records.audit import AuditLog, read_rows

pytestmark = pytest.mark.usefixtures("isolation")

SMALL = Policy(memory_bytes=128 << 20, disk_bytes=8 << 20, wall_seconds=60)
USAGE = Usage(0.0, 0.0, 0, 0, 0, "watchdog")
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["score"],
    "additionalProperties": False,
}


class Score(BaseModel):
    score: float


def left(stdout: str = "", files: dict[str, bytes] | None = None, **facts: object) -> Result:
    return Result(stdout, "", 0, None, files or {}, USAGE, **facts)  # pyright: ignore[reportArgumentType]


def test_output_that_fits_a_json_schema_is_the_value() -> None:
    assert run("print('{\"score\": 0.5}')", SMALL, schema=SCHEMA).value == {"score": 0.5}


def test_output_in_a_file_that_fits_a_model_is_the_value() -> None:
    source = "open('out.json', 'w').write('{\"score\": 0.25}')"
    assert run(source, SMALL, schema=Score, output="out.json").value == Score(score=0.25)


@pytest.mark.parametrize(
    "stdout, why",
    [
        ("", "isn't JSON"),
        ("{'score': 1}", "isn't JSON"),
        ('{"score": NaN}', "isn't JSON"),
        ('{"score": 0.1, "score": 0.9}', "isn't JSON"),
        ('{"score": ' + "[" * 100_000, "isn't JSON"),
        ('{"score": 2}', "doesn't fit"),
        ('{"score": 0.5, "more": 1}', "doesn't fit"),
        ('["score"]', "doesn't fit"),
    ],
)
def test_output_that_does_not_fit_is_refused_with_the_result_in_hand(stdout: str, why: str) -> None:
    with pytest.raises(OutputRefused, match=why) as refused:
        validated(left(stdout), SCHEMA, "stdout")
    assert refused.value.result.stdout == stdout


def test_a_model_says_which_field_does_not_fit() -> None:
    with pytest.raises(OutputRefused, match="stdout doesn't fit the schema: score: Input should be a valid number"):
        validated(left('{"score": "secret-word"}'), Score, "stdout")


def test_a_file_that_is_not_there_is_refused_with_the_limit_that_explains_it() -> None:
    ended = Result("", "", -9, "wall", {}, USAGE)
    with pytest.raises(OutputRefused, match=r"no file 'out.json' \(it was ended by its wall limit\)"):
        validated(ended, SCHEMA, "out.json")


def test_a_file_that_is_no_text_is_refused() -> None:
    with pytest.raises(OutputRefused, match="UTF-8"):
        validated(left(files={"out.json": b"\xff"}), SCHEMA, "out.json")


def test_a_breach_is_in_the_audit_log_before_the_hook_hears_of_it(tmp_path: Path) -> None:
    source = "import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)"
    heard: list[tuple[Breach, list[str]]] = []

    def hook(breach: Breach) -> None:
        rows = [row for _, row in read_rows(tmp_path / "sandbox.jsonl") if row is not None]
        heard.append(
            (breach, [row["subject"] for row in rows if row["details"] == {"what": breach.what, "detail": "ptrace"}])
        )

    with AuditLog(tmp_path, "sandbox") as audit:
        result = run(source, SMALL, audit=audit, on_breach=hook)
    digest = hashlib.sha256(source.encode()).hexdigest()
    assert result.breaches == (Breach("system call", "ptrace"),)
    assert heard == [(result.breaches[0], [f"sha256:{digest}"])]


def test_no_breach_is_no_row(tmp_path: Path) -> None:
    with AuditLog(tmp_path, "sandbox") as audit:
        report(left(), Job.of("1"), audit, pytest.fail)
    assert not [row for _, row in read_rows(tmp_path / "sandbox.jsonl") if row and row["kind"] == "sandbox_breach"]
