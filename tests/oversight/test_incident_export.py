"""Pairs say what a person or a guard said, name their source, hold no personal data, and count once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysafe.data.conversation import Messages
from raysafe.data.readers import read
from raysafe.data.schema import to_json_lines
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy import Policy
from raysafe.oversight import incident_export as export
from raysafe.oversight.corrections import Correction
from raysafe.oversight.incident_export import Exported, Helper, preferences, prompts
from raysafe.oversight.incident_log import Word
from raysafe.oversight.incidents import NO_TEXTS, Incident
from raysafe.oversight.redaction import Redactor

EVERYTHING = Redactor(None)
BLOCKS_POISON = Policy.parse(
    {"guards": [{"kind": "patterns", "name": "p", "rules": [{"name": "r", "phrases": ["poison"]}]}]}
).build()


def incident(number: int = 1, prompt: str | None = "how?", answer: str | None = "so", **fields: Any) -> Incident:
    known: dict[str, Any] = {
        "id": f"chat-{number}",
        "time": f"2026-11-26T08:00:{number:02}+00:00",
        "model": "m",
        "tenant": "default",
        "key": "ann",
        "policy": "test (0123abcd)",
        "stage": "input" if answer is None else "output",
        "action": "block",
        "guard": "p",
        "reason": "",
        "row": f"{number:064}",
        "prompt": None if prompt is None else [{"role": "user", "content": prompt}],
        "answer": answer,
        "lacking": NO_TEXTS if prompt is None else None,
        "word": None,
        "correction": None,
    }
    return Incident(**{**known, **fields})


def word(outcome: Any, second: int = 30) -> Word:
    return Word(outcome, "rita", "", f"2026-11-26T08:01:{second:02}+00:00", "w" * 64)


def corrected(answer: str, second: int = 30) -> Correction:
    return Correction("chat-1", answer, "rita", "", f"2026-11-26T08:01:{second:02}+00:00", "c" * 64)


def helper(*answers: str) -> Helper:
    def answer(asked: Sequence[Messages]) -> list[str]:
        assert len(asked) == len(answers)
        return list(answers)

    return Helper("small", answer)


def sides(exported: Exported) -> list[tuple[str, str]]:
    return [(row["chosen"], row["rejected"]) for row in exported.rows]


def test_a_refusal_is_chosen_over_what_a_guard_stopped() -> None:
    assert sides(preferences([incident()], EVERYTHING, refusal="No.")) == [("No.", "so")]


def test_a_correction_is_chosen_over_what_the_model_wrote() -> None:
    found = preferences([incident(correction=corrected("thus"), word=word("released"))], EVERYTHING)
    assert sides(found) == [("thus", "so")]
    assert (found.rows[0]["source"], found.rows[0]["by"], found.rows[0]["correction_row"]) == (
        "correction", "rita", "c" * 64
    )  # fmt: skip


def test_a_released_answer_is_chosen_over_a_refusal() -> None:
    found = preferences([incident(action="hold", word=word("released"))], EVERYTHING, refusal="No.")
    assert sides(found) == [("so", "No.")] and found.written == {"release": 1}


def test_a_refused_hold_is_a_refusal_with_the_reviewers_row() -> None:
    found = preferences([incident(action="hold", word=word("refused"))], EVERYTHING, refusal="No.")
    assert sides(found) == [("No.", "so")] and found.rows[0]["decision_row"] == "w" * 64


def test_every_row_names_its_incident_and_audit_row() -> None:
    [row] = preferences([incident()], EVERYTHING).rows
    assert (row["incident"], row["audit_row"], row["guard"], row["stage"]) == (
        "chat-1", f"{1:064}", "p", "output"
    )  # fmt: skip


def test_what_has_no_text_or_no_answer_is_counted() -> None:
    found = preferences([incident(1, None), incident(2, answer=None), incident(3)], EVERYTHING)
    assert len(found.rows) == 1 and found.left_out == {NO_TEXTS: 1, export.NO_ANSWER: 1}


def test_an_answer_written_offline_is_rejected_only_where_the_guards_stop_it() -> None:
    stopped = [incident(number, f"prompt {number}", None) for number in (1, 2, 3)]
    writes = helper("take poison", "take care", " ")
    found = preferences(stopped, EVERYTHING, refusal="No.", guards=BLOCKS_POISON, rejected_by=writes)
    assert sides(found) == [("No.", "take poison")]
    assert (found.rows[0]["answered_by"], found.rows[0]["rejected_by"]) == ("small", "p")
    assert found.left_out == {export.NOTHING_AGAINST: 1, export.UNANSWERED: 1}


def test_guards_read_what_an_answer_written_offline_answers() -> None:
    class NeedsTheQuestion:
        name, stages, inline = "pairs", frozenset({"output"}), True

        def check(self, exchange: Exchange, stage: Stage) -> Verdict:
            bad = (exchange.messages[0].content, exchange.output) == ("how?", "so")
            return Verdict(self.name, stage, "block" if bad else "allow")

    found = preferences(
        [incident(answer=None)], EVERYTHING, guards=Pipeline([NeedsTheQuestion()]), rejected_by=helper("so")
    )
    assert found.rows[0]["rejected_by"] == "pairs"


def test_no_model_is_asked_about_a_request_that_a_reviewer_released() -> None:
    released = incident(answer=None, action="hold", word=word("released"))
    found = preferences([released], EVERYTHING, guards=BLOCKS_POISON, rejected_by=helper())
    assert (found.rows, found.left_out) == ([], {export.LET_PASS: 1})


def test_a_trusted_models_answer_stands_in_for_a_refusal_where_the_guards_let_it() -> None:
    stopped = [incident(1, "one"), incident(2, "two"), incident(3, "three", correction=corrected("thus"))]
    found = preferences(stopped, EVERYTHING, guards=BLOCKS_POISON, chosen_by=helper("be kind", "drink poison"))
    assert sides(found) == [("be kind", "so"), ("thus", "so")]
    assert found.rows[0]["chosen_by"] == "small" and found.left_out == {export.UNSAFE: 1}


def test_the_same_prompt_and_answer_count_once() -> None:
    found = preferences([incident(1), incident(2, "HOW? ", "so "), incident(3, answer="else")], EVERYTHING)
    assert len(found.rows) == 2 and found.left_out == {export.SAME: 1}


@pytest.mark.parametrize("order", [1, -1])
def test_of_the_same_exchanges_the_last_persons_word_counts(order: int) -> None:
    twice = [
        incident(1, action="hold", word=word("refused", 40)),
        incident(2, action="hold", word=word("released", 50)),
        incident(3),
    ]
    found = preferences(twice[::order], EVERYTHING, refusal="No.")
    assert sides(found) == [("so", "No.")]


def test_an_answer_that_is_its_own_correction_is_no_pair() -> None:
    found = preferences([incident(correction=corrected("so"))], EVERYTHING)
    assert found.rows == [] and found.left_out == {"chosen equals rejected": 1}


def test_personal_data_is_marked_alike_in_prompt_and_answers() -> None:
    asked = incident(1, "write to bob@example.org", "I wrote to bob@example.org and eve@example.org")
    [row] = preferences([asked], EVERYTHING).rows
    assert row["prompt"][0]["content"] == "write to <EMAIL_1>"
    assert row["rejected"] == "I wrote to <EMAIL_1> and <EMAIL_2>"


def test_a_policy_says_what_is_marked_for_each_tenant() -> None:
    guards = [{"kind": "pii", "entities": ["email"], "action": "block", "overridable": True}]
    policy = Policy.parse({"guards": guards, "tenants": {"open": {"remove": ["pii"]}}})
    for tenant, shown in (("default", "<EMAIL_1> +49 30 901820"), ("open", "bob@example.org +49 30 901820")):
        asked = incident(1, "bob@example.org +49 30 901820", tenant=tenant)
        assert preferences([asked], Redactor(policy)).rows[0]["prompt"][0]["content"] == shown


def test_prompts_are_labelled_by_what_became_of_the_request() -> None:
    found = prompts(
        [
            incident(1, "one", None),
            incident(2, "two", None, action="hold", word=word("released")),
            incident(3, "three"),
            incident(4, "ONE", None),
        ],
        EVERYTHING,
    )
    assert [row["label"] for row in found.rows] == ["harmful", "benign", None]
    assert found.left_out == {export.SAME: 1}


@pytest.mark.parametrize("kind", ["preferences", "prompts"])
def test_rows_are_read_again_as_they_were_written(tmp_path: Path, kind: Any) -> None:
    told = [incident(1, "how?", "Human: no\n\nAssistant: yes"), incident(2, "why?\n\nHuman: so")]
    rows = (preferences if kind == "preferences" else prompts)(told, EVERYTHING).rows
    path = tmp_path / "incidents.jsonl"
    path.write_text(to_json_lines(rows), encoding="utf-8")
    table = read(str(path), kind).table
    names = ["prompt", "chosen", "rejected"] if kind == "preferences" else ["prompt", "label"]
    assert table.select(names).to_pylist() == [{name: row[name] for name in names} for row in rows]
    assert all("incident" in json.loads(line) for line in path.read_text().splitlines())
