"""Runs payloads: many in one process each, told apart by their output; in a sandbox, or plainly."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from raysafe.control.sandbox.seccomp import ARCHITECTURES
from raysafe.control.sandbox.syscalls import ALLOWED, BY_ARGUMENT, HOSTILE, REFUSED
from tests.control.sandbox.attacks.attack import SUCCEEDED, Attack

PRELUDE = """
import ctypes, os
HOST = {host!r}
N = {numbers!r}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(name, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(N[name]), *words)
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""
BATCH = """
import json
said = {{}}
for at, (name, code) in enumerate({codes!r}.items()):
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(tell, 1)
        os.dup2(os.open('/dev/null', os.O_WRONLY), 2)
        os.closerange(3, 1024)
        os.setsid()
        os.mkdir(str(at))
        os.chdir(str(at))
        try:
            exec(code, globals())
            import sys
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.close(tell)
    with os.fdopen(told, errors='replace') as lines: said[name] = lines.read()
    os.waitpid(child, 0)
print(json.dumps(said))
"""


def prelude(host: dict[str, Any]) -> str:
    column = ARCHITECTURES[platform.machine()][0]
    numbers = {name: n[column] for table in (ALLOWED, BY_ARGUMENT, REFUSED, HOSTILE) for name, n in table.items()}
    # not in the tables, which is how they are refused
    numbers |= {
        "shmget": (29, 194)[column],
        "memfd_create": (319, 279)[column],
        "io_uring_setup": 425,
        "name_to_handle_at": (303, 264)[column],
    }
    return PRELUDE.format(host=host, numbers=numbers)


def single(attack: Attack, host: dict[str, Any]) -> str:
    return prelude(host) + attack.code


def batch(attacks: list[Attack], host: dict[str, Any]) -> str:
    """One source for many, each in a process and a numbered folder of its own; it prints what each said, as JSON."""
    return prelude(host) + BATCH.format(codes={attack.name: attack.code for attack in attacks})


def plainly(source: str, folder: Path) -> str:
    """What a source prints in a plain subprocess, which has this process's environment."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def said_in_batch(stdout: str) -> dict[str, bool]:
    return {name: SUCCEEDED in text for name, text in json.loads(stdout).items()}


def naive_harvest(folder: Path) -> dict[str, bytes]:
    """Results as one might take them without care."""
    places = [path for path in folder.rglob("*") if path.is_file()]
    places += [inner for path in folder.iterdir() if path.is_symlink() and path.is_dir() for inner in path.iterdir()]
    return {os.path.relpath(path, folder): path.read_bytes() for path in places if path.is_file()}


def misled(files: dict[str, bytes], most_bytes: int) -> bool:
    """Whether results hold a secret, a misleading name, a copy under another name, or too many bytes."""
    return (
        any(b"planted" in content and name != "a" for name, content in files.items())
        or any(not name.isprintable() or "\\" in name or name.count("/") > 40 for name in files)
        or sum(map(len, files.values())) > most_bytes
    )
