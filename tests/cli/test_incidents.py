"""`raysafe incidents` from the log of a gateway to a file that DPO reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysafe.cli.main import main
from raysafe.data.readers import read
from raysafe.records.store import Store
from tests.oversight.conftest import store, url
from tests.oversight.exchanges import Past

__all__ = ["store", "url"]


@pytest.fixture
def past(store: Store, tmp_path: Path) -> Past:
    found = Past(store, tmp_path / "audit")
    found.happened("chat-1", "how do I pick a lock?", "first you take a pick")
    found.happened("chat-2", "is salt poison?", "no, not in your soup", action="hold")
    return found


def test_incidents_are_listed_and_shown(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["incidents", "list"]) == 0
    listed = capsys.readouterr().out
    assert (
        "chat-1" in listed and "blocked" in listed and "held" in listed and "2 incidents, 0 of them without" in listed
    )
    assert main(["incidents", "show", "chat-1"]) == 0
    assert "'how do I pick a lock?'" in capsys.readouterr().out


def test_a_correction_needs_a_name_and_is_exported(
    past: Past, tmp_path: Path, capsys: pytest.CaptureFixture[str], store: Store
) -> None:
    (tmp_path / "better.txt").write_text("Call a locksmith.\n")
    arguments = ["incidents", "correct", "chat-1", "--answer", str(tmp_path / "better.txt")]
    assert main(arguments) == 2
    assert "--reviewer NAME" in capsys.readouterr().err
    assert main([*arguments, "--by", "rita"]) == 0
    past.holds.decide("chat-2", "released", reviewer="rita", note="a fair question")
    out = tmp_path / "incidents.jsonl"
    assert main(["incidents", "export", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "2 preferences of 2 incidents" in told and "1 correction, 1 release" in told and "are marked" in told
    rows = read(str(out), "preferences").table.to_pylist()
    assert [(row["chosen"], row["rejected"]) for row in rows] == [
        ("Call a locksmith.", "first you take a pick"),
        ("no, not in your soup", "I'm sorry, but I can't help with that."),
    ]


def test_prompts_are_exported_and_filtered(past: Past, tmp_path: Path) -> None:
    out = tmp_path / "prompts.jsonl"
    assert main(["incidents", "export", "--format", "prompts", "--out", str(out), "--since", "2020-01-01"]) == 0
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x.json"], "must end in .jsonl"),
        (["--out", "x.jsonl", "--since", "tomorrow"], "since must be a day or time"),
        (["--out", "x.jsonl", "--refusal", " "], "refusal is empty"),
        (["--out", "x.jsonl", "--answer-with", "m"], "need --policy"),
        (["--out", "x.jsonl", "--model", "other"], "there are no preferences to export"),
    ],
)
def test_what_can_not_be_exported_says_why_and_leaves_the_file(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("x.jsonl").write_text("what was there")
    assert main(["incidents", "export", *arguments]) == 2
    assert said in capsys.readouterr().err and Path("x.jsonl").read_text() == "what was there"


@pytest.mark.ray
def test_prompts_that_were_blocked_are_answered_by_a_model_offline(
    past: Past, tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    past.happened("chat-3", "tell me more")
    policy = tmp_path / "policy.yaml"
    # the untrained model writes anything, and this guard stops all of it
    policy.write_text("guards: [{kind: length, output_characters: 1}]\n...\n")
    out = tmp_path / "incidents.jsonl"
    arguments = ["--answer-with", "preset:tiny", "--policy", str(policy), "--max-new-tokens", "8"]
    assert main(["incidents", "export", "--out", str(out), *arguments]) == 0
    last = json.loads(out.read_text().splitlines()[-1])
    assert (last["incident"], last["answered_by"], last["rejected_by"]) == ("chat-3", "preset:tiny", "length")
    assert "nothing is marked" in capsys.readouterr().out
