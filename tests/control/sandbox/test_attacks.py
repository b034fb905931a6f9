"""Attacks of six classes: each is defeated in a sandbox, and where that is safe succeeds in a plain subprocess."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raysafe.control.sandbox import Policy, run
from raysafe.control.sandbox.cgroups import find_places
from tests.control.sandbox.attacks.attack import SUCCEEDED, Attack
from tests.control.sandbox.attacks.harness import batch, misled, naive_harvest, plainly, said_in_batch, single
from tests.control.sandbox.attacks.kernel import KERNEL
from tests.control.sandbox.attacks.network import NETWORK
from tests.control.sandbox.attacks.processes import PROCESSES
from tests.control.sandbox.attacks.resources import RESOURCES
from tests.control.sandbox.attacks.results import RESULTS
from tests.control.sandbox.attacks.secrets import SECRETS

pytestmark = [pytest.mark.serve, pytest.mark.usefixtures("isolation")]
MIB = 1 << 20
POLICY = Policy(
    memory_bytes=512 * MIB, cpu_seconds=60, wall_seconds=60, disk_bytes=20 * MIB, inodes=200, pids=32, output_bytes=MIB
)
OF_TIME = {"cpu": {"cpu_seconds": 0.4}, "wall": {"wall_seconds": 0.5}}
"""Bounds that are made tight for the attacks upon them alone: a busy machine takes its time."""
KINDS = {
    "resources": RESOURCES,
    "secrets": SECRETS,
    "kernel": KERNEL,
    "network": NETWORK,
    "processes": PROCESSES,
    "results": RESULTS,
}
NAMED = {
    f"{kind}: {attack.name}": attack
    for kind, attacks in KINDS.items()
    for attack in attacks
    if attack.machine in (None, platform.machine())
}
"""Each with its class."""
ATTACKS = list(NAMED.values())
SAFE = {name: attack for name, attack in NAMED.items() if attack.safe}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What is planted for them: a secret, a file to spoil, services, a process to harm."""
    folder = tmp_path_factory.mktemp("host")
    for name in ("secret", "target"):
        (folder / name).write_text("planted" if name == "secret" else "untouched")
    (folder / "readable").mkdir()
    (folder / "readable" / "read.txt").write_text("for you")
    os.environ["PLANTED_TOKEN"] = "planted"
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    listeners = [socket.create_server(("127.0.0.1", 0))]
    abstract = f"raysafe-{os.getpid()}"
    for address in ("\0" + abstract, str(folder / "readable" / "socket")):
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(address)
        unix.listen()
        listeners.append(unix)
    for listener in listeners:
        threading.Thread(target=_welcome, args=(listener,), daemon=True).start()
    places = find_places()
    yield {
        "secret": str(folder / "secret"),
        "target": str(folder / "target"),
        "readable": str(folder / "readable"),
        "home": str(Path.home()),
        "project": str(Path(__file__).parents[3]),
        "root": "/",
        "name": socket.gethostname(),
        "parent": os.getpid(),
        "command": Path("/proc/self/cmdline").read_text(encoding="utf-8"),
        "victim": victim.pid,
        "port": listeners[0].getsockname()[1],
        "abstract": abstract,
        "cgroup": str(places.of["memory"] if places else "/sys/fs/cgroup"),
    }
    del os.environ["PLANTED_TOKEN"]
    victim.kill()
    victim.wait()
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="module")
def sandboxed(host: dict[str, Any]) -> dict[str, bool]:
    """Of the attacks that end nothing, which succeeded in one sandbox."""
    policy = POLICY.model_copy(update={"readable": (host["readable"],), "pids": 100})
    result = run(batch([attack for attack in ATTACKS if not attack.alone], host), policy)
    assert result.limit_hit is None, result
    assert not [breach for breach in result.breaches if breach.what == "system call"], result
    return said_in_batch(result.stdout)


@pytest.fixture(scope="module")
def plain(host: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Of all that may be tried there, which succeeded in a plain subprocess."""
    folder = tmp_path_factory.mktemp("plain")
    succeeded = said_in_batch(plainly(batch(list(SAFE.values()), host), folder))
    Path(host["target"]).write_text("untouched")
    for at, attack in enumerate(SAFE.values()):
        if attack.leaves:
            succeeded[attack.name] = misled(naive_harvest(folder / str(at)), POLICY.disk_bytes)
    return succeeded


@pytest.mark.parametrize("attack", NAMED.values(), ids=NAMED)
def test_an_attack_is_defeated(attack: Attack, host: dict[str, Any], sandboxed: dict[str, bool]) -> None:
    if not attack.alone:
        assert sandboxed[attack.name] is False
        return
    policy = POLICY.model_copy(update=OF_TIME.get(attack.ends_by or "", {}))
    result = run(single(attack, host), policy)
    assert SUCCEEDED not in result.stdout
    assert not misled(dict(result.files), policy.disk_bytes)
    # a process that is refused and ends at once has ended before a watchdog looks
    refused_unseen = result.usage.enforced_by == "watchdog" and attack.ends_by == "pids"
    if attack.ends_by is not None and not refused_unseen:
        assert attack.ends_by in (result.limit_hit, *(breach.detail for breach in result.breaches)), result
    assert Path(host["target"]).read_text() == "untouched"


@pytest.mark.parametrize("attack", SAFE.values(), ids=SAFE)
@pytest.mark.skipif(os.geteuid() != 0, reason="many of them need root to succeed")
def test_the_same_attack_succeeds_in_a_plain_subprocess(attack: Attack, plain: dict[str, bool]) -> None:
    assert plain[attack.name] is True


def test_there_are_at_least_sixty_attacks_of_six_classes() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 60
    assert len(KINDS) == 6


def _welcome(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.sendall(b"welcome")
