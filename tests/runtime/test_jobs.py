"""Ray Jobs against a real cluster of its own, behind a token: logs followed, exit codes and Ctrl-C passed on."""

from __future__ import annotations

import contextlib
import json
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
from raysafe.errors import ConfigError
from raysafe.runtime.job_request import Request, redacted, runtime_env, shown_environment
from raysafe.runtime.jobs import _when_ready, exit_code, submit

START_TIMEOUT_S = 90.0
SECRET = "sk-a-secret-that-must-not-be-printed"
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


JOBS = (
    "import sys; from raysafe.cli.main import guarded; from raysafe.cli import jobs;"
    "sys.exit(guarded(lambda: jobs.main(sys.argv[1:])))"
)


def jobs(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess[str]:
    """`raysafe jobs …` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", JOBS, *arguments],
        **{
            "env": environment(**{"RAY_AUTH_MODE": None} | changes),
            "capture_output": True,
            "text": True,
            "timeout": 90,
            "check": False,
        },
    )


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


@pytest.fixture(scope="module")
def waiting_job(dashboard: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The id of a job that prints its variables and sleeps, submitted with all that a job can be submitted with."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "job.py").write_text(
        "import os, time\nprint(os.environ['OF_FILE'], os.environ['OF_LINE'], len(os.environ['HERE']), flush=True)\n"
        "time.sleep(300)\n"
    )
    (folder / "env.yaml").write_text(f"env_vars: {{OF_FILE: from-file, OF_LINE: {SECRET}}}\nexcludes: ['*.bin']\n")
    (folder / "big.bin").write_bytes(bytes(100))
    ended = submitted(
        *("--address", dashboard, "--working-dir", str(folder), "--runtime-env", str(folder / "env.yaml")),
        *("--env", "OF_LINE=from-line", "--env", "HERE", "--num-cpus", "0.5", "--memory", "1MiB"),
        *("--submission-id", "waiting-1", "--name", "a wait", "--metadata", "team=red", "--no-wait"),
        *("--python", sys.executable, "job.py"),
        HERE=SECRET,
        RAY_AUTH_MODE=None,
    )
    assert ended.returncode == 0, ended.stderr
    assert "raysafe jobs logs --follow waiting-1 --address" in ended.stdout
    assert SECRET not in ended.stdout + ended.stderr
    return "waiting-1"


@pytest.mark.ray
def test_variables_of_the_file_the_line_and_here_reach_the_job_and_are_never_printed(
    dashboard: str, waiting_job: str
) -> None:
    printed = f"from-file from-line {len(SECRET)}\n"
    wait_until(lambda: printed in jobs("logs", waiting_job, "--address", dashboard).stdout)
    shown = jobs("show", waiting_job, "--address", dashboard, "--json").stdout
    facts = json.loads(shown)
    assert facts["runtime_env"]["env_vars"] == {"HERE": "***", "OF_FILE": "***", "OF_LINE": "***"}
    assert facts["metadata"] == {"job_name": "a wait", "team": "red"}
    assert SECRET not in shown


@pytest.mark.ray
def test_an_id_that_is_taken_is_one_sentence(dashboard: str, waiting_job: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("print('never')\n")
    again = submitted(
        "--address",
        dashboard,
        "--working-dir",
        str(tmp_path),
        "--submission-id",
        waiting_job,
        "job.py",
        RAY_AUTH_MODE=None,
    )
    assert (again.returncode, again.stderr) == (
        2,
        f"raysafe: there is a job {waiting_job} already: choose another --submission-id\n",
    )


@pytest.mark.ray
def test_jobs_are_listed_and_stopped_and_a_stopped_one_says_so(dashboard: str, waiting_job: str) -> None:
    listed = jobs("list", "--json", "--address", dashboard).stdout
    (row,) = [r for r in json.loads(listed) if r["id"] == waiting_job]
    assert SECRET not in listed
    assert (row["status"], row["exit"]) == ("RUNNING", None)
    assert (
        jobs("stop", waiting_job, "--wait", "--address", dashboard).stdout == f"job {waiting_job} has ended: stopped\n"
    )
    again = jobs("stop", waiting_job, "--address", dashboard)
    assert (again.returncode, again.stdout) == (0, f"job {waiting_job} has ended already: stopped\n")


@pytest.mark.ray
@pytest.mark.parametrize("arguments", [("logs", "no-such", "--follow"), ("stop", "../version")])
def test_an_unknown_id_is_one_sentence(dashboard: str, arguments: tuple[str, ...]) -> None:
    ended = jobs(*arguments, "--address", dashboard)
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        f"raysafe: the cluster at {dashboard} knows no job {arguments[1]}: `raysafe jobs list"
    )
    assert ended.stderr.count("\n") == 1


@pytest.mark.ray
def test_a_refused_token_and_an_address_without_a_cluster_are_one_sentence_each(dashboard: str) -> None:
    refused = jobs(
        "list", "--address", dashboard, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a-wrong-one-that-is-long-enough"
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert f"the cluster at {dashboard} refused the token: set RAY_AUTH_TOKEN" in refused.stderr
    # an address that is given goes above the environment's, which Ray's own client would take
    nobody = jobs("list", "--address", f"http://127.0.0.1:{free_port()}", RAY_ADDRESS=dashboard)
    assert (nobody.returncode, nobody.stderr.count("\n")) == (2, 1)
    assert "there is no Ray dashboard at" in nobody.stderr


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
    assert "raysafe jobs logs --follow job_1 --address http://there:8265" in capsys.readouterr().err


def test_a_script_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    request = Request(runtime_env(None, {}, str(tmp_path)))
    with pytest.raises(ConfigError, match=r"there is no script job\.py in"):
        submit(None, "job.py", [], request=request)  # pyright: ignore[reportArgumentType]


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--address", f"http://127.0.0.1:{free_port()}", "job.py"]) == 2
    assert "there is no Ray dashboard at" in capsys.readouterr().err


def test_a_failed_job_never_ends_in_zero_and_a_signal_reads_as_in_a_shell() -> None:
    assert [exit_code(code) for code in (3, None, 0, -9)] == [3, 1, 1, 137]


def test_a_runtime_environment_is_merged_with_the_working_folder_and_the_variables_of_the_line(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("pip: [requests]\nexcludes: ['*.bin']\nenv_vars: {A: '1', B: '2'}\n")
    merged = runtime_env(str(file), {"B": "3"}, "work")
    assert (merged["working_dir"], merged["pip"], merged["env_vars"]) == ("work", ["requests"], {"A": "1", "B": "3"})
    assert "/.git" in merged["excludes"] and merged["excludes"][-1] == "*.bin"


def test_a_working_folder_elsewhere_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("working_dir: s3://bucket/work.zip\n")
    assert runtime_env(str(file), {}, None) == {"working_dir": "s3://bucket/work.zip"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pipp: [a]", "the field 'pipp', which no runtime environment has; known: conda, "),
        ("working_dir: there", "names a working_dir and so does --working-dir"),
        ("env_vars: {A: 5173205}", "env_vars.A in .* must be text, found a int: quote its value"),
        ("env_vars: [5173205]", "env_vars in .* must be a mapping"),
        ("excludes: '*.bin'", "excludes in .* must be a list"),
        ("env_vars:\n  A: '5173205\n b: c", r"is not valid YAML \(line \d\)$"),
    ],
)
def test_a_wrong_runtime_environment_is_one_sentence_without_its_values(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "env.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        runtime_env(str(file), {}, "work")
    assert "5173205" not in str(raised.value)


def test_what_is_shown_of_an_environment_holds_no_values() -> None:
    environment = {"env_vars": {"KEY": SECRET, "ON": "1"}, "pip": ["a"], "_ray_commit": "x"}
    assert shown_environment(environment) == {"env_vars": {"KEY": "***", "ON": "***"}, "pip": ["a"]}
    assert redacted(f"1 pip failed with {SECRET}", environment) == "1 pip failed with ***"


def test_a_cluster_that_was_started_a_moment_ago_is_waited_for() -> None:
    answers = iter([RuntimeError("status code 500: No available agent to submit job, please try again later."), "job"])

    def start() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert _when_ready(start, pause_s=0) == "job"


def test_another_refusal_is_not_waited_out() -> None:
    calls = []

    def start() -> str:
        calls.append(1)
        raise RuntimeError("status code 500: the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        _when_ready(start, pause_s=0)
    assert len(calls) == 1
