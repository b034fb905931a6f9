"""`raysafe review`: what is shown is what serving will do, and a decision hits the version that was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from raysafe.cli.main import main
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.records.tables import DecisionRow
from tests.records.test_registry import make_run

BY_ADA = ["--reviewer", "Ada", "--reason", "figures hold"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a store and one registered version, tiny:1."""
    monkeypatch.setenv("RAYSAFE_STORE", f"sqlite:///{tmp_path}/raysafe.db")
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    assert main(["registry", "register", str(make_run(tmp_path / "one")), "--name", "tiny"]) == 0
    return tmp_path


def run(capsys: Capture, *argv: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    capsys.readouterr()
    code = main(list(argv))
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def delete_rejections() -> None:
    with open_store() as store, store.session() as session:
        session.execute(delete(DecisionRow).where(DecisionRow.outcome == "rejected"))


def test_a_name_with_one_version_is_enough(shop: Path, capsys: Capture) -> None:
    assert run(capsys, "review", "approve", "tiny", *BY_ADA) == (
        0,
        "tiny:1 approved by Ada\nnext: raysafe serve tiny:1\n",
    )


@pytest.mark.parametrize("act", ["approve", "reject"])
def test_a_name_with_several_versions_is_one_sentence_that_names_them(shop: Path, capsys: Capture, act: str) -> None:
    assert main(["registry", "register", str(make_run(shop / "two", weights="2")), "--name", "tiny"]) == 0
    sentence = "raysafe: 'tiny' has several versions, tiny:1, tiny:2: say which one is meant, as NAME:NUMBER\n"
    assert run(capsys, "review", act, "tiny", *BY_ADA) == (2, sentence)
    assert run(capsys, "review", act, "tiny:1", *BY_ADA)[0] == 0
    with open_store() as store:
        digest = Registry(store).get("tiny:2").digest
    assert run(capsys, "review", act, digest[:12], *BY_ADA)[1].startswith("tiny:2 ")


def test_an_approval_says_what_still_stands_against_serving(shop: Path, capsys: Capture) -> None:
    assert main(["registry", "register", str(shop / "one"), "--name", "copy"]) == 0
    assert main(["review", "reject", "tiny", *BY_ADA]) == 0
    code, printed = run(capsys, "review", "approve", "copy", *BY_ADA)
    assert code == 0
    assert "not served yet: copy:1 holds the files of tiny:1, which was rejected by Ada" in printed


def test_list_and_show_do_not_believe_a_store_that_the_log_contradicts(shop: Path, capsys: Capture) -> None:
    for act in ("approve", "reject"):
        assert main(["review", act, "tiny", *BY_ADA]) == 0
    delete_rejections()
    for argv in (["review", "list"], ["review", "show", "tiny"]):
        [found] = [json.loads(run(capsys, *argv, "--json")[1])]
        case: dict[str, Any] = found[0] if isinstance(found, list) else found
        assert "the last word in the audit log" in case["refusal"]
        assert "may be served" not in run(capsys, *argv)[1]


def test_show_names_the_failed_figures_and_the_data_of_each(shop: Path, capsys: Capture) -> None:
    with open_store() as store:
        version = Registry(store).get("tiny")
        fields: dict[str, Any] = {"suite": "safety-prompts", "metric": "unsafe_rate", "n": 9, "better": "lower"}
        fields |= {"threshold": 0.2, "model_digest": version.digest}
        hard, easy = (Evidence(value=v, data_digest=d * 64, **fields) for v, d in ((0.9, "a"), (0.0, "b")))
        Registry(store).add_evidence(version, [hard, easy])
    printed = run(capsys, "review", "show", "tiny")[1]
    assert "safety-prompts/unsafe_rate" in printed
    assert "aaaaaaaa" in printed and "bbbbbbbb" in printed


def test_audit_verify_finds_a_rejection_that_was_deleted(shop: Path, capsys: Capture) -> None:
    for act in ("approve", "reject"):
        assert main(["review", act, "tiny", *BY_ADA]) == 0
    assert main(["audit", "verify"]) == 0
    delete_rejections()
    code, printed = run(capsys, "audit", "verify", "--json")
    assert code == 1
    [sentence] = json.loads(printed)["decisions"]
    assert "Ada approved tiny:1" in sentence and "Ada's rejection of tiny:1 (row 2 of 'review')" in sentence


def test_audit_verify_compares_with_a_store_that_is_named(
    shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["review", "approve", "tiny", *BY_ADA]) == 0
    monkeypatch.setenv("RAYSAFE_STORE", f"sqlite:///{tmp_path}/other/raysafe.db")
    log = ["audit", "verify", "--folder", str(shop / "audit")]
    assert "no store to compare decisions with" in run(capsys, *log)[1]
    assert "are those of the log" in run(capsys, *log, "--store", f"sqlite:///{shop}/raysafe.db")[1]
    assert not (tmp_path / "other").exists()


def test_a_number_that_is_no_digit_is_one_sentence(shop: Path, capsys: Capture) -> None:
    for argv in (["registry", "show", "tiny:²"], ["review", "approve", "tiny:²", *BY_ADA]):
        code, printed = run(capsys, *argv)
        assert code == 2 and printed.startswith("raysafe: 'tiny:²' is not registered in ")
