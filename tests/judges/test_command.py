"""`raysafe judge`: verdicts are kept as they come, a second start does only what is missing, and figures are right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from raysafe.cli.judge import main as judge_main
from raysafe.cli.main import guarded
from raysafe.errors import ModelError
from raysafe.judges.judge import Judge, Messages
from raysafe.judges.scripted import ScriptedJudge
from tests.judges.known import by_length

Capture = pytest.CaptureFixture[str]
BY_LENGTH = "tests.judges.known:by_length"
ANSWERS = [{"prompt": f"question {i}", "completion": "x" * (i + 4)} for i in range(6)]
PAIRS = [{"prompt": f"question {i}", "chosen": "x" * (i + 2), "rejected": "xxx"} for i in range(5) if i != 1]
asked: list[str] = []
fail_at: list[int] = []


def counting() -> Judge:
    """Goes by length, one row a call; notes what it is asked and fails at the nth call in `fail_at`."""

    def answer(messages: Messages) -> str:
        return by_length(messages)

    class Counting(ScriptedJudge):
        async def generate(self, prompts: Sequence[Messages], **settings: Any) -> list[str]:
            if len(asked) in fail_at:
                raise ModelError("the judge went away")
            asked.append(prompts[0][0]["content"])
            return await super().generate(prompts, **settings)

    judge = Counting(answer, name="counting")
    judge.capabilities = judge.capabilities.__class__(choice_logprobs=False, deterministic=True, batch=1)
    return judge


def vague(messages: Messages) -> str:
    return "hard to say"


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    asked.clear()
    fail_at.clear()
    monkeypatch.chdir(tmp_path)
    write("answers.jsonl", ANSWERS)
    write("pairs.jsonl", PAIRS)
    return tmp_path


def write(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(capsys: Capture, *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = guarded(lambda: judge_main(list(argv)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_scores_are_written_a_row_each_and_summed_up(capsys: Capture) -> None:
    code, out, err = run(capsys, "answers.jsonl", "--judge", BY_LENGTH, "--json")
    assert code == 0 and "6 of 6 rows judged now; verdicts in answers.scores.jsonl" in err
    assert [line["mean"] for line in lines("answers.scores.jsonl")] == [4, 5, 6, 7, 8, 9]
    assert [line["compliant"] for line in lines("answers.scores.jsonl")] == [False] * 3 + [True] * 3
    summary = json.loads(out)
    honesty = summary["figures"]["honesty"]
    # Student's t with 5 degrees of freedom: 2.5706 * sqrt(3.5 / 6)
    assert honesty["value"] == 6.5 and honesty["high"] - 6.5 == pytest.approx(1.9633, abs=1e-3)
    assert summary["figures"]["compliant"]["value"] == 0.5 and summary["method"] == ["generate"]


def test_the_table_has_a_row_a_principle_with_its_interval(capsys: Capture) -> None:
    code, out, _ = run(capsys, "answers.jsonl", "--judge", BY_LENGTH)
    assert code == 0 and "4.537 to 8.463" in out
    assert all(name in out for name in ("harmlessness", "accountability", "compliant"))
    assert "method generate; 0 of 6 rows without a verdict" in out


def test_pairs_are_compared_in_both_orders(capsys: Capture) -> None:
    code, out, _ = run(capsys, "pairs.jsonl", "--judge", BY_LENGTH, "--compare", "--json")
    figures = json.loads(out)["figures"]
    assert code == 0 and figures["preference for chosen"]["value"] == 0.75
    assert figures["position bias"]["value"] == 0 and figures["consistent"]["value"] == 1
    assert [line["preference"] for line in lines("pairs.comparisons.jsonl")] == [0, 1, 1, 1]


def test_a_second_start_does_only_what_is_missing(capsys: Capture) -> None:
    fail_at.append(3)
    spec = f"{__name__}:counting"
    code, _, err = run(capsys, "answers.jsonl", "--judge", spec)
    assert code == 2 and "the judge went away" in err
    assert [line["row"] for line in lines("answers.scores.jsonl")] == [1, 2, 3]
    fail_at.clear()
    code, _, err = run(capsys, "answers.jsonl", "--judge", spec)
    assert code == 0 and "3 of 6 rows judged now" in err and len(asked) == 6
    assert [line["mean"] for line in lines("answers.scores.jsonl")] == [4, 5, 6, 7, 8, 9]
    code, _, err = run(capsys, "answers.jsonl", "--judge", spec)
    assert code == 0 and "0 of 6 rows judged now" in err and len(asked) == 6


def test_a_torn_last_line_is_judged_again(capsys: Capture) -> None:
    run(capsys, "answers.jsonl", "--judge", BY_LENGTH)
    whole = Path("answers.scores.jsonl").read_text()
    for kept in (len(whole) - 1, len(whole) - 40, 25, 0):
        Path("answers.scores.jsonl").write_text(whole[:kept])
        assert run(capsys, "answers.jsonl", "--judge", BY_LENGTH)[0] == 0
        assert Path("answers.scores.jsonl").read_text() == whole


def test_verdicts_of_other_rows_judges_or_principles_are_not_added_to(capsys: Capture, tmp_path: Path) -> None:
    run(capsys, "answers.jsonl", "--judge", BY_LENGTH)
    whole = Path("answers.scores.jsonl").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "principles: [{name: kindness, description: The answer is kind to all., rubric: '10 kind, 0 cruel, really'}]"
    )
    for change in (["--judge", f"{__name__}:vague"], ["--judge", BY_LENGTH, "--constitution", str(mine)]):
        code, _, err = run(capsys, "answers.jsonl", *change)
        assert code == 2 and "holds verdicts of another judge, constitution or method" in err
    write("answers.jsonl", [{**ANSWERS[0], "completion": "other"}, *ANSWERS[1:]])
    code, _, err = run(capsys, "answers.jsonl", "--judge", BY_LENGTH)
    assert code == 2 and "row 1 isn't the one that answers.scores.jsonl has a verdict on" in err
    assert Path("answers.scores.jsonl").read_text() == whole


@pytest.mark.parametrize("content", ["my notes\n", "my notes", '{"row": 1}\n', '{"a": 1}\n[]\n'])
def test_a_file_of_something_else_is_left_as_it_is(capsys: Capture, content: str) -> None:
    Path("notes.txt").write_text(content)
    code, _, err = run(capsys, "answers.jsonl", "--judge", BY_LENGTH, "--out", "notes.txt")
    assert code == 2 and "name another file with --out" in err
    assert Path("notes.txt").read_text() == content


def test_rows_that_the_judge_was_unreadable_on_are_counted_and_the_exit_code_says_so(capsys: Capture) -> None:
    code, out, _ = run(capsys, "answers.jsonl", "--judge", f"{__name__}:vague", "--asks", "2", "--json")
    assert code == 1 and json.loads(out)["unscored"] == 6 and json.loads(out)["unparsable answers"] == 96
    assert json.loads(out)["figures"]["honesty"]["value"] is None
    verdict = lines("answers.scores.jsonl")[0]
    assert verdict["mean"] is None and verdict["compliant"] is False


def test_what_cannot_work_is_one_sentence_and_no_file(capsys: Capture) -> None:
    for argv, message in (
        (["absent.jsonl", "--judge", BY_LENGTH], "there is no data file absent.jsonl"),
        (["answers.jsonl", "--judge", "no_such:judge"], "there is no module 'no_such'"),
        (["answers.jsonl", "--judge", BY_LENGTH, "--method", "choice_logprobs"], "doesn't give log-probabilities"),
        (["answers.jsonl", "--judge", BY_LENGTH, "--compare"], "no field 'chosen'"),
        (["answers.jsonl", "--judge", BY_LENGTH, "--out", "absent/x.jsonl"], "can't write absent/x.jsonl"),
    ):
        code, _, err = run(capsys, *argv)
        assert code == 2 and message in err and len(err.strip().splitlines()) == 1
    assert not Path("answers.scores.jsonl").exists()
