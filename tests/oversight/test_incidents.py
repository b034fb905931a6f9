"""Incidents are what the audit log says; texts count only where the log has them, or their digest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from raysafe.errors import ConfigError, StorageError
from raysafe.guards.guard import Message, Tool
from raysafe.oversight import incidents as incidents_module
from raysafe.oversight.corrections import correct
from raysafe.oversight.incidents import Incident, Incidents, Wanted
from raysafe.records.hold_table import HoldRow
from raysafe.records.store import Store
from tests.oversight.exchanges import Past


@pytest.fixture
def past(store: Store, tmp_path: Path) -> Past:
    return Past(store, tmp_path / "audit")


def read(store: Store, **wanted: object) -> list[Incident]:
    return Incidents(store).read(Wanted.parse(wanted))[0]


def test_a_blocked_answer_is_an_incident_with_its_prompt_and_answer(store: Store, past: Past) -> None:
    past.happened("chat-1", (Message("system", "be kind"), Message("user", "hi")), "a bad answer")
    [found] = read(store)
    assert (found.id, found.stage, found.action, found.guard, found.state) == (
        "chat-1", "output", "block", "phrases", "blocked"
    )  # fmt: skip
    assert found.prompt == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    assert (found.answer, found.lacking) == ("a bad answer", None)


def test_what_was_stopped_before_the_model_has_no_answer(store: Store, past: Past) -> None:
    past.happened("chat-1", "how do i?")
    [found] = read(store)
    assert (found.prompt, found.answer) == ([{"role": "user", "content": "how do i?"}], None)


def test_an_exchange_that_was_let_pass_is_no_incident(store: Store, past: Past) -> None:
    past.happened("chat-1", "hi", "hello", action="allow")
    assert read(store) == []


@pytest.mark.parametrize("category", ["rate", "budget", "length", "error"])
def test_limits_and_failures_are_counted_and_no_incidents(store: Store, past: Past, category: str) -> None:
    past.happened("chat-1", "hi", category=category)  # type: ignore[arg-type]
    assert Incidents(store).read() == ([], 1)


def test_without_recorded_texts_a_block_says_what_is_missing(store: Store, tmp_path: Path) -> None:
    Past(store, tmp_path / "audit", record_text=False).happened("chat-1", "hi", "a bad answer")
    [found] = read(store)
    assert (found.prompt, found.answer, found.lacking) == (None, None, incidents_module.NO_TEXTS)


@pytest.mark.parametrize("answer", [None, "a bad answer"])
def test_without_recorded_texts_a_hold_has_them_from_the_store(
    store: Store, tmp_path: Path, answer: str | None
) -> None:
    Past(store, tmp_path / "audit", record_text=False).happened("chat-1", "hi", answer, action="hold")
    [found] = read(store)
    assert (found.prompt, found.answer, found.state) == ([{"role": "user", "content": "hi"}], answer, "held")


@pytest.mark.parametrize("where", ["messages", "output"])
def test_texts_that_were_changed_in_the_store_are_not_taken(store: Store, tmp_path: Path, where: str) -> None:
    past = Past(store, tmp_path / "audit", record_text=False)
    past.happened("chat-1", "hi", "a bad answer", action="hold")
    hold = past.holds.get("chat-1")
    assert hold is not None and hold.held is not None
    body = hold.held.model_dump(mode="json")
    if where == "output":
        body["output"] = "poison"
    else:
        body["messages"][0]["content"] = "poison"
    with store.session() as session:
        session.execute(update(HoldRow).values(body=body))
    [found] = read(store)
    assert (found.prompt, found.answer, found.lacking) == (None, None, incidents_module.DISPUTED)


def test_a_hold_that_has_expired_has_no_texts(store: Store, tmp_path: Path) -> None:
    Past(store, tmp_path / "audit", record_text=False).happened("chat-1", "hi", "bad", action="hold")
    with store.session() as session:
        session.execute(update(HoldRow).values(body={}))
    assert read(store)[0].lacking == incidents_module.NO_TEXTS


def test_a_reviewers_word_is_the_logs_and_not_the_stores(store: Store, past: Past) -> None:
    past.happened("chat-1", "hi", "fine", action="hold")
    past.happened("chat-2", "ho", "fine", action="hold")
    past.holds.decide("chat-1", "released", reviewer="rita", note="harmless")
    with store.session() as session:
        session.execute(update(HoldRow).where(HoldRow.id == "chat-2").values(outcome="released", reviewer="mallory"))
    first, second = read(store)
    assert first.word is not None and (first.state, first.word.by, first.word.note) == ("released", "rita", "harmless")
    assert (second.word, second.state) == (None, "held")


def test_a_correction_makes_an_incident_of_what_was_let_pass(store: Store, past: Past, tmp_path: Path) -> None:
    past.happened("chat-1", "hi", "wrong", action="allow")
    correct(tmp_path / "audit", "chat-1", "right\n", by="rita", note="it was wrong", asked_by="ann")
    [found] = read(store)
    assert found.correction is not None
    assert (found.state, found.answer, found.correction.answer) == ("corrected", "wrong", "right")


def test_the_later_correction_counts(store: Store, past: Past, tmp_path: Path) -> None:
    past.happened("chat-1", "hi", "wrong")
    for text in ("first", "second"):
        correct(tmp_path / "audit", "chat-1", text, by="rita", note="", asked_by="ann")
    [found] = read(store)
    assert found.correction is not None and found.correction.answer == "second"


def test_who_asked_corrects_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="somebody else"):
        correct(tmp_path / "audit", "chat-1", "mine", by=" ANN ", note="", asked_by="ann")
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize("text", ["", " \n", "x" * 100_001])
def test_a_correction_has_a_text_of_bounded_length(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="1 to 100,000 characters"):
        correct(tmp_path / "audit", "chat-1", text, by="rita", note="", asked_by="ann")


def test_a_log_that_was_changed_yields_nothing(store: Store, past: Past, tmp_path: Path) -> None:
    past.happened("chat-1", "hi", "a bad answer")
    path = tmp_path / "audit" / "gateway-m.jsonl"
    path.write_bytes(path.read_bytes().replace(b"a bad answer", b"a bad anchor"))
    with pytest.raises(StorageError, match=r"is broken .*, so no incident in it"):
        Incidents(store)


def test_incidents_are_chosen_by_time_model_and_tenant(store: Store, past: Past) -> None:
    past.happened("chat-1", "hi", "bad", model="a", tenant="acme")
    past.happened("chat-2", "hi", "bad", model="b")
    later, earlier = (datetime.now(UTC) + timedelta(hours=sign) for sign in (1, -1))
    assert [one.id for one in read(store, since=earlier)] == ["chat-1", "chat-2"]
    assert read(store, since=later) == []
    assert [one.id for one in read(store, model="b")] == ["chat-2"]
    assert [one.id for one in read(store, tenant="acme")] == ["chat-1"]


def test_tools_and_other_endpoints_are_named_as_what_rows_cannot_hold(store: Store, past: Past) -> None:
    past.happened("chat-1", "hi", "bad", tools=(Tool("f", "{}"),))
    past.happened("chat-2", "hi", "bad", tools=(Tool("f", "{}"),), action="hold")
    past.happened("cmpl-1", "hi", "bad", endpoint="completions")
    assert [one.lacking for one in read(store)] == [
        incidents_module.TOOLS, incidents_module.TOOLS, incidents_module.OTHER_ENDPOINT
    ]  # fmt: skip


def test_an_unknown_exchange_is_refused(store: Store, past: Past) -> None:
    past.happened("chat-1", "hi", "bad")
    assert Incidents(store).get("chat-1").answer == "bad"
    with pytest.raises(ConfigError, match="no exchange 'chat-2'"):
        Incidents(store).get("chat-2")
