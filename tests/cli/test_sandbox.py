"""`raysafe sandbox run` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysafe.cli.main import main

pytestmark = pytest.mark.usefixtures("isolation")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "code.py"


def run(*arguments: object) -> int:
    return main(["sandbox", "run", *map(str, arguments)])


def test_a_file_runs_and_its_exit_code_is_the_commands(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source.write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(5)")
    assert run(source) == 5
    assert capfd.readouterr() == ("out\n", "err\n")


def test_terminal_escapes_are_shown_and_not_obeyed(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source.write_text("print('\\x1b[2J\\x1b]0;title\\x07 \\u202e ok\\ttab')")
    assert run(source) == 0
    assert capfd.readouterr().out == "\\x1b[2J\\x1b]0;title\\x07 \\u202e ok\ttab\n"


def test_a_program_stands_after_dashes(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--", "echo", "--json", "a b") == 0
    assert capfd.readouterr().out == "--json a b\n"


def test_files_go_in_and_come_out(source: Path, tmp_path: Path) -> None:
    source.write_text("import os\nos.mkdir('d')\nopen('d/out', 'w').write(open('in.txt').read() * 2)")
    (tmp_path / "host.txt").write_text("ab")
    assert run(source, "--file", f"in.txt={tmp_path / 'host.txt'}", "--out", tmp_path / "out") == 0
    assert {
        str(p.relative_to(tmp_path / "out")): p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()
    } == {"d/out": "abab"}


def test_a_limit_is_named_and_the_code_is_that_of_its_signal(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source.write_text("while True: print('x' * 1000)")
    assert run(source, "--output-bytes", 5000) == 137
    assert "raysafe: the output limit was hit" in capfd.readouterr().err


def test_a_policy_file_is_read_and_flags_override_it(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source.write_text("import resource\nprint(resource.getrlimit(resource.RLIMIT_FSIZE)[0])")
    (tmp_path / "policy.yaml").write_text("disk_bytes: 7000000\nmemory_bytes: 100000000\n")
    assert run(source, "--policy", tmp_path / "policy.yaml") == 0
    assert run(source, "--policy", tmp_path / "policy.yaml", "--disk-bytes", 6000000) == 0
    assert capfd.readouterr().out == "7000000\n6000000\n"


def test_json_has_everything(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source.write_text("open('a', 'w').write('xyz')\nimport ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)")
    assert run(source, "--json") == 137
    told = json.loads(capfd.readouterr().out)
    assert told["files"] == {"a": 3}
    assert told["breaches"] == [{"what": "system call", "detail": "ptrace"}]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "name a Python file, or a program"),
        (["nowhere.py"], "can't read nowhere.py"),
        (["x.py", "--", "ls"], "one of the two"),
        (["x.py", "--wall-seconds", "-1"], "wall_seconds: Input should be greater than 0, got -1"),
        (["x.py", "--out", "/tmp"], "out: /tmp exists"),
        (["x.py", "--policy", "nowhere.yaml"], "can't read config file nowhere.yaml"),
    ],
)
def test_a_bad_command_is_one_sentence(arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1
