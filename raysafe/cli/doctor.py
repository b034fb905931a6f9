"""`raysafe doctor`: what this machine and cluster offer, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import tyro

from raysafe.cli.output import print_json, print_table
from raysafe.errors import RaySafeError

Status = Literal["ok", "warn", "missing"]
ENOUGH_DISK_BYTES, ENOUGH_MEMORY_BYTES = 5 << 30, 4 << 30
CONNECT_TIMEOUT_S = 2.0


class Finding(NamedTuple):
    """One line of the table. `missing` is for what nothing works without."""

    what: str
    status: Status
    found: str
    remedy: str = ""


def main(argv: list[str]) -> int:
    """Print the table; exit code 1 where something needed is missing."""
    return tyro.cli(doctor, args=argv, prog="raysafe doctor", description=__doc__)


def doctor(
    *,
    address: Annotated[str | None, tyro.conf.arg(help="Cluster to look at; RAY_ADDRESS by default.")] = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json", help="Print JSON instead of a table.")] = False,
) -> int:
    """Look at Python, torch, GPUs, Ray, ports, sandbox, disk, memory, store and extras."""
    findings = list(examine(address or os.environ.get("RAY_ADDRESS")))
    if as_json:
        print_json([f._asdict() for f in findings])
    else:
        print_table(("what", "status", "found", "what to do"), findings)
    return 1 if any(f.status == "missing" for f in findings) else 0


def examine(address: str | None) -> Iterator[Finding]:
    """All findings, one at a time."""
    yield _python()
    yield from _torch()
    yield _package("ray", "ray", needed=True)
    yield _token()
    yield _cluster(address)
    for port, use in ((8000, "raysafe serve"), (8265, "Ray's dashboard")):
        yield _port(port, use)
    yield from _sandbox()
    yield _disk()
    yield _memory()
    yield _store()
    for extra, module in (("lora", "peft"), ("vllm", "vllm"), ("postgres", "psycopg"), ("interpret", "captum")):
        yield _package(f"extra {extra}", module, needed=False, extra=extra)
    for module in ("wandb", "mlflow"):
        yield _package(f"extra track ({module})", module, needed=False, extra="track")


def _python() -> Finding:
    right = sys.version_info >= (3, 11)
    return Finding(
        "Python", "ok" if right else "missing", platform.python_version(), "" if right else "use 3.11 or later"
    )


def _torch() -> Iterator[Finding]:
    if util.find_spec("torch") is None:
        yield Finding("torch", "missing", "not installed", "pip install torch")
        return
    import torch

    from raysafe.runtime.parallel import cpu_has_bfloat16

    yield Finding("torch", "ok", str(torch.__version__))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    remedy = "" if gpus else "training works on the CPU; for GPUs install a CUDA build of torch and a driver"
    yield Finding("GPUs", "ok" if gpus else "warn", ", ".join(gpus) or "none", remedy)
    fast = cpu_has_bfloat16()
    yield Finding(
        "bfloat16 on the CPU",
        "ok" if fast else "warn",
        "in hardware" if fast else "emulated",
        "" if fast else "use float32",
    )


def _package(what: str, module: str, *, needed: bool, extra: str = "") -> Finding:
    if util.find_spec(module) is None:
        remedy = f"pip install 'raysafe[{extra}]'" if extra else f"pip install {module}"
        return Finding(what, "missing" if needed else "warn", "not installed", remedy)
    try:
        return Finding(what, "ok", metadata.version(module))
    except metadata.PackageNotFoundError:
        return Finding(what, "ok", "installed")


def _cluster(address: str | None) -> Finding:
    if not address:
        return Finding("cluster", "ok", "none named: jobs start a local Ray")
    # Ray itself tries an address where nobody listens for more than a minute
    if not _listens(address):
        remedy = "start it with `ray start --head`, or unset RAY_ADDRESS"
        return Finding("cluster", "warn", f"nothing answers at {address}", remedy)
    try:
        if address.startswith(("http://", "https://")):
            from raysafe.runtime.jobs import job_client

            job_client(address)
            return Finding("cluster", "ok", f"{address}: takes jobs by `raysafe submit`")
        from raysafe.runtime.cluster import cluster_nodes, connect

        connect(address)
        nodes = cluster_nodes()
    except RaySafeError as error:
        return Finding("cluster", "warn", address, str(error))
    count = sum(n.count for n in nodes)
    cpus, gpus = sum(n.cpus * n.count for n in nodes), sum(n.gpus * n.count for n in nodes)
    return Finding("cluster", "ok", f"{address}: {count} node(s), {cpus:g} CPUs, {gpus:g} GPUs")


def _listens(address: str) -> bool:
    """Whether anything accepts a connection there; an address without host and port is left to Ray."""
    url = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 10001 if "://" in address else None)
    except ValueError:
        return False
    if url.hostname is None or port is None:
        return True
    try:
        socket.create_connection((url.hostname, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _token() -> Finding:
    """Whether a token protects the clusters that this machine starts and joins, as Ray 2.60 looks for it."""
    if util.find_spec("ray") is None:
        return Finding("auth token", "warn", "Ray is not installed")
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        remedy = "unset RAY_AUTH_MODE where others share the machine or network"
        return Finding("auth token", "warn", "switched off by RAY_AUTH_MODE", remedy)
    from ray._raylet import AuthenticationTokenLoader  # pyright: ignore[reportAttributeAccessIssue]

    try:
        held = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    except Exception as error:  # Ray raises its own kinds for a token file that is empty or missing
        found = (str(error).strip().splitlines() or ["can't be read"])[0]
        return Finding("auth token", "warn", found, "mend RAY_AUTH_TOKEN_PATH, or unset it")
    if held:
        return Finding("auth token", "ok", "held")
    if mode == "token":
        return Finding("auth token", "warn", "asked for, none held", "ray get-auth-token --generate")
    return Finding("auth token", "ok", "none held: a local Ray makes one; a cluster's own goes into RAY_AUTH_TOKEN")


def _port(port: int, use: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Finding(f"port {port}", "warn", f"in use, {use} wants it", "end what listens there, or give --port")
    return Finding(f"port {port}", "ok", f"free for {use}")


def _sandbox() -> Iterator[Finding]:
    """Whether code can be isolated, by isolating some; and what binds it."""
    from raysafe.control.sandbox import Policy, Sandbox, SandboxUnavailable
    from raysafe.control.sandbox.bubblewrap import bubblewrap
    from raysafe.control.sandbox.job import Job

    try:
        with Sandbox(Policy(wall_seconds=CONNECT_TIMEOUT_S * 5)) as sandbox:
            landlock, bound_by = sandbox.landlock, sandbox.bound_by
            result = sandbox.run(Job.of("print('inside')"))
    except SandboxUnavailable as error:
        remedy = "allow user namespaces (sysctl user.max_user_namespaces, or the pod's profile)"
        yield Finding("sandbox", "warn", str(error), remedy)
        return
    works = result.stdout == "inside\n"
    yield Finding("sandbox", "ok" if works else "warn", bubblewrap() if works else f"can't run: {result.stderr[-200:]}")
    yield Finding(
        "sandbox limits",
        "warn" if bound_by == "watchdog" else "ok",
        "a watchdog over summed memory, processes and time" if bound_by == "watchdog" else bound_by,
        "a watchdog can be outrun for a moment: delegate a control group to this user"
        if bound_by == "watchdog"
        else "",
    )
    remedy = "" if landlock else "boot with lsm=landlock,…; without it programs run only under `execute: true`"
    yield Finding("Landlock", "ok" if landlock else "warn", f"ABI {landlock}" if landlock else "none", remedy)
    yield _gvisor()


def _gvisor() -> Finding:
    """Whether a policy may ask for gVisor."""
    from raysafe.control.sandbox.opening import check_isolation
    from raysafe.control.sandbox.policy import Policy
    from raysafe.control.sandbox.result import SandboxUnavailable

    runsc = shutil.which("runsc")
    if runsc is None:
        return Finding("gVisor", "ok", "no runsc: sandboxes are bubblewrap's")
    try:
        check_isolation(Policy(backend="gvisor"))
    except SandboxUnavailable as error:
        return Finding("gVisor", "warn", str(error), "needed for sandboxes whose policy says `backend: gvisor` alone")
    return Finding("gVisor", "ok", f"{runsc}, for policies that say `backend: gvisor`")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    right = free >= ENOUGH_DISK_BYTES
    return Finding(
        "disk", "ok" if right else "warn", f"{free / 2**30:.1f} GiB free here", "" if right else "free some space"
    )


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    right = free >= ENOUGH_MEMORY_BYTES
    return Finding(
        "memory", "ok" if right else "warn", f"{free / 2**30:.1f} GiB free", "" if right else "end other programs"
    )


def _store() -> Finding:
    from raysafe.records.store import default_url, open_store

    url = default_url()
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.exists():
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        if not os.access(folder, os.W_OK):
            return Finding("store", "warn", f"{folder} can't be written", "set RAYSAFE_STORE to a place that can")
        return Finding("store", "ok", "none yet: the first `raysafe registry register` makes it")
    return _told("store", lambda: open_store(url).close(), "opens")


def _told(what: str, attempt: Callable[[], None], found: str) -> Finding:
    try:
        attempt()
    except RaySafeError as error:
        return Finding(what, "warn", "can't be opened", str(error))
    return Finding(what, "ok", found)
