"""The OCI bundle of a gVisor sandbox (opencontainers/runtime-spec 1.0.2): config.json and an almost empty root."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from raysafe.control.sandbox.mounts import GROUP, INSIDE, MERGED, PASSWD, interpreter, seen
from raysafe.control.sandbox.policy import HOME, Policy

OCI_VERSION = "1.0.2"
KEEPER = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN")
"""What process 1 is allowed, within gVisor's own kernel alone; the job's process has none of it."""
NAMESPACES = ("pid", "network", "ipc", "uts", "mount")


def config(policy: Policy) -> dict[str, Any]:
    """config.json: the host's files of `mounts.seen`, read-only, and process 1, which waits for its job."""
    mounts: list[dict[str, Any]] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    mounts += [
        {"destination": inside, "type": "bind", "source": outside, "options": ["bind", "ro"]}
        for outside, inside in bound(policy)
    ]
    return {
        "ociVersion": OCI_VERSION,
        "hostname": "sandbox",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": [interpreter(), "-I", INSIDE, "guest"],
            "env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: list(KEEPER) for kind in ("bounding", "effective", "permitted")},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
        },
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def bound(policy: Policy) -> list[tuple[str, str]]:
    """(path on the host, path inside) of all that is seen."""
    return [*((path, path) for path in seen(policy.readable)), (str(Path(__file__).parent / "inside"), INSIDE)]


def write_bundle(folder: Path, policy: Policy) -> None:
    """Write config.json and the root, which holds links, the users' names, and the places that mounts are put on."""
    root = folder / "rootfs"
    for path in ("proc", "dev", "etc", HOME.lstrip("/")):
        (root / path).mkdir(parents=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    for path in MERGED:
        if os.path.islink(path):
            (root / path.lstrip("/")).symlink_to(os.readlink(path))
    places = bound(policy)
    for outside, inside in places:
        if any(inside.startswith(f"{other}/") for _, other in places):
            # its place is the host's own, in a folder that is seen
            continue
        place = root / inside.lstrip("/")
        if os.path.isdir(outside):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    (folder / "config.json").write_text(json.dumps(config(policy)))
