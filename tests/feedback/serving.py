"""`raysafe feedback` as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Self

import httpx

COMMAND = (
    "import sys; from raysafe.cli.main import guarded; from raysafe.cli.feedback import main; "
    "sys.exit(guarded(lambda: main(sys.argv[1:])))"
)


class Server:
    """A server on a free port. Use as a context manager: it is ended by its own id."""

    def __init__(self, items: Path, out: Path, *flags: str) -> None:
        command = [sys.executable, "-c", COMMAND, str(items), "--out", str(out), "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said: list[str] = []
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("Ctrl-C"):
                break
        else:
            raise AssertionError("".join(self.said))
        found = re.search(r"page +(\S+)", "".join(self.said))
        assert found
        self.url = found[1]

    @property
    def tokens(self) -> dict[str, str]:
        return dict(re.findall(r"link of (\S+) +\S+#token=(\S+)", "".join(self.said)))

    def client(self, token: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def end(self) -> str:
        """Ctrl-C; returns what else was printed."""
        self.process.send_signal(2)
        rest, _ = self.process.communicate(timeout=60)
        return rest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
