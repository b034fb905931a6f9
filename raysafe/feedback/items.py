"""What people are shown: two answers or trajectories to compare, or one to rate; read from JSON Lines.

    {"prompt": …, "a": "text", "b": "text"}               answers to compare, after a text or messages
    {"steps_a": ["text", …], "steps_b": [ … ]}            trajectories as texts; "prompt" may be left out
    {"frames_a": ["a/0.png", …], "frames_b": [ … ]}       trajectories as PNG or JPEG files below the file's folder
    {"prompt": …, "answer": "text"}, {"steps": [ … ]}, {"frames": [ … ]}     one to rate

Each may have an "id" (by default the digest of what it holds), and comparisons an ensemble's "rewards_a", "rewards_b".
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from raysafe.config import Config
from raysafe.data.conversation import BadValue, Messages, parse_answer, parse_prompt
from raysafe.data.files import raw_rows
from raysafe.errors import DataError
from raysafe.feedback.frames import read_frame
from raysafe.runtime.bar import Bar

Kind = Literal["text", "steps", "frames"]
FORMS: dict[tuple[str, ...], Kind] = {
    ("a", "b"): "text",
    ("steps_a", "steps_b"): "steps",
    ("frames_a", "frames_b"): "frames",
    ("answer",): "text",
    ("steps",): "steps",
    ("frames",): "frames",
}
NAME_LENGTH = 200
MOST_PARTS = 5000
TEXT_LENGTH = 200_000
SHOWN_BAD_ROWS = 5


class Side(Config):
    """One of the things to look at: an answer, or a trajectory's steps or frames in order."""

    parts: tuple[str, ...]

    @property
    def text(self) -> str:
        """The answer, or the steps a line each."""
        return "\n".join(self.parts)


class Item(Config):
    """One question to the raters: two sides, a and b, to compare, or one to rate."""

    name: str
    kind: Kind
    prompt: Messages
    sides: tuple[Side, ...]
    rewards: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """An ensemble's rewards of the two sides, a member each."""
    digest: str
    """sha256 of prompt and sides, the content of frames included."""

    @property
    def compares(self) -> bool:
        return len(self.sides) == 2


def read_items(path: str | Path) -> list[Item]:
    """The items of a file, in order; raises DataError naming file and line of those that can't be used."""
    file = Path(path)
    items: dict[str, tuple[Item, int]] = {}
    bad: list[str] = []
    # frames are read whole for their digests
    with Bar("reading items", unit="item") as bar:
        for raw in raw_rows(file):
            try:
                if isinstance(raw.value, str):
                    raise BadValue(raw.value)
                item = parse_item(raw.value, file.parent)
                if item.name in items:
                    raise BadValue(f"id '{item.name}' is that of line {items[item.name][1]} already")
                items[item.name] = (item, raw.line)
            except BadValue as error:
                bad.append(f"{raw.file}:{raw.line}: {error}")
            bar.advance(1)
    if bad:
        more = f"; … ({len(bad)} bad rows)" if len(bad) > SHOWN_BAD_ROWS else ""
        raise DataError("; ".join(bad[:SHOWN_BAD_ROWS]) + more)
    if not items:
        raise DataError(f"{path} holds no items")
    return [item for item, _ in items.values()]


def parse_item(raw: Mapping[str, Any], folder: Path) -> Item:
    """An item from a row; raises BadValue. folder: where the frames' names start."""
    fields, kind = _form(raw)
    prompt = [] if raw.get("prompt") in (None, "", []) else parse_prompt(raw["prompt"], "prompt")
    sides = tuple(Side(parts=_parts(raw[field], kind, field, prompt)) for field in fields)
    if len(sides) == 2 and sides[0] == sides[1]:
        raise BadValue(f"{fields[0]} equals {fields[1]}: there is nothing to compare")
    content: list[Any] = [kind, prompt, *(side.parts for side in sides)]
    if kind == "frames":
        try:
            frames = [[read_frame(folder, name).content for name in side.parts] for side in sides]
        except DataError as error:
            raise BadValue(str(error)) from None
        content.append([[hashlib.sha256(frame).hexdigest() for frame in side] for side in frames])
    digest = hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()
    return Item(
        name=_name(raw.get("id"), digest),
        kind=kind,
        prompt=prompt,
        sides=sides,
        rewards=_rewards(raw, len(sides)),
        digest=digest,
    )


def _form(raw: Mapping[str, Any]) -> tuple[tuple[str, ...], Kind]:
    """The fields that hold the sides, and what these are."""
    known = {"id", "prompt", "rewards_a", "rewards_b"}.union(*FORMS)
    unknown = sorted(set(raw) - known)
    if unknown:
        raise BadValue(f"unknown field '{unknown[0][:40]}'; known fields: {', '.join(sorted(known))}")
    found = [fields for fields in FORMS if any(field in raw for field in fields)]
    if len(found) != 1:
        what = "nothing to judge" if not found else f"{' and '.join(' + '.join(fields) for fields in found)} at once"
        raise BadValue(f"{what}: give a + b, steps_a + steps_b, frames_a + frames_b, answer, steps, or frames")
    (fields,) = found
    missing = [field for field in fields if raw.get(field) is None]
    if missing:
        raise BadValue(f"no field '{missing[0]}' beside {', '.join(f for f in fields if f not in missing) or 'it'}")
    return fields, FORMS[fields]


def _parts(value: Any, kind: Kind, field: str, prompt: Messages) -> tuple[str, ...]:
    if kind == "text":
        parts: Sequence[Any] = (parse_answer(value, prompt, field),)
    elif not isinstance(value, list) or not 0 < len(value) <= MOST_PARTS:
        raise BadValue(f"{field} must be a list of 1 to {MOST_PARTS} texts")
    else:
        parts = value
    for part in parts:
        if not isinstance(part, str) or not part.strip():
            raise BadValue(f"{field} must hold texts that aren't empty, found {str(part)[:40]!r}")
    if sum(map(len, parts)) > TEXT_LENGTH:
        raise BadValue(f"{field} is longer than {TEXT_LENGTH:,} characters: nobody reads it, cut it")
    return tuple(parts)


def _name(given: Any, digest: str) -> str:
    if given is None:
        return digest[:16]
    if isinstance(given, int) and not isinstance(given, bool):
        given = str(given)
    if not isinstance(given, str) or not given.strip() or len(given) > NAME_LENGTH or not given.isprintable():
        raise BadValue(f"id must be a printable text of 1 to {NAME_LENGTH} characters, got {str(given)[:40]!r}")
    return given


def _rewards(raw: Mapping[str, Any], sides: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    given = [raw.get("rewards_a"), raw.get("rewards_b")]
    if given == [None, None]:
        return None
    if sides != 2:
        raise BadValue("rewards_a and rewards_b belong to comparisons")
    rewards: list[tuple[float, ...]] = []
    for name, values in zip(("rewards_a", "rewards_b"), given, strict=True):
        if not isinstance(values, list) or len(values) < 2 or not all(map(_is_number, values)):
            raise BadValue(f"{name} must list the finite rewards of two members or more")
        rewards.append(tuple(map(float, values)))
    if len(rewards[0]) != len(rewards[1]):
        raise BadValue(f"rewards_a is of {len(rewards[0])} members and rewards_b of {len(rewards[1])}")
    return rewards[0], rewards[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
