"""What a gateway knows of its own health."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Health:
    """audit: whether the last row could be written."""

    audit: bool = True
