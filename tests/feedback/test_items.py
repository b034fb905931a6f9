"""Items from JSON Lines: the forms that are taken, and a sentence with file and line for those that aren't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysafe.errors import DataError
from raysafe.feedback.items import read_items
from tests.feedback.conftest import pair, png, write_items


def one(folder: Path, **row: Any):
    (item,) = read_items(write_items(folder, [row]))
    return item


@pytest.mark.parametrize(
    ("row", "kind", "sides"),
    [
        ({"prompt": "p", "a": "x", "b": "y"}, "text", [("x",), ("y",)]),
        ({"steps_a": ["l", "r"], "steps_b": ["r"]}, "steps", [("l", "r"), ("r",)]),
        ({"prompt": "p", "answer": "x"}, "text", [("x",)]),
        ({"steps": ["l", "r"]}, "steps", [("l", "r")]),
        ({"frames_a": ["0.png", "1.png"], "frames_b": ["1.png"]}, "frames", [("0.png", "1.png"), ("1.png",)]),
        ({"frames": ["0.png"]}, "frames", [("0.png",)]),
    ],
)
def test_every_form_is_read(tmp_path: Path, row: dict[str, Any], kind: str, sides: list[tuple[str, ...]]) -> None:
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png(index))
    item = one(tmp_path, **row)
    assert (item.kind, [side.parts for side in item.sides]) == (kind, sides)


def test_a_prompt_may_be_a_conversation(tmp_path: Path) -> None:
    turns = [{"role": r, "content": r} for r in ("user", "assistant", "user")]
    assert one(tmp_path, prompt=turns, a="x", b="y").prompt == turns


def test_without_an_id_an_item_is_named_by_what_it_holds(tmp_path: Path) -> None:
    first, again = one(tmp_path, prompt="p", a="x", b="y"), one(tmp_path, prompt="p", a="x", b="y")
    assert first.name == again.name != one(tmp_path, prompt="p", a="x", b="z").name


def test_the_digest_covers_what_is_in_the_frames(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(0))
    before = one(tmp_path, id="f", frames=["0.png"])
    (tmp_path / "0.png").write_bytes(png(9))
    assert one(tmp_path, id="f", frames=["0.png"]).digest != before.digest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "a": "x"}, "no field 'b' beside a"),
        ({"prompt": "p"}, "nothing to judge: give a [+] b"),
        ({"a": "x", "b": "y", "answer": "z"}, "at once"),
        ({"a": "x", "b": "x"}, "a equals b"),
        ({"a": "x", "b": "y", "promt": "p"}, "unknown field 'promt'; known fields"),
        ({"a": "x", "b": "  "}, "b has an empty answer"),
        ({"steps_a": [], "steps_b": ["x"]}, "steps_a must be a list of 1 to 5000 texts"),
        ({"steps_a": ["x", 3], "steps_b": ["x"]}, "steps_a must hold texts that aren't empty, found '3'"),
        ({"steps_a": "look", "steps_b": ["x"]}, "steps_a must be a list"),
        ({"answer": "x" * 200_001}, "longer than 200,000 characters"),
        ({"id": "", "a": "x", "b": "y"}, "id must be a printable text"),
        ({"id": "a\nb", "a": "x", "b": "y"}, "id must be a printable text"),
        ({"a": "x", "b": "y", "rewards_a": [1, 2]}, "rewards_b must list"),
        ({"a": "x", "b": "y", "rewards_a": [1, 2], "rewards_b": [1, 2, 3]}, "2 members and rewards_b of 3"),
        ({"answer": "x", "rewards_a": [1, 2], "rewards_b": [1, 2]}, "belong to comparisons"),
        ({"frames": ["gone.png"]}, "can't read frame 'gone.png'"),
        ({"frames": ["../x.png"]}, "must be a path below the folder"),
    ],
)
def test_a_bad_row_is_one_sentence_with_file_and_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = write_items(tmp_path, [pair(0), row])
    with pytest.raises(DataError, match=rf"items\.jsonl:2: .*{message}"):
        read_items(file)


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r":2: id 'q0' is that of line 1 already"):
        read_items(write_items(tmp_path, [pair(0), pair(0)]))


def test_a_line_that_is_no_json_and_a_file_without_lines_are_refused(tmp_path: Path) -> None:
    file = write_items(tmp_path, [pair(0)])
    file.write_text("{'a'}\n")
    with pytest.raises(DataError, match=r":1: not JSON"):
        read_items(file)
    file.write_text("")
    with pytest.raises(DataError, match="holds no items"):
        read_items(file)
