"""Rows that are written are read as the same rows again, whatever their texts look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.data.readers import read
from raysafe.data.schema import SCHEMAS, Kind, to_json_lines

texts = st.builds(
    lambda start, rest: f"{start}{rest}".strip(),
    st.sampled_from(["", "Human:", "Assistant: ", "\n\nHuman: yes\n\nAssistant: no", "{", "[]"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
).filter(bool)
prompts = texts.map(lambda text: [{"role": "user", "content": text}])
rows: dict[Kind, st.SearchStrategy[dict[str, Any]]] = {
    "preferences": st.fixed_dictionaries(
        {
            "prompt": prompts | st.just([]),
            "chosen": texts,
            "rejected": texts,
            "margin": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        }
    ).filter(lambda row: row["chosen"] != row["rejected"]),
    "demonstrations": st.fixed_dictionaries({"prompt": prompts, "completion": texts}),
    "prompts": st.fixed_dictionaries({"prompt": prompts, "label": st.none() | st.text()}),
}


@pytest.mark.parametrize("kind", rows)
@given(data=st.data())
def test_what_is_written_is_read_again(
    kind: Kind, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    drawn = data.draw(st.lists(rows[kind], min_size=1, max_size=3))
    written = [row | {"row": i} for i, row in enumerate(drawn, start=1)]
    file = tmp_path_factory.mktemp("rows", numbered=True) / "rows.jsonl"
    file.write_text(to_json_lines(written), encoding="utf-8")
    assert read(str(file), kind).table.to_pylist() == [
        {name: row.get(name) for name in SCHEMAS[kind].arrow.names} for row in written
    ]


def test_an_answer_that_begins_as_a_turn_keeps_its_words(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "user", "content": "q"}], "chosen": "no", "rejected": "Human: scissors", "margin": None}
    (tmp_path / "a.jsonl").write_text(to_json_lines([row]))
    assert read(str(tmp_path / "a.jsonl"), "preferences").table["rejected"].to_pylist() == ["Human: scissors"]
