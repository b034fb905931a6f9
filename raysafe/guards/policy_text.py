"""The text of a policy: YAML without keys given twice, and the last line that tells a whole file from part of one.

A file that is read while it is written, or that a full disk cut off, may well be a valid policy with fewer guards. So a
policy that is taken into use while a service runs must end with the line `...` (the end of a document in YAML), or with
`... # sha256:` and the digest of all lines before it, as `seal` writes it, which shows any other damage too.
"""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from raysafe.errors import ConfigError

_MARK = re.compile(rb"\.\.\.(?: # sha256:([0-9a-f]{64}))?")
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
END = "..."
MOST_BYTES = 16 << 20


def policy_values(text: str, source: str) -> dict[str, Any]:
    """The mapping in a policy's text; raises ConfigError."""
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date that doesn't exist
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{source} is nested too deeply") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold a mapping of fields to values, found a {type(values).__name__}")
    return values


def decoded(raw: bytes, source: str) -> str:
    """Raises ConfigError where the bytes aren't UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source} is not UTF-8 (byte {error.start}): save it as UTF-8") from None


def read_policy(path: str | Path) -> bytes:
    """The bytes of a policy file; raises ConfigError, also for what isn't a file, which might never end."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"can't read config file {path}: it is no file")
        if found.st_size > MOST_BYTES:
            raise ConfigError(f"{path} holds {found.st_size:,} bytes, over the {MOST_BYTES:,} of a policy")
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"can't read config file {path}: {error.strerror}") from None


def check_seal(raw: bytes, source: str) -> tuple[bool, bool]:
    """(whether the text ends with its mark, whether the mark holds a digest); raises ConfigError where the digest is
    that of another text."""
    body, _, last = raw.rstrip(b"\r\n").rpartition(b"\n")
    found = _MARK.fullmatch(last.rstrip(b"\r"))
    if found is None:
        return False, False
    if found[1] is None:
        return True, False
    if found[1].decode() != _digest(body + b"\n"):
        raise ConfigError(f"{source} was changed after it was sealed: if that was meant, seal it again")
    return True, True


def seal(text: str) -> str:
    """The text with its mark and digest as the last line, in place of a mark that it has."""
    body, _, last = text.rstrip("\r\n").rpartition("\n")
    if _MARK.fullmatch(last.rstrip("\r").encode()) is None:
        body = text.rstrip("\r\n")
    body += "\n"
    return f"{body}{END} # sha256:{_digest(body.encode())}\n"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


class _Loader(yaml.SafeLoader):
    """Refuses keys that are given twice, of which YAML would take the last, and keys that aren't text."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag == _MERGE:
                continue
            if key.tag != _TEXT:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{getattr(key, 'value', '')}' is not text: put it in quotes", key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value)
        return node
