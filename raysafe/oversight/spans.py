"""Spans of time as people write them."""

from __future__ import annotations

import re

from raysafe.errors import ConfigError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


def seconds_of(text: str, field: str) -> float:
    """Seconds of `30d`, `12h`, `45m` or `90s`; raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([dhms])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise ConfigError(f"{field}: '{text}' is no span of time: give such as 30d, 12h, 45m or 90s")
    return float(found[1]) * _UNITS[found[2]]
