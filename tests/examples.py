"""How many examples a property is tried on: all of them where RAYSAFE_VERIFY is set, a quarter elsewhere."""

from __future__ import annotations

import os


def examples(full: int) -> int:
    """`full` for `make verify`; elsewhere a quarter of it, and at least 15 (or `full`, where that is less)."""
    return full if os.environ.get("RAYSAFE_VERIFY") else min(full, max(15, full // 4))
