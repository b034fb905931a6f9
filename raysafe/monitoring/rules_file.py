"""A file of rules that may change while the monitor runs: new rules are taken whole, or refused and the old ones stay.

As with policies, a change counts once the file has been the same at two looks, ends with its mark and is valid.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from raysafe.errors import ConfigError
from raysafe.guards.policy_text import END, check_seal, read_policy
from raysafe.monitoring.rules import Rules


class RulesChange(NamedTuple):
    """What became of a changed file: `rules` are the new ones, or None with the reason of the refusal."""

    rules: Rules | None
    reason: str = ""


class RulesFile:
    """The rules in a file; whoever has it calls `look` now and then."""

    def __init__(self, path: str | Path) -> None:
        """Read the first rules, which need no mark; raises ConfigError."""
        self._path = Path(path)
        self._raw = self._last = self._tried = read_policy(path)
        self._sealed = check_seal(self._raw, str(path))[1]
        self.rules = Rules.from_bytes(self._raw, str(path))

    def look(self) -> RulesChange | None:
        """What became of a change that two looks have found the same; None without one. `rules` are the new ones."""
        try:
            raw = read_policy(self._path)
        except ConfigError as error:
            raw = str(error).encode()
            return self._settled(raw, RulesChange(None, str(error)))
        return self._settled(raw, None)

    def _settled(self, raw: bytes, refused: RulesChange | None) -> RulesChange | None:
        settled, self._last = raw == self._last, raw
        if not settled or raw == self._tried:
            return None
        self._tried = raw
        if raw == self._raw:
            return None
        return refused or self._take(raw)

    def _take(self, raw: bytes) -> RulesChange | None:
        try:
            marked, sealed = check_seal(raw, str(self._path))
            if not marked:
                raise ConfigError(f"{self._path} doesn't end with the line '{END}', which tells a whole file: add it")
            if self._sealed and not sealed:
                raise ConfigError(f"{self._path} isn't sealed, but the rules in force are: seal it, or restart")
            rules = Rules.from_bytes(raw, str(self._path))
            if rules.name != self.rules.name:
                raise ConfigError(f"the rules of '{self.rules.name}' can't become those of '{rules.name}': restart")
        except ConfigError as error:
            return RulesChange(None, str(error))
        before, self.rules, self._raw, self._sealed = self.rules, rules, raw, sealed
        return RulesChange(rules) if rules != before else None
