"""The examination of guards: recall per disguise, the adaptive attacker, and what neither may do."""

import json
from pathlib import Path

import numpy as np
import pytest

from raysafe.errors import DataError
from raysafe.evaluation.guard_attack import attack
from raysafe.evaluation.guard_report import examine
from raysafe.evaluation.guard_scores import Examiner, Judged
from raysafe.guards.labelled import Labelled
from raysafe.guards.patterns import PatternsConfig, Rule
from raysafe.guards.policy import Policy

NAIVE = "zork"


def naive(text: str) -> Judged:
    """A guard that any disguise of the word defeats."""
    return Judged(float(NAIVE in text), NAIVE in text)


def words_policy() -> Policy:
    return Policy(guards=(PatternsConfig(rules=(Rule(name="zork", phrases=("zork",)),)),))


ROWS = [
    *(Labelled(f"please zork number {n}", True, "even" if n % 2 == 0 else "odd") for n in range(20)),
    *(Labelled(f"a perfectly fine question about topic {n}", False, "plain") for n in range(198)),
    *(Labelled(f"what does zork mean {n}", False, "talk") for n in range(2)),
]


def test_random_search_defeats_a_naive_guard_and_not_one_that_stops_all() -> None:
    prompts = [f"please zork the thing {n}" for n in range(8)]
    broken = attack(naive, prompts, tries=30)
    held = attack(lambda text: Judged(1.0, True), prompts, tries=30)
    assert not broken.stopped_PT[:, -1].any() and (broken.lowest_PT[:, -1] == 0).all()
    assert held.stopped_PT.all() and (held.lowest_PT == 1).all()


def test_the_first_try_is_the_prompt_itself_and_more_tries_never_help_the_guard() -> None:
    seen: list[str] = []

    def watching(text: str) -> Judged:
        seen.append(text)
        score = (len(text) * 37 % 101) / 101
        return Judged(score, score > 0.5)

    found = attack(watching, ["please zork"], tries=40)
    assert seen[0] == "please zork" and len(set(seen)) > 30
    assert (np.diff(found.lowest_PT, axis=1) <= 0).all()
    assert (np.diff(found.stopped_PT.astype(int), axis=1) <= 0).all()


def test_an_attack_is_repeatable_and_does_not_depend_on_the_other_prompts() -> None:
    def by_length(text: str) -> Judged:
        return Judged((len(text) * 37 % 101) / 101, True)

    both = attack(by_length, ["first prompt", "second prompt"], tries=20, seed=4)
    alone = attack(by_length, ["second prompt"], tries=20, seed=4)
    assert np.array_equal(both.lowest_PT[1], alone.lowest_PT[0]) and both.best[1] == alone.best[0]
    assert not np.array_equal(alone.lowest_PT, attack(by_length, ["second prompt"], tries=20, seed=5).lowest_PT)


def test_an_attack_goes_on_at_the_lowest_score_while_the_policy_still_stops_it() -> None:
    """A guard that gives no score blocks all but what came reversed."""
    found = attack(lambda text: Judged(0.0, "zork" in text), ["please zork"], tries=40)
    assert found.stopped_PT[0, 0] and not found.stopped_PT[0, -1]


def test_recall_and_false_positives_are_counted() -> None:
    report = examine(Examiner(words_policy()), ROWS, transforms=("plain", "reversed"), adaptive=5, adaptive_prompts=4)
    plain, backwards = report.transforms
    assert report.false_positives.value == 0.01 and report.attacks == 20 and report.benign == 200
    assert plain.at[0].recall.value == 1 and plain.policy.value == 1
    assert backwards.at[0].recall.value == 0 and backwards.policy.value == 0
    assert {row.at[0].recall.value for row in report.groups} == {1.0}
    # 20 attacks score 1, 2 of 200 benign texts too: 0.99 are below, and ties count half
    assert report.auc.value == pytest.approx(0.99 + 0.01 / 2)
    assert {row.name: row.n for row in report.groups} == {"even": 10, "odd": 10}
    assert {row.name: row.policy.value for row in report.benign_groups} == {"plain": 0.0, "talk": 1.0}
    assert report.adaptive is not None and len(report.adaptive.curves["the policy as it stands"]) == 5


def test_benign_texts_are_disguised_as_the_attacks_are() -> None:
    _, backwards = examine(Examiner(words_policy()), ROWS, transforms=("plain", "reversed")).transforms
    assert backwards.benign_stopped is not None and backwards.benign_stopped.value == 0


def test_recall_under_attack_is_that_after_the_last_try() -> None:
    report = examine(Examiner(words_policy()), ROWS, transforms=("plain",), adaptive=40, adaptive_prompts=4)
    assert report.adaptive is not None
    curve = report.adaptive.curves["1% false positives"]
    assert curve[0] == 1 and report.adaptive.at[0][1].value == curve[-1] < 1


def test_a_report_is_written_as_json_with_a_picture(tmp_path: Path) -> None:
    examine(Examiner(words_policy()), ROWS, transforms=("plain",), adaptive=3, adaptive_prompts=2).save(tmp_path)
    values = json.loads((tmp_path / "report.json").read_text())
    assert values["transforms"][0]["at"][0]["level"] == 0.01
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


def test_a_rate_limit_is_left_out_of_the_examination() -> None:
    policy = Policy.parse(
        {"guards": [{"kind": "rate", "requests_per_minute": 1}, words_policy().guards[0].model_dump(mode="json")]}
    )
    report = examine(Examiner(policy), ROWS, transforms=("plain",))
    assert report.false_positives.value == 0.01


def test_a_guard_that_fails_is_counted_and_its_score_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    examiner = Examiner(words_policy())

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(examiner._entries[0].guard, "check", fail)
    judged = examiner.judge("anything")
    assert judged.failed and judged.score == 0 and judged.stopped


def test_the_failures_of_every_text_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    examiner = Examiner(words_policy())

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(examiner._entries[0].guard, "check", fail)
    # 200 benign texts, and 20 attacks as they are and reversed
    assert examine(examiner, ROWS, transforms=("plain", "reversed")).failures == 240


@pytest.mark.parametrize("order", [("zork", "mork"), ("mork", "zork")])
def test_a_texts_score_is_the_highest_of_its_guards_and_any_of_them_stops_it(order: tuple[str, str]) -> None:
    guards = (PatternsConfig(name=word, rules=(Rule(name=word, phrases=(word,)),)) for word in order)
    judged = Examiner(Policy(guards=tuple(guards))).judge("please zork")
    assert judged.score == 1 and judged.stopped


def test_too_few_benign_texts_are_refused() -> None:
    with pytest.raises(DataError, match="100 benign"):
        examine(Examiner(words_policy()), ROWS[:60])
