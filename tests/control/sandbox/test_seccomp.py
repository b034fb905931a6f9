"""The filters, read by an interpreter of BPF that was written apart from them; numbers against the kernel's headers."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from raysafe.control.sandbox.seccomp import (
    ALLOW,
    ARCHITECTURES,
    FAIL,
    NOTIFY,
    Target,
    no_execution,
    no_unix_sockets,
    sandbox_filter,
)
from raysafe.control.sandbox.syscalls import ALLOWED, BY_ARGUMENT, HOSTILE, REFUSED

TARGETS = {name: Target(*facts) for name, facts in ARCHITECTURES.items()}
HEADERS = {0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 1: "/usr/include/asm-generic/unistd.h"}
ALL = ALLOWED | BY_ARGUMENT | REFUSED | HOSTILE


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would return for this call: the four operations that the filters use (linux/bpf_common.h)."""
    code = list(struct.iter_unpack("<HBBI", program))
    data = struct.pack("<iIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    at, word = 0, 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        match operation:
            case 0x06:
                return value
            case 0x20:
                (word,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += yes if word == value else no
            case 0x35:
                at += yes if word >= value else no
            case 0x45:
                at += yes if word & value else no
            case _:
                raise AssertionError(f"operation {operation:#x}")


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def ask(target: Target, name: str, *arguments: int, network: bool = False) -> int:
    number = ALL[name][target.column]
    assert number is not None
    return verdict(sandbox_filter(target, network=network), target.audit, number, *arguments)


@pytest.mark.parametrize("table, action", [(ALLOWED, ALLOW), (HOSTILE, NOTIFY), (REFUSED, FAIL | errno.EPERM)])
def test_each_call_is_treated_as_its_table_says(target: Target, table: dict, action: int) -> None:
    program = sandbox_filter(target, network=False)
    for numbers in table.values():
        number = numbers[target.column]
        assert number is None or verdict(program, target.audit, number) == action


def test_a_call_in_no_table_is_unknown(target: Target) -> None:
    known = {numbers[target.column] for numbers in ALL.values()}
    program = sandbox_filter(target, network=False)
    for number in set(range(500)) - known:
        assert verdict(program, target.audit, number) == FAIL | errno.ENOSYS


def test_calls_of_other_architectures_are_hostile(target: Target) -> None:
    for arch in (0x40000003, 0xC000003E, 0xC00000B7, 0x40000028):
        expected = ALLOW if arch == target.audit else NOTIFY
        read = ALLOWED["read"][target.column]
        assert read is not None
        assert verdict(sandbox_filter(target, network=False), arch, read) == expected


def test_x32_calls_are_hostile() -> None:
    target = TARGETS["x86_64"]
    assert verdict(sandbox_filter(target, network=False), target.audit, 0x40000000) == NOTIFY


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_no_namespace(target: Target, flag: int) -> None:
    assert ask(target, "clone", flag | 17) == NOTIFY
    assert ask(target, "unshare", flag) == NOTIFY


def test_clone_makes_processes_and_threads(target: Target) -> None:
    assert ask(target, "clone", 17) == ask(target, "clone", 0x3D0F00) == ALLOW


def test_unshare_of_a_time_namespace_is_hostile(target: Target) -> None:
    assert ask(target, "unshare", 0x80) == NOTIFY


def test_clone3_is_unknown_so_that_libraries_use_clone(target: Target) -> None:
    assert ask(target, "clone3") == FAIL | errno.ENOSYS


@pytest.mark.parametrize("family", range(46))
def test_there_are_no_sockets_without_a_network(target: Target, family: int) -> None:
    assert ask(target, "socket", family) == FAIL | errno.EACCES


def test_nothing_is_put_into_a_terminal(target: Target) -> None:
    for command in (0x5412, 0x541C, 0x5423, 0xFFFFFFFF00005412):
        assert ask(target, "ioctl", 0, command) == FAIL | errno.EPERM
    assert ask(target, "ioctl", 0, 0x5401) == ALLOW


def test_only_devices_are_hostile_to_make(target: Target) -> None:
    for mode, action in (
        (0o020666, NOTIFY),
        (0o060666, NOTIFY),
        (0o010666, ALLOW),
        (0o100666, ALLOW),
        (0o140666, ALLOW),
    ):
        assert ask(target, "mknodat", 0, 0, mode) == action


def test_a_second_listener_is_refused(target: Target) -> None:
    assert ask(target, "seccomp", 1, 8) == FAIL | errno.EPERM
    assert ask(target, "seccomp", 1, 0) == ALLOW


def test_nothing_is_executed_under_the_second_filter(target: Target) -> None:
    program = no_execution(target)
    for name, expected in (("execve", FAIL | errno.EPERM), ("execveat", FAIL | errno.EPERM), ("read", ALLOW)):
        number = ALLOWED[name][target.column]
        assert number is not None
        assert verdict(program, target.audit, number) == expected


def test_jobs_with_a_network_have_internet_sockets_alone(target: Target) -> None:
    number = BY_ARGUMENT["socket"][target.column]
    assert number is not None
    for family in range(46):
        first = ask(target, "socket", family, network=True)
        second = verdict(no_unix_sockets(target), target.audit, number, family)
        allowed = first == second == ALLOW
        assert allowed == (family == 2)


def test_no_call_is_in_two_tables() -> None:
    assert len(ALL) == sum(map(len, (ALLOWED, BY_ARGUMENT, REFUSED, HOSTILE)))


@pytest.mark.parametrize("column", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(column: int) -> None:
    header = Path(HEADERS[column])
    if not header.exists():
        pytest.skip(f"no {header}")
    text = header.read_text()
    told = {name: int(n) for name, n in re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", text, re.M)}
    # the generic header names these by what they are on machines of 32 bits as well
    told |= {"fadvise64": told.get("fadvise64", 0)}
    checked = {name: numbers[column] for name, numbers in ALL.items() if name in told and numbers[column] is not None}
    assert {name: told[name] for name in checked} == checked
    assert len(checked) > 200
