"""Texts as they are shown: escaped by the templates, and with what can't be seen, or turns lines round, spelled out.

Bidirectional controls make text read in another order than it stands (CVE-2021-42574), tag characters and variation
selectors hide whole instructions, and a lone surrogate can't be sent at all: each is shown by its number.
"""

from __future__ import annotations

import unicodedata

from markupsafe import Markup, escape

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f")
"""Letters and marks that show nothing."""
_SELECTORS = range(0xE0100, 0xE01F0)


def is_hidden(character: str) -> bool:
    """Whether a character shows nothing, or changes how others are shown. Line ends and tabs are not hidden."""
    if character in "\n\t":
        return False
    if character in _BLANK or ord(character) in _SELECTORS:
        return True
    return not character.isprintable() and unicodedata.category(character) in _HIDDEN


def spelled(text: str) -> str:
    """The text with hidden characters as ⟨U+202E⟩: fit for any place in a page."""
    if text.isprintable() and _BLANK.isdisjoint(text) and not any(ord(c) in _SELECTORS for c in text):
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if is_hidden(c) else c for c in text)


def marked(text: str) -> Markup:
    """The text escaped, with hidden characters as marked numbers: for a place of its own in a page."""
    parts: list[str] = []
    plain: list[str] = []
    for character in text:
        if is_hidden(character):
            parts += [str(escape("".join(plain))), f'<mark class="hidden">U+{ord(character):04X}</mark>']
            plain.clear()
        else:
            plain.append(character)
    return Markup("".join((*parts, str(escape("".join(plain))))))
