"""`raysafe committee` from the command line: what can't be read is one sentence and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.cli.main import main

VOTE = ["committee", "vote", "rv-1", "approve", "--reason", "sound", "--signature", "00"]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "can't read {file}: No such file"), (b"\xff", "{file} is no statement: byte 0")]
)
@pytest.mark.parametrize("command", ["vote", "sign"])
def test_a_statement_that_cannot_be_read_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes | None, said: str
) -> None:
    file = tmp_path / "ballot.json"
    if content is not None:
        file.write_bytes(content)
    store = ["--store", f"sqlite:///{tmp_path}/store.db"]
    arguments = [*VOTE, "--payload-file", str(file), *store] if command == "vote" else ["committee", "sign", str(file)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said.format(file=file) in told and "Traceback" not in told
