"""Material for a judge, between lines that no text of it can write: they hold a mark from the sha256 of all of it.

Whoever writes an answer can't put the mark into it, because the answer decides the mark; yet the same question is
worded the same way each time, so that verdicts repeat and can be cached.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from raysafe.errors import DataError
from raysafe.judges.judge import Messages

Part = tuple[str, str]
"""What kind of text it is, one word, and the text."""
_LENGTH = 24
_OPENING = re.compile(rf"^<<<(\w+) ([0-9a-f]{{{_LENGTH}}})>>>$", re.MULTILINE)


def marked_question(
    parts: Sequence[Part], *, criterion: str, warning: str, task: str, end: str
) -> list[dict[str, str]]:
    """One user message: a warning about the material, the parts and the criterion's name between marks, then the task.

    warning: holds {mark} where the mark is named. The material stands first: the questions about one answer begin
    alike, which engines that keep prefixes read once.
    """
    # 96 bits that depend on every character of the material
    mark = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_LENGTH]
    material = "\n".join(
        f"<<<{kind} {mark}>>>\n{content}\n<<<end {kind} {mark}>>>"
        for kind, content in [*parts, ("criterion", criterion)]
    )
    return [{"role": "user", "content": f"{warning.format(mark=mark)}\n\n{material}\n\n{task}\n\n{end}"}]


def read_marked(messages: Messages) -> list[Part]:
    """The parts of such a message, the criterion last, exactly as they went in; raises DataError for any other text."""
    text = messages[-1]["content"] if messages else ""
    opening = _OPENING.search(text)
    if opening is None:
        raise DataError("this is no question to a judge: it has no marked material")
    mark = opening[2]
    block = re.compile(rf"^<<<(\w+) {mark}>>>\n(.*?)\n<<<end \1 {mark}>>>$", re.MULTILINE | re.DOTALL)
    return [(found[1], found[2]) for found in block.finditer(text)]
