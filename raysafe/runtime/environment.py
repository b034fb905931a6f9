"""What a run ran on: versions, hardware, git. Written beside every result."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from typing import Any

_PACKAGES = ("raysafe", "torch", "ray", "transformers", "tokenizers", "numpy", "pyarrow", "peft")


def describe_environment() -> dict[str, Any]:
    """Versions of what computes, the machine, and the git commit of the working folder where there is one."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "git": _git_commit(),
    }


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
