"""Escapes: characters written inside a text by their number or name, and joints that hold a split word together.

%62, =62, \\x62, \\u0062, \\u{62}, \\U00000062, \\142, U+0062, &#98;, &#x62;, &lt;, and characters that nobody sees
(Unicode tags) become the character that they stand for. HTML tags, "bo" + "mb", and a word broken at a line's end
become a full stop, which parts words and hides inside one. Each says where it ends, so that one pass reads a text.
"""

from __future__ import annotations

import html
import re

from raysafe.guards.pieces import Piece

_TRIGGERS = "[%=\\\\&U\"'`<\\-\U000e0020-\U000e007e\U000e0100-\U000e01ef]"
_H = "[0-9a-fA-F]"


def _bytes(prefix: str) -> str:
    """One character in UTF-8, each byte written as `prefix` and two digits."""
    more = f"{prefix}[89abAB]{_H}"
    return f"(?:[0-7]{_H}|[cCdD]{_H}{more}|[eE]{_H}(?:{more}){{2}}|[fF][0-7](?:{more}){{3}})"


_JOINT = r"(?<=[\"'`])(?:\s{1,4}|\s{0,4}[+&.,]\s{0,4})[\"'`]"
_ESCAPE = (
    f"(?<=%){_bytes('%')}|(?<==){_bytes('=')}"
    rf"|(?<=\\)(?:x{_bytes(chr(92) * 2 + 'x')}"
    rf"|u(?![dD][89abAB]){_H}{{4}}|u[dD][89abAB]{_H}{{2}}\\u[dD][c-fC-F]{_H}{{2}}"
    rf"|u\{{{_H}{{1,6}}\}}|U{_H}{{8}}|[0-3][0-7]{{2}}|\r?\n)"
    rf"|(?<=U)\+[0-9A-F]{{4}}|(?<=&)(?:#[0-9]{{1,7}}|#[xX]{_H}{{1,6}}|[a-zA-Z]{{2,8}});"
    rf"|{_JOINT}|(?<=-)\r?\n|(?<=<)[/!a-zA-Z][^<>\n]{{0,60}}>|(?<=[\U000e0020-\U000e01ef])"
)


def _begun(prefix: str) -> str:
    return f"(?:{_H}{{2}}{prefix}){{0,3}}{_H}{{0,2}}"


# every beginning of an escape, and of those beginnings every beginning
_PARTIAL = (
    f"(?<=%){_begun('%')}|(?<==){_begun('=')}"
    rf"|(?<=\\)(?:x(?:{_H}{{2}}\\x){{0,3}}{_H}{{0,2}}(?:(?<={_H}{{2}})\\)?"
    rf"|u(?:\{{{_H}{{0,6}}|{_H}{{4}}\\u{_H}{{0,4}}|{_H}{{4}}\\|{_H}{{0,4}})|U{_H}{{0,8}}"
    rf"|[0-3][0-7]?|\r|)"
    rf"|(?<=U)(?:\+[0-9A-F]{{0,4}})?|(?<=&)(?:#[0-9]{{0,7}}(?![xX])|#(?:[xX]{_H}{{0,6}})?|[a-zA-Z]{{0,8}})"
    rf"|(?<=[\"'`])\s{{0,4}}(?:[+&.,]\s{{0,4}})?|(?<=-)\r?|(?<=<)(?:[/!a-zA-Z][^<>\n]{{0,60}})?"
)
_FIRST = re.compile(f"{_TRIGGERS}(?:{_ESCAPE}|(?:{_PARTIAL})\\Z)")
_TOKEN = re.compile(f"{_TRIGGERS}(?:{_ESCAPE})")
_BEGINNING = re.compile(f"{_TRIGGERS}(?:{_PARTIAL})")
_TRIGGER = re.compile(_TRIGGERS)
JOINT = "."
_LONGEST_BEGINNING = 62


def first_escape(text: str) -> int | None:
    """Where the first escape begins, or at the text's end what may become one.

    What stands right before it and might have begun an escape does so with what this one says: =6U+0062 is =6b.
    """
    found = _FIRST.search(text)
    if found is None:
        return None
    at = found.start()
    while (before := _begins_before(text, at)) is not None:
        at = before
    return at


def _begins_before(text: str, at: int) -> int | None:
    """Where a beginning of an escape begins that ends right before `at`: the nearest, for theirs are beginnings too."""
    nearby = range(at - 1, max(at - _LONGEST_BEGINNING, 0) - 1, -1)
    return next((t for t in nearby if _TRIGGER.match(text, t) and _BEGINNING.fullmatch(text, t, at)), None)


def unescape(piece: Piece, last: bool) -> tuple[Piece, Piece]:
    """(the piece with its escapes read, its end that may be the beginning of one; nothing where it is the last)."""
    text, at, when = piece.text, 0, 0
    parts: list[str] = []
    starts, ends, whens = list[int](), list[int](), list[int]()

    def literal(stop: int) -> None:
        parts.append(text[at:stop])
        starts.extend(piece.starts[at:stop])
        ends.extend(piece.ends[at:stop])
        if at < stop and when > piece.whens[at]:
            whens.extend(max(when, told) for told in piece.whens[at:stop])
        else:
            whens.extend(piece.whens[at:stop])

    trigger = _TRIGGER.search(text)
    while trigger is not None:
        begin = trigger.start()
        token = _TOKEN.match(text, begin)
        if token is not None:
            literal(begin)
            at, final = token.end(), token.end() - 1
            when = max(when, piece.whens[final])
            said = _said(token[0])
            parts.append(said)
            starts.extend([piece.starts[begin]] * len(said))
            ends.extend([piece.ends[final]] * len(said))
            whens.extend([when] * len(said))
            trigger = _TRIGGER.search(text, at)
            continue
        beginning = _BEGINNING.match(text, begin)
        stop = begin + 1 if beginning is None else beginning.end()
        if stop == len(text) and not last:
            literal(begin)
            return Piece("".join(parts), starts, ends, whens, piece.starts[begin]), piece.part(begin, len(text))
        literal(begin)
        at = begin
        # it could be told for no escape only when the character after its beginning came
        when = max(when, piece.whens[min(stop, len(text) - 1)])
        literal(begin + 1)
        at = begin + 1
        trigger = _TRIGGER.search(text, at)
    literal(len(text))
    return Piece("".join(parts), starts, ends, whens, piece.after), piece.part(len(text), len(text))


def _said(token: str) -> str:
    """What one escape stands for."""
    kind, code = token[0], token[1:]
    if kind in "\"'`<-" or code[-1:] == "\n":
        return JOINT
    if kind == "%" or kind == "=":
        return bytes.fromhex(token.replace(kind, "")).decode("utf-8", "replace")
    if kind == "&":
        return html.unescape(token)
    if kind == "U":
        return chr(int(code[1:], 16))
    if kind != "\\":
        point = ord(kind)
        return chr(point - 0xE0000) if point < 0xE0100 else chr(point - 0xE0100 + 16)
    if code[0] == "x":
        return bytes.fromhex(token.replace("\\x", "")).decode("utf-8", "replace")
    if code[0] not in "uU":
        return chr(int(code, 8))
    if "\\" in code:
        return _pair(code)
    number = int(code[1:].strip("{}"), 16)
    return chr(number) if number < 0x110000 else "\ufffd"


def _pair(code: str) -> str:
    """A character beyond the first plane, written as a surrogate pair: ud835\\udc1b."""
    high, low = int(code[1:5], 16), int(code[-4:], 16)
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
