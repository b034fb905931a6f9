"""Ray Jobs against a real cluster of its own, behind a token: logs followed, exit codes and Ctrl-C passed on."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from raysafe.cli.main import main
from raysafe.cli.submit import Submission, read_arguments
from raysafe.errors import ConfigError
from raysafe.runtime.jobs import exit_code, submit

START_TIMEOUT_S = 90.0
TOKEN = "a-token-of-this-test-that-is-long-enough"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**changes: str | None) -> dict[str, str]:
    """This process's variables without Ray's address, with the cluster's token, and with `changes` (None: unset)."""
    values = os.environ | {"RAY_ADDRESS": None, "RAY_AUTH_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"} | changes
    return {name: value for name, value in values.items() if value is not None}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raysafe.cli.main", "submit", *arguments]


def submitted(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: Ray reads how it authenticates once."""
    return subprocess.run(
        command(*arguments), env=environment(**changes), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster that this test starts and ends."""
    port, temporary = free_port(), f"/tmp/rs-{os.getpid()}"
    ray = str(Path(sys.executable).parent / "ray")
    arguments = [
        "start", "--head", "--block", "--num-cpus=1", f"--port={free_port()}", "--include-dashboard=true",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", f"--temp-dir={temporary}", "--disable-usage-stats",
        f"--dashboard-agent-listen-port={free_port()}", f"--ray-client-server-port={free_port()}",
    ]  # fmt: skip
    log = open(tmp_path_factory.mktemp("cluster") / "log", "w")  # noqa: SIM115
    head = subprocess.Popen(
        [ray, *arguments], stdout=log, stderr=log, env=environment(RAY_AUTH_MODE="token"), start_new_session=True
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert head.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
        time.sleep(0.5)
    yield f"http://127.0.0.1:{port}"
    # by pid, the head's children first: none may outlive the test, and `ray start` waits long for each
    for process in [*psutil.Process(head.pid).children(recursive=True), head]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    head.wait(30)
    log.close()
    shutil.rmtree(temporary, ignore_errors=True)


@pytest.mark.ray
def test_logs_are_followed_and_the_exit_code_comes_through(dashboard: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import sys\nprint('hello from', sys.argv[1:])\nprint(sys.executable)\nsys.exit(int(sys.argv[1]))\n"
    )
    # the token alone is enough: RAY_AUTH_MODE need not be set
    ended = submitted(
        *(
            "job.py",
            "--address",
            dashboard,
            "--working-dir",
            str(tmp_path),
            "--python",
            sys.executable,
            "--",
            "3",
            "--flag",
        ),
        RAY_AUTH_MODE=None,
    )
    assert ended.returncode == 3, ended.stderr
    assert f"hello from ['3', '--flag']\n{sys.executable}\n" in ended.stdout
    assert "INFO" not in ended.stderr and "WARNING" not in ended.stderr


@pytest.mark.ray
@pytest.mark.parametrize(
    ("mode", "token", "message"),
    [("token", "another-token-that-is-long-enough", "refused the token"), ("disabled", None, "wants a token")],
)
def test_a_token_that_is_wrong_or_missing_is_one_sentence(
    dashboard: str, mode: str, token: str | None, message: str
) -> None:
    ended = submitted("--address", dashboard, "job.py", RAY_AUTH_MODE=mode, RAY_AUTH_TOKEN=token)
    assert ended.returncode == 2
    assert f"raysafe: the cluster at {dashboard} {message}: set RAY_AUTH_TOKEN" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.ray
def test_ctrl_c_asks_and_yes_stops_the_job(dashboard: str, tmp_path: Path) -> None:
    started = tmp_path / "pid"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "job.py").write_text(
        f"import os, pathlib, time\npathlib.Path({str(started)!r}).write_text(str(os.getpid()))\ntime.sleep(120)\n"
    )
    terminal, end = pty.openpty()
    arguments = command("--address", dashboard, "--working-dir", str(tmp_path / "work"), "job.py")
    client = subprocess.Popen(
        arguments, stdin=end, stdout=end, stderr=end, env=environment(RAY_AUTH_MODE="token"), start_new_session=True
    )
    os.close(end)
    wait_until(lambda: started.exists() and started.read_text() != "")
    client.send_signal(signal.SIGINT)
    shown = read_until(terminal, b"[y/N]")
    os.write(terminal, b"y\n")
    assert client.wait(30) == 130, shown
    wait_until(lambda: not psutil.pid_exists(int(started.read_text())))
    os.close(terminal)


def wait_until(true: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read_until(terminal: int, text: bytes) -> bytes:
    shown = b""
    while text not in shown:
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, shown
        shown += os.read(terminal, 4096)
    return shown


def test_without_a_terminal_ctrl_c_leaves_the_job_running_and_says_how_to_follow_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        def get_address(self) -> str:
            return "http://there:8265"

        def stop_job(self, job: str) -> None:
            raise AssertionError("nobody asked for this")

    def interrupted(client: Client, job: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("raysafe.runtime.jobs.job_client", lambda address: Client())
    monkeypatch.setattr("raysafe.runtime.jobs.submit", lambda *arguments, **more: "job_1")
    monkeypatch.setattr("raysafe.runtime.jobs.follow", interrupted)
    assert main(["submit", "job.py"]) == 130
    assert "ray job logs --follow --address http://there:8265 job_1" in capsys.readouterr().err


def test_a_script_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no script job\.py in"):
        submit(None, "job.py", [], working_dir=str(tmp_path))  # pyright: ignore[reportArgumentType]


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--address", f"http://127.0.0.1:{free_port()}", "job.py"]) == 2
    assert "there is no Ray dashboard at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("job.py --address x", ["--address", "x"]),
        ("job.py -- --address x", ["--address", "x"]),
        ("-- job.py --flag", ["--flag"]),
        ("job.py", []),
        ("job.py -- a -- b", ["a", "--", "b"]),
    ],
)
def test_what_follows_the_script_or_two_dashes_belongs_to_the_script(line: str, arguments: list[str]) -> None:
    assert read_arguments(line.split()) == Submission("job.py", arguments)


def test_flags_of_submit_may_stand_on_either_side_of_the_script_before_two_dashes() -> None:
    asked = Submission("job.py", ["--seed", "1"], "http://a", "w", "/v/python", wait=False)
    line = [
        "--address",
        "http://a",
        "job.py",
        "--working-dir=w",
        "--python=/v/python",
        "--no-wait",
        "--",
        "--seed",
        "1",
    ]
    assert read_arguments(line) == asked


def test_a_failed_job_never_ends_in_zero_and_a_signal_reads_as_in_a_shell() -> None:
    assert [exit_code(code) for code in (3, None, 0, -9)] == [3, 1, 1, 137]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which script?"),
        (["--adress", "x"], "unknown flag '--adress'"),
        (["--address"], "--address needs a value"),
        (["a.py", "b", "--", "c"], "what is 'b' after a.py?"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    assert message in capsys.readouterr().err
