"""From first to last process: one job a sandbox, nothing left of it, and nothing run where there is no isolation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from raysafe.control.sandbox import Job, Policy, Sandbox, SandboxUnavailable, bubblewrap, run
from raysafe.control.sandbox.cgroups import find_places
from raysafe.errors import ConfigError

pytestmark = pytest.mark.usefixtures("isolation")

SMALL = Policy(memory_bytes=128 << 20, disk_bytes=8 << 20, wall_seconds=60)


def below(process: psutil.Process) -> list[psutil.Process]:
    return process.children(recursive=True)


def until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def groups() -> set[Path]:
    places = find_places()
    mine = f"raysafe-{os.getpid()}-*"
    return {group for place in places.of.values() for group in place.glob(mine)} if places else set()


def test_nothing_is_left_of_a_run() -> None:
    me = psutil.Process()
    before = (set(below(me)), me.num_fds(), groups())
    run("import os\nif os.fork() == 0:\n    import time\n    time.sleep(60)\n", SMALL)
    assert (set(below(me)), me.num_fds(), groups()) == before


def test_nothing_is_left_of_a_sandbox_that_had_no_job() -> None:
    me = psutil.Process()
    before = (set(below(me)), me.num_fds(), groups())
    Sandbox(SMALL).close()
    assert (set(below(me)), me.num_fds(), groups()) == before


def test_processes_that_outlive_the_job_end_with_it() -> None:
    source = """
import os, time
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(tell, b'.')
        time.sleep(600)
    os._exit(0)
os.read(told, 1)
"""
    me = psutil.Process()
    before = set(below(me))
    assert run(source, SMALL).exit_code == 0
    assert set(below(me)) == before


def test_a_sandbox_has_one_job() -> None:
    with Sandbox(SMALL) as sandbox:
        assert sandbox.run(Job.of("print(1)")).stdout == "1\n"
        with pytest.raises(SandboxUnavailable, match="had its job"):
            sandbox.run(Job.of("print(2)"))


def test_a_sandbox_that_waits_runs_nothing() -> None:
    with Sandbox(SMALL) as sandbox:
        assert sandbox.alive
        assert len(below(psutil.Process())) >= 1
        assert sandbox.run(Job.of("print('now')")).stdout == "now\n"
        assert not sandbox.alive


def test_the_exit_code_is_the_kernels() -> None:
    forged = """
import json, os
text = json.dumps({'status': 0}).encode()
message = len(text).to_bytes(4, 'big') + text
for descriptor in range(3, 256):
    try: os.write(descriptor, message)
    except OSError: pass
print('exit_code=0')
os._exit(9)
"""
    assert run(forged, SMALL).exit_code == 9


def test_a_signals_number_is_the_exit_code_negated() -> None:
    assert run("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", SMALL).exit_code == -signal.SIGSEGV


def test_a_program_that_is_not_there_is_told_as_a_shell_tells_it() -> None:
    result = run(["nowhere-to-be-found"], SMALL)
    assert (result.exit_code, result.stderr) == (127, "nowhere-to-be-found: No such file or directory\n")


@pytest.mark.serve
def test_a_sandbox_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    source = (
        "from raysafe.control.sandbox import Policy, run\n"
        "run('print(1, flush=True)\\nimport time\\ntime.sleep(600)', Policy(wall_seconds=600))"
    )
    host = subprocess.Popen([sys.executable, "-c", source])
    try:
        maker = psutil.Process(host.pid)
        # bubblewrap, process 1 and the job
        until(lambda: len(below(maker)) >= 3)
        inside = below(maker)
    finally:
        host.send_signal(signal.SIGKILL)
        host.wait()
    until(lambda: not any(process.is_running() and process.status() != "zombie" for process in inside))


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(*_: object) -> None:
        return None

    bubblewrap.bubblewrap.cache_clear()
    monkeypatch.setattr(bubblewrap.importlib.util, "find_spec", missing)
    monkeypatch.setattr(bubblewrap.shutil, "which", missing)
    with pytest.raises(SandboxUnavailable, match="no bubblewrap, so nothing can be isolated: pip install"):
        run("print(1)", SMALL)
    bubblewrap.bubblewrap.cache_clear()


def test_where_namespaces_are_denied_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    denied = tmp_path / "bwrap"
    denied.write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2\nexit 1\n")
    denied.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "bubblewrap", lambda: str(denied))
    with pytest.raises(SandboxUnavailable, match="could not isolate: bwrap: No permissions to create a new namespace"):
        run("print(1)", SMALL)


def test_a_wrapper_that_only_starts_the_command_is_not_taken_for_isolation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretender = tmp_path / "bwrap"
    pretender.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    pretender.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "bubblewrap", lambda: str(pretender))
    with pytest.raises(SandboxUnavailable):
        run(f"open({str(tmp_path / 'ran')!r}, 'w')", SMALL)
    assert not (tmp_path / "ran").exists()


def test_sandboxes_are_users_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "all").write_text("0 0 4294967295\n")
    maps = (str(tmp_path / "all"),) * 2
    assert len({bubblewrap.user_of_its_own(maps) for _ in range(20)}) > 15


def test_in_a_container_with_few_users_they_are_nobody(tmp_path: Path) -> None:
    (tmp_path / "few").write_text("0 100000 65536\n")
    assert bubblewrap.user_of_its_own((str(tmp_path / "few"),) * 2) == bubblewrap.NOBODY


@pytest.mark.parametrize(
    "files", [{"/etc/x": ""}, {"../x": ""}, {"a/../b": ""}, {"a//b": ""}, {"a": "", "a/b": ""}, {"a\nb": ""}, {".": ""}]
)
def test_files_that_do_not_belong_in_a_folder_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="file"):
        run("", SMALL, files)


def test_files_larger_than_the_folder_are_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="disk_bytes"):
        run("", SMALL, {"a": bytes(9 << 20)})


@pytest.mark.parametrize("code", [b"print(1)", [], 3, None, ["a\0b"], "\ud800"])
def test_what_is_neither_source_nor_a_program_is_refused(code: object) -> None:
    with pytest.raises(ConfigError):
        run(code, SMALL)  # pyright: ignore[reportArgumentType]
