"""A PostgreSQL server of the tests' own, on a socket in a folder of theirs, where its programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def _unprivileged() -> str | None:
    """Whom the server must run as where we are root: it refuses to run as root."""
    if os.geteuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


@pytest.fixture(scope="session")
def postgresql_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the running server's socket."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    user = _unprivileged()
    folder = Path("/tmp") / f"raysafe-pg-{os.getpid()}"  # a socket's path must be short
    folder.mkdir(mode=0o700)
    try:
        if user:
            shutil.chown(folder, user)

        def run(*argv: str) -> None:
            subprocess.run(argv, check=True, capture_output=True, user=user, cwd=folder, timeout=60)

        data = str(folder / "data")
        run(str(programs / "initdb"), "-D", data, "-U", "raysafe", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        run(str(programs / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield folder
        finally:
            run(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def postgresql(postgresql_socket: Path) -> str:
    """The URL of an empty database, the module's own."""
    import psycopg

    name = f"test_{uuid4().hex}"
    with psycopg.connect(f"postgresql://raysafe@/postgres?host={postgresql_socket}", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://raysafe@/{name}?host={postgresql_socket}"
