"""What ordinary code may do, and what comes back of it."""

from __future__ import annotations

import pytest

from raysafe.control.sandbox import Policy, Result, run

pytestmark = pytest.mark.usefixtures("isolation")

SMALL = Policy(memory_bytes=256 << 20, wall_seconds=30)


@pytest.fixture(scope="module")
def ordinary() -> Result:
    """Numbers, files in and out, and a process of its own."""
    source = """
import os, sys
import numpy
print(numpy.linalg.norm(numpy.array([3.0, 4.0])))
text = open("data/in.txt").read()
with open("out.txt", "w") as file:
    file.write(text.upper())
print("aside", file=sys.stderr)
if os.fork() == 0:
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
raise SystemExit(3)
"""
    return run(source, SMALL, {"data/in.txt": "hello"})


def test_source_runs_with_numpy_and_processes_of_its_own(ordinary: Result) -> None:
    assert ordinary.stdout == "5.0\n0\n"
    assert ordinary.limit_hit is None


def test_stderr_comes_apart(ordinary: Result) -> None:
    assert ordinary.stderr == "aside\n"


def test_exit_code_is_the_codes_own(ordinary: Result) -> None:
    assert ordinary.exit_code == 3


def test_files_that_were_made_come_back_and_given_ones_do_not(ordinary: Result) -> None:
    assert ordinary.files == {"out.txt": b"HELLO"}


def test_a_list_is_a_program_with_its_arguments() -> None:
    assert run(["python3", "-c", "import sys; print(sys.argv[1])", "a b"], SMALL).stdout == "a b\n"


def test_an_error_shows_the_codes_own_lines_alone() -> None:
    result = run("x = 1\nx / 0\n", SMALL)
    assert result.stderr.splitlines() == [
        "Traceback (most recent call last):",
        '  File "sandbox.py", line 2, in <module>',
        "    x / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
    ]
    assert result.exit_code == 1
