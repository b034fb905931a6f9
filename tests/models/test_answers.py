"""Answers do not depend on how prompts are shared among workers."""

import pyarrow as pa
import pytest

from raysafe.models.generate.answers import Answerer
from raysafe.models.generate.engine import SamplingParams

PROMPTS = pa.table({"prompt": [[{"role": "user", "content": f"question {i}"}] for i in range(6)]})


def answerer(seed: int, n: int = 1) -> Answerer:
    return Answerer("preset:tiny", SamplingParams(max_tokens=8, seed=seed, n=n), "plain")


@pytest.fixture(scope="module")
def third():
    return answerer(3)


def test_a_share_gets_the_same_answers_as_the_whole(third):
    whole = third(PROMPTS)["answers"].to_pylist()
    parts = [third(PROMPTS.slice(start, 2))["answers"].to_pylist() for start in (0, 2, 4)]
    assert whole == [answers for part in parts for answers in part]
    assert len({texts[0] for texts in whole}) > 1


def test_another_seed_draws_other_answers(third):
    assert answerer(4)(PROMPTS)["answers"].to_pylist() != third(PROMPTS)["answers"].to_pylist()


def test_each_prompt_gets_as_many_answers_as_asked_for_and_the_seed_repeats_them():
    answers = answerer(5, n=3)(PROMPTS)["answers"].to_pylist()
    assert [len(texts) for texts in answers] == [3] * 6 and len(set(answers[0])) > 1
    assert answerer(5, n=3)(PROMPTS)["answers"].to_pylist() == answers
