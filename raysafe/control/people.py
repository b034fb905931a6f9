"""Who does a thing: names as people give them. They are claims, kept in the audit log; nothing here proves them."""

from __future__ import annotations

import getpass
import os
import unicodedata


def person(given: str | None = None) -> str:
    """The name given, or RAYSAFE_REVIEWER, or the account that this process runs under."""
    named = (given or os.environ.get("RAYSAFE_REVIEWER", "")).strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # an account without a name, as in many pods
        return f"account {os.getuid()}"


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's, whatever their case, spacing and Unicode spelling."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
