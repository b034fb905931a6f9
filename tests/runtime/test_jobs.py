"""Ray Jobs against a real cluster of its own: logs are followed and the exit code comes through."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from raysafe.cli.main import main

START_TIMEOUT_S = 90.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    head = subprocess.Popen([ray, *arguments], stdout=log, stderr=log, env=environment, start_new_session=True)
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
def test_logs_are_followed_and_the_exit_code_comes_through(
    dashboard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.py").write_text("import sys\nprint('hello from', sys.argv[1:])\nsys.exit(int(sys.argv[1]))\n")
    flags = ["submit", "--address", dashboard, "--working-dir", str(tmp_path), "job.py"]
    assert main([*flags, "3", "--flag"]) == 3
    assert "hello from ['3', '--flag']" in capsys.readouterr().out
    assert main([*flags, "0"]) == 0


@pytest.mark.ray
def test_a_script_that_is_not_there_is_one_sentence(
    dashboard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--address", dashboard, "--working-dir", str(tmp_path), "job.py"]) == 2
    assert "there is no script job.py in" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--address", f"http://127.0.0.1:{free_port()}", "job.py"]) == 2
    assert "there is no Ray dashboard at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "which script?"), (["--adress", "x"], "unknown flag '--adress'"), (["--address"], "--address needs a value")],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    assert message in capsys.readouterr().err
