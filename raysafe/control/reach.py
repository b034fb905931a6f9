"""What a tool's arguments reach: paths, network addresses and people, read as the strictest reader would."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

UNREADABLE = "?"
"""Stands for a path or domain that can't be read for certain; no grant covers it."""
_URL = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{0,20}:[/\\]{2}(?=[^\s\"'<>])|(?i:https?|wss?|ftp):(?=\S))[^\s\"'<>]{0,2048}"
)
_NAMED_USER = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}:[/\\]{2}[^/\\?#]*@")
_AUTHORITY_END = re.compile(r"[\s/\\?#]")
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,62})\.)*[a-z0-9_](?:[a-z0-9_-]{0,62})")
_PATH = re.compile(r"(?:file:)?(?:(?:/[^\r\n/]*/|\.\.?/|~[^\s/]*/|[A-Za-z]:\\|\\\\)[^\r\n]*|[/~]\S*)")
_SEPARATORS = re.compile(r"[,;\s]+")


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys of objects included."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item


def urls_in(text: str) -> list[str]:
    """The URLs in a text; the whole of it too where it begins with one that names a user, spaces and all.

    A browser reads on past a quote to an @, and takes the host from behind it: such a URL gets an @ at its end.
    """
    whole = text.strip()
    found = [whole] if _NAMED_USER.match(whole) else []
    at = stop = -1
    for match in _URL.finditer(text):
        end = match.end()
        # both go forward only, so that the text is read once
        if at < end:
            at = text.find("@", end) % (len(text) + 1)
        if stop < end:
            ended = _AUTHORITY_END.search(text, end)
            stop = ended.start() if ended else len(text)
        found.append(match[0] + "@" * (at < stop))
    return found


def looks_like_path(text: str) -> bool:
    return _PATH.fullmatch(text.strip()) is not None


def domain_of(url: str) -> str:
    """The host of a URL or the domain that a text is, in lower case and ASCII; UNREADABLE where in doubt.

    Doubt: user names before the host, backslashes, escapes, addresses in odd notations, letters that IDNA refuses.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host = (parts.hostname or "").rstrip(".")
        parts.port  # noqa: B018 raises for what is no port
    except ValueError:
        return UNREADABLE
    if "@" in parts.netloc or "\\" in text or "%" in parts.netloc:
        return UNREADABLE
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        host = host.encode("idna").decode().lower()
    except UnicodeError:
        return UNREADABLE
    # a host whose last label is a number is an address in another notation, which resolvers read in several ways
    if not _HOST.fullmatch(host) or re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.rpartition(".")[2]):
        return UNREADABLE
    return host


def path_of(text: str) -> str:
    """An absolute, plain path; UNREADABLE where it is relative, climbs, or means something only to a shell."""
    path = text.strip().removeprefix("file://")
    if "\x00" in path or "\\" in path or "$" in path or "`" in path or path != unquote(path):
        return UNREADABLE
    if not path.startswith("/") or path.startswith("//") or ".." in path.split("/"):
        return UNREADABLE
    return posixpath.normpath(path)


def people_in(value: Any) -> int:
    """How many recipients an argument names: the items of a list, or of a text with commas, semicolons or spaces."""
    if isinstance(value, str):
        return max(len([part for part in _SEPARATORS.split(value) if part]), value.count("@"))
    if isinstance(value, list):
        return sum(people_in(item) for item in value)
    if isinstance(value, dict):
        return sum(max(people_in(key), people_in(item)) for key, item in value.items())
    return 0 if value is None else 1
