"""The gVisor backend: its OCI bundle by the specification's own rules; jobs, where runsc is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from raysafe.control.sandbox import gvisor_bundle
from raysafe.control.sandbox.gvisor import GvisorSandbox
from raysafe.control.sandbox.gvisor_bundle import KEEPER, config, write_bundle
from raysafe.control.sandbox.job import Job
from raysafe.control.sandbox.opening import check_isolation, open_sandbox
from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Result, SandboxUnavailable
from raysafe.control.sandbox.seccomp import Target

POLICY = Policy(backend="gvisor", memory_bytes=512 << 20, disk_bytes=10 << 20, wall_seconds=60)
with_runsc = pytest.mark.skipif(shutil.which("runsc") is None, reason="gVisor (runsc) is not installed")


def test_the_configuration_is_one_by_the_specification() -> None:
    """runtime-spec 1.0.2, config.md: what is REQUIRED, and the values that are allowed."""
    spec = json.loads(json.dumps(config(POLICY)))
    assert spec["ociVersion"].split(".")[0] == "1"
    assert spec["root"] == {"path": "rootfs", "readonly": True}
    process = spec["process"]
    assert process["cwd"].startswith("/") and process["args"] and process["terminal"] is False
    assert all("=" in variable for variable in process["env"])
    assert set(process["capabilities"]) <= {"effective", "bounding", "inheritable", "permitted", "ambient"}
    limits = [limit["type"] for limit in process["rlimits"]]
    assert len(set(limits)) == len(limits) and all(limit["soft"] <= limit["hard"] for limit in process["rlimits"])
    for mount in spec["mounts"]:
        assert mount["destination"].startswith("/")
    kinds = [namespace["type"] for namespace in spec["linux"]["namespaces"]]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) <= {"pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"}


def test_what_is_seen_of_the_host_is_read_only_and_nothing_else_is() -> None:
    spec = config(POLICY)
    binds = [mount for mount in spec["mounts"] if mount["type"] == "bind"]
    assert binds and all("ro" in mount["options"] for mount in binds)
    seen = {mount["source"] for mount in binds}
    assert not seen & {"/", "/etc", "/home", "/root", "/tmp", "/var", "/proc", "/sys", "/dev", os.getcwd()}


def test_process_one_may_no_more_than_it_needs_and_nothing_may_gain() -> None:
    process = config(POLICY)["process"]
    assert process["noNewPrivileges"] is True
    assert "inheritable" not in process["capabilities"] and "ambient" not in process["capabilities"]
    assert not {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_PTRACE", "CAP_MKNOD", "CAP_SYS_MODULE"} & set(KEEPER)


def test_a_readable_folder_is_mounted(tmp_path: Path) -> None:
    shown = os.path.realpath(Path(__file__).parent)
    spec = config(POLICY.model_copy(update={"readable": (shown,)}))
    assert {"destination": shown, "type": "bind", "source": shown, "options": ["bind", "ro"]} in spec["mounts"]


def test_the_bundle_has_a_place_for_each_mount(tmp_path: Path) -> None:
    write_bundle(tmp_path, POLICY)
    spec = json.loads((tmp_path / "config.json").read_text())
    destinations = [mount["destination"] for mount in spec["mounts"]]
    for mount in spec["mounts"]:
        place = tmp_path / "rootfs" / mount["destination"].lstrip("/")
        inner = any(mount["destination"].startswith(f"{other}/") for other in destinations)
        assert inner or place.exists()
        assert inner or mount["type"] != "bind" or place.is_dir() == os.path.isdir(mount["source"])


def test_process_one_and_the_job_are_told_all_that_they_ask() -> None:
    sandbox = object.__new__(GvisorSandbox)
    target = Target.here()
    assert target is not None
    sandbox.policy, sandbox._target = POLICY, target
    folder = Path(gvisor_bundle.__file__).parent / "inside"
    texts = [(folder / f"{name}.py").read_text() for name in ("guest", "job")]
    asked = {key for text in texts for key in re.findall(r'setup\["(\w+)"\]', text)}
    assert asked and asked <= set(sandbox._setup())


def test_without_runsc_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="no runsc on the PATH"):
        check_isolation(POLICY)


def test_domains_are_refused_and_not_left_out() -> None:
    with pytest.raises(SandboxUnavailable, match="no way out to domains"):
        check_isolation(POLICY.model_copy(update={"domains": ("example.org",)}))


def test_a_runtime_that_fails_says_so_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "runsc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="could not isolate"):
        check_isolation(POLICY)
    assert not list(tmp_path.glob("raysafe-gvisor-*"))


def run(code: str | list[str], files: dict[str, str] | None = None, **policy: object) -> Result:
    sandbox = open_sandbox(POLICY.model_copy(update=policy))
    try:
        return sandbox.run(Job.of(code, files))
    finally:
        sandbox.close()


@with_runsc
@pytest.mark.serve
def test_a_job_runs_on_another_kernel_with_its_files() -> None:
    code = "import os, sys; print(os.uname().release, open('a/in').read(), os.getuid())\n"
    code += "open('out', 'w').write('o')\nsys.exit(3)"
    result = run(code, {"a/in": "given"})
    assert result.exit_code == 3 and result.files == {"out": b"o"}
    release, given, user = result.stdout.split()
    assert (given, user) == ("given", "1000") and release != os.uname().release


@with_runsc
@pytest.mark.serve
@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("b = bytearray(600 << 20)\nfor at in range(0, len(b), 4096): b[at] = 1", "memory"),
        ("while True: pass", "cpu"),
        ("import time; time.sleep(30)", "wall"),
        ("print('x' * 5_000_000)", "output"),
        ("open('big', 'wb').write(b'x' * (20 << 20))", "disk"),
    ],
)
def test_limits_bind(code: str, limit: str) -> None:
    result = run(code, cpu_seconds=2.0, wall_seconds=6.0)
    assert result.limit_hit == limit


@with_runsc
@pytest.mark.serve
def test_doors_are_closed() -> None:
    code = """
import json, os, socket, subprocess
def tried(work):
    try:
        return work()
    except Exception as error:
        return type(error).__name__
print(json.dumps([
    tried(lambda: subprocess.run(["/usr/bin/id"])),
    tried(lambda: socket.create_connection(("93.184.216.34", 80), 2)),
    tried(lambda: os.open("/proc/1/fd/1", os.O_WRONLY)),
    tried(lambda: os.kill(1, 9)),
    tried(lambda: os.setuid(0)),
    tried(lambda: open("/usr/bin/evil", "w")),
    tried(lambda: open("/etc/passwd", "a")),
    os.path.exists("/root/.bashrc"), os.path.exists("/work/main/README.md"),
    sorted(name for name in os.environ if "KEY" in name or "TOKEN" in name),
]))
"""
    result = run(code)
    assert result.exit_code == 0, result.stderr
    closed = json.loads(result.stdout)
    assert closed[:7] == ["PermissionError", "OSError", *["PermissionError"] * 5]
    assert closed[7:] == [False, False, []]
