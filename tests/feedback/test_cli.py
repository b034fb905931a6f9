"""`raysafe feedback status | export | pairs`, and what its command line refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raysafe.cli.feedback import main
from raysafe.cli.main import guarded
from raysafe.data.readers import read
from tests.feedback.conftest import Project, pair

Make = Callable[..., Project]


def run(*argv: str) -> int:
    return guarded(lambda: main(list(argv)))


@pytest.fixture
def project(make: Make) -> Project:
    made = make([pair(0), pair(1), {"id": "r", "prompt": "p", "answer": "x"}], overlap=1)
    for name in ("ann", "bob"):
        made.rater(name)
        made.desk.judge(name, "q0", "a", None, 2)
        made.desk.judge(name, "r", "rating", 4 if name == "ann" else 2, 2)
    made.desk.judge("ann", "q1", "tie", None, 2)
    return made


def test_status_is_told_as_a_table_and_as_json(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", str(project.folder)) == 0
    assert "judged by ann" in capsys.readouterr().out
    assert run("status", str(project.folder), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["raters"] == {"ann": 3, "bob": 2} and found["first_chosen"]["n"] == 2


def test_export_writes_what_is_asked_for_and_a_summary(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form, rows in (("preferences", 1), ("scores", 1), ("judgements", 5)):
        file = tmp_path / "made" / f"{form}.jsonl"
        assert run("export", str(project.folder), "--to", str(file), "--as", form) == 0
        assert len(file.read_text().splitlines()) == rows
    assert json.loads((project.folder / "summary.json").read_text())["judgements"] == 5
    assert "raysafe reward-model --model MODEL --data" in capsys.readouterr().out
    (row,) = read(str(tmp_path / "made" / "preferences.jsonl"), "preferences").table.to_pylist()
    assert (row["chosen"], row["rejected"], row["margin"]) == ("good 0", "bad 0", 1)


def test_an_export_that_fails_leaves_the_file_before_it(project: Project, tmp_path: Path, capsys) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("what was there")
    project.desk.undo("ann")
    project.desk.undo("ann")
    project.desk.undo("ann")
    project.desk.undo("bob")
    project.desk.undo("bob")
    assert run("export", str(project.folder), "--to", str(file)) == 2
    assert "there is no preference to export" in capsys.readouterr().err
    assert file.read_text() == "what was there"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["status", "/nowhere"], "is no feedback folder"),
        (["nowhere.jsonl"], "there is no data file nowhere.jsonl"),
        (["nowhere.jsonl", "--scale", "9-1"], "its lowest first, got 9 to 1"),
        (["nowhere.jsonl", "--host", "0.0.0.0"], "other machines"),
        (["pairs", "preset:tiny", "--prompts", "nowhere.jsonl", "--to", "x.jsonl"], "there is no data file"),
    ],
)
def test_what_can_be_mended_is_one_sentence_and_exit_code_2(
    argv: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("raysafe: ") and message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("status", "export", "pairs", "--overlap", "frames_a"))
