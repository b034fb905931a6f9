"""What of the host is seen in a sandbox, read-only: the interpreter, its packages, programs and libraries."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath

from raysafe.control.sandbox.policy import HOME

SYSTEM = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share/zoneinfo")
MERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""Links into /usr on most systems, folders of their own on others."""
SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")
OF_PREFIX = ("bin", "lib", "lib64", "pyvenv.cfg")
"""Of an installation of Python, or a virtual environment: nothing else of the folder that it is in."""
DEVICES = ("null", "zero", "full", "random", "urandom")
INSIDE = "/run/raysafe"
"""Where the keeper's own code is."""
PROXY, PROXY_PORT = "/run/raysafe-proxy", 3128
"""Where the filtering proxy's socket is, and the loopback port that leads to it, where there are domains."""
PASSWD = "sandbox:x:1000:1000::/tmp/sandbox:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = "sandbox:x:1000:\nnogroup:x:65534:\n"


def mounts(readable: tuple[str, ...]) -> list[str]:
    """Arguments of bubblewrap that build the file system; nothing in it can be written until process 1 mounts that."""
    shown = seen(readable)
    arguments = _folders([*shown, INSIDE, "/dev/shm/_", "/tmp/_", "/proc/_", "/etc/passwd"])
    for path in shown:
        arguments += ["--ro-bind", path, path]
    for path in MERGED:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
    arguments += ["--ro-bind", str(Path(__file__).parent / "inside"), INSIDE]
    for device in DEVICES:
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    links = {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
    }
    for name, target in links.items():
        arguments += ["--symlink", target, f"/dev/{name}"]
    return [*arguments, "--proc", "/proc"]


def below_tmp(readable: tuple[str, ...]) -> list[str]:
    """What of that is in /tmp, which process 1 covers and so must show again."""
    return [path for path in seen(readable) if path.startswith("/tmp/")]


def seen(readable: tuple[str, ...]) -> list[str]:
    """The host's files and folders that are seen at their own paths."""
    shown = [path for path in (*SYSTEM, *SETTINGS, *_python(), *readable) if os.path.exists(path)]
    return shown + [path for path in MERGED if os.path.isdir(path) and not os.path.islink(path)]


def _folders(paths: list[str]) -> list[str]:
    """Arguments that make the folders these are in, for everyone to pass: bubblewrap's own are closed to others."""
    parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    made = sorted(parents - {"/"})
    return [word for folder in made for word in ("--perms", "0755", "--dir", folder)]


def environment(cpus: float, *, network: bool = False) -> dict[str, str]:
    """The variables that the code is started with: all of them. network: whether there is a proxy."""
    paths = dict.fromkeys([str(Path(interpreter()).parent), "/usr/bin", "/bin", "/usr/sbin", "/sbin"])
    threads = str(max(1, int(cpus)))
    address = f"http://127.0.0.1:{PROXY_PORT}"
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY") if network else ()
    return {
        **dict.fromkeys(names, address),
        "PATH": ":".join(paths),
        "HOME": HOME,
        "TMPDIR": HOME,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


def interpreter() -> str:
    """This interpreter's path inside."""
    return str(Path(os.path.realpath(sys.prefix), "bin", Path(sys.executable).name))


def _python() -> list[str]:
    prefixes = [sys.base_prefix, sys.base_exec_prefix, sys.prefix]
    # what points to an installation may name it by a link
    prefixes = dict.fromkeys([*map(os.path.realpath, prefixes), *prefixes])
    return [str(Path(prefix, part)) for prefix in prefixes if prefix != "/usr" for part in OF_PREFIX]
