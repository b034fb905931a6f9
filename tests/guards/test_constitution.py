"""An answer complies where each principle is scored and reaches the threshold; the verdict names what failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raysafe.errors import ConfigError, ModelError
from raysafe.guards.constitution import ConstitutionConfig, ConstitutionGuard
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.guards.policy import Policy
from raysafe.judges.constitution import default_constitution
from raysafe.judges.scripted import ScriptedJudge
from tests.judges.known import scoring

EIGHT = ["harmlessness", "honesty", "helpfulness", "fairness", "privacy", "autonomy", "transparency", "accountability"]


def exchange(answer: str, *calls: ToolCall) -> Exchange:
    return Exchange("r", "k", "m", (Message("user", "How?"),), output=answer, tool_calls=calls)


def guard(judge: ScriptedJudge, **settings: Any) -> ConstitutionGuard:
    config = ConstitutionConfig(judge="tests.judges.known:by_length", **settings)  # type: ignore[arg-type]
    return ConstitutionGuard(config, config.chosen(), judge)


def test_the_packaged_constitution_asks_about_eight_principles_from_seven() -> None:
    assert default_constitution().names == EIGHT and default_constitution().threshold == 7


@pytest.mark.parametrize("score", [7, 8, 10])
def test_an_answer_at_the_threshold_or_above_complies(score: int) -> None:
    verdict = guard(scoring(lambda principle, answer: str(score))).check(exchange("A"), "output")
    assert verdict.action == "allow" and verdict.score == pytest.approx(1 - score / 10)


@pytest.mark.parametrize("principle", EIGHT)
def test_one_failed_principle_stops_the_answer_and_is_named_with_its_score(principle: str) -> None:
    judge = scoring(lambda asked, answer: "6.5" if asked == principle else "9")
    verdict = guard(judge, action="hold").check(exchange("A"), "output")
    assert verdict.action == "hold" and verdict.score == pytest.approx(0.35)
    assert verdict.reason == f"below 7 of 10 on {principle} (6.5)"


def test_an_unscored_principle_never_passes() -> None:
    judge = guard(scoring(lambda asked, answer: "hm" if asked == "privacy" else "9"))
    with pytest.raises(ModelError, match="no readable score for privacy, each asked 3 times"):
        judge.check(exchange("A"), "output")
    verdict = Entry(judge).check(exchange("A"), "output")
    assert verdict.action == "block" and verdict.error


def test_a_failed_principle_stops_the_answer_though_another_is_unscored() -> None:
    judge = guard(scoring(lambda asked, answer: {"privacy": "hm", "honesty": "2"}.get(asked, "9")))
    verdict = judge.check(exchange("A"), "output")
    assert verdict.reason == "below 7 of 10 on honesty (2.0); unscored: privacy" and verdict.action == "block"


def test_each_tool_call_is_scored_and_the_lowest_score_counts() -> None:
    judge = guard(scoring(lambda asked, answer: "1" if "delete" in answer else "9"))
    calls = (ToolCall("1", "read", "{}"), ToolCall("2", "delete", "{}"))
    assert judge.check(exchange("", *calls[:1]), "tool_call").action == "allow"
    assert judge.check(exchange("", *calls), "tool_call").score == pytest.approx(0.9)


def test_some_principles_of_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(default_constitution().to_yaml().replace("threshold: 7.0", "threshold: 4"))
    judge = scoring(lambda asked, answer: "5" if asked == "honesty" else "0")
    built = guard(judge, constitution=path, principles=("honesty",))
    assert built.check(exchange("A"), "output").action == "allow"


def test_a_principle_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="has no 'honest'; it has harmlessness, honesty"):
        guard(scoring(lambda asked, answer: "9"), principles=("honest",))


def test_a_policy_builds_it() -> None:
    entry = {"kind": "constitution", "judge": "tests.judges.known:by_length"}
    pipeline = Policy.parse({"guards": [entry]}, "p.yaml").build()
    assert pipeline.check_text("long enough", "output").action == "allow"
    decision = pipeline.check_text("short", "output")
    assert decision.action == "block" and all(name in decision.verdicts[0].reason for name in EIGHT)


def test_a_local_models_scores_lie_within_their_range() -> None:
    judge = {"kind": "local", "model": "preset:tiny"}
    built = ConstitutionConfig.parse({"judge": judge, "scale": "letters"}).build()
    assert 0 < built.check(exchange("Mix flour and water."), "output").score < 1
