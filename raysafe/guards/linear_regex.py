"""Regular expressions of users in time linear in the text: RE2 (Cox, 2010), as pyarrow brings it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from raysafe.errors import ConfigError


class LinearRegex:
    """A pattern in RE2's syntax: no look-around and no references back."""

    def __init__(self, pattern: str) -> None:
        """Raises ConfigError where the pattern isn't in RE2's language."""
        self._options = pc.MatchSubstringOptions(pattern)
        try:
            self.search("")
        except pa.ArrowInvalid as error:
            reason = str(error).removeprefix("Invalid regular expression: ")
            raise ConfigError(
                f"the expression {pattern!r} can't be used: {reason}; RE2 has no look-around and no references"
            ) from None

    def search(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        return pc.call_function("match_substring_regex", [pa.scalar(_encodable(text))], self._options).as_py()


def _encodable(text: str) -> str:
    """Lone surrogates, which JSON's escapes can make, as the replacement character: RE2 reads UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
