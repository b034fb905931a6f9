"""The five kinds of rows, their Arrow schemas, and what a raw row must satisfy to become one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from raysafe.data.conversation import (
    MESSAGES,
    BadValue,
    Messages,
    is_turns,
    parse_answer,
    parse_prompt,
    parse_whole,
)
from raysafe.data.trajectories import SCHEMA as TRAJECTORIES
from raysafe.data.trajectories import parse as trajectory

Kind = Literal["preferences", "demonstrations", "prompts", "ratings", "trajectories"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Schema:
    """Columns of a kind, and the function that makes a row of it or raises BadValue."""

    arrow: pa.Schema
    parse: Callable[[Mapping[str, Any]], Row]


def preference(raw: Mapping[str, Any]) -> Row:
    """prompt + chosen + rejected, or two whole conversations that part at the last answer."""
    chosen, rejected = _field(raw, "chosen"), _field(raw, "rejected")
    if raw.get("prompt") == []:
        # texts that answer nothing: pairs made of rated texts
        prompt: Messages = []
        answers = [parse_answer(v, prompt, name) for v, name in ((chosen, "chosen"), (rejected, "rejected"))]
    elif raw.get("prompt") not in (None, "", []):
        prompt = parse_prompt(raw["prompt"], "prompt")
        answers = [parse_answer(v, prompt, name) for v, name in ((chosen, "chosen"), (rejected, "rejected"))]
    else:
        (prompt, first), (other, second) = parse_whole(chosen, "chosen"), parse_whole(rejected, "rejected")
        if prompt != other:
            raise BadValue("chosen and rejected part before the last answer, so they share no prompt")
        answers = [first, second]
    if answers[0] == answers[1]:
        raise BadValue("chosen equals rejected")
    margin = raw.get("margin")
    return {
        "prompt": prompt,
        "chosen": answers[0],
        "rejected": answers[1],
        "margin": None if margin is None or margin == "" else _number(margin, "margin"),
    }


def demonstration(raw: Mapping[str, Any]) -> Row:
    """prompt + completion, or a whole conversation as `messages` or `text` that ends in the answer."""
    if raw.get("prompt") not in (None, "", []):
        prompt = parse_prompt(raw["prompt"], "prompt")
        return {"prompt": prompt, "completion": parse_answer(_field(raw, "completion"), prompt, "completion")}
    name = "messages" if "messages" in raw else "text"
    prompt, completion = parse_whole(_field(raw, name), name)
    return {"prompt": prompt, "completion": completion}


def prompt(raw: Mapping[str, Any]) -> Row:
    """A prompt, perhaps with a label."""
    label = raw.get("label")
    return {"prompt": parse_prompt(_field(raw, "prompt"), "prompt"), "label": None if label is None else str(label)}


def rating(raw: Mapping[str, Any]) -> Row:
    """A text and the number that people gave it."""
    text = _field(raw, "text")
    if not isinstance(text, str) or not text.strip():
        raise BadValue("text must be a non-empty string")
    return {"text": text.strip(), "rating": _number(_field(raw, "rating"), "rating")}


SCHEMAS: dict[Kind, Schema] = {
    "preferences": Schema(
        pa.schema(
            {
                "prompt": MESSAGES,
                "chosen": pa.string(),
                "rejected": pa.string(),
                "margin": pa.float64(),
                "row": pa.int64(),
            }
        ),
        preference,
    ),
    "demonstrations": Schema(
        pa.schema({"prompt": MESSAGES, "completion": pa.string(), "row": pa.int64()}), demonstration
    ),
    "prompts": Schema(pa.schema({"prompt": MESSAGES, "label": pa.string(), "row": pa.int64()}), prompt),
    "ratings": Schema(pa.schema({"text": pa.string(), "rating": pa.float64(), "row": pa.int64()}), rating),
    "trajectories": Schema(TRAJECTORIES, trajectory),
}


def to_json_lines(rows: Sequence[Row]) -> str:
    """Rows of any kind as JSON Lines that are read as the same rows again."""
    return "".join(json.dumps(_raw(row), ensure_ascii=False) + "\n" for row in rows)


def _raw(row: Row) -> Row:
    """An answer that looks like a conversation ("Human: …") is written as a message, which it can't be mistaken in."""
    answers = {name: row[name] for name in ("chosen", "rejected", "completion") if name in row}
    return row | {
        name: [{"role": "assistant", "content": text}] if is_turns(text) else text for name, text in answers.items()
    }


def _field(raw: Mapping[str, Any], name: str) -> Any:
    if raw.get(name) is None:
        found = "it is null" if name in raw else f"found: {', '.join(map(str, raw))[:200] or 'nothing'}"
        raise BadValue(f"no field '{name}' ({found})")
    return raw[name]


def _number(value: Any, name: str) -> float:
    shown = repr(value)[:40] if isinstance(value, str | float | bool) else type(value).__name__
    # Python's float() takes True, and "1_0" as 10
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise BadValue(f"{name} must be a number, got {shown}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadValue(f"{name} must be a number, got {shown}") from None
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadValue(f"{name} must be finite, got {shown}")
    return number


__all__ = ["SCHEMAS", "BadValue", "Kind", "Messages", "Row", "Schema"]
