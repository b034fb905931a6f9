"""Answers and rewards do not depend on how cases are shared among workers."""

import pyarrow as pa
import pytest

from raysafe.evaluation.answers import Answerer

PROMPTS = pa.table({"prompt": [[{"role": "user", "content": f"question {i}"}] for i in range(6)]})


@pytest.fixture(scope="module")
def answerer():
    return Answerer("preset:tiny", "plain", 8, 1.0, 3, 0)


def test_a_share_gets_the_same_answers_as_the_whole(answerer):
    whole = answerer(PROMPTS)["answer"].to_pylist()
    parts = [answerer(PROMPTS.slice(start, 2))["answer"].to_pylist() for start in (0, 2, 4)]
    assert whole == [answer for part in parts for answer in part]
    assert len(set(whole)) > 1


def test_another_seed_draws_other_answers(answerer):
    other = Answerer("preset:tiny", "plain", 8, 1.0, 4, 0)
    assert other(PROMPTS)["answer"].to_pylist() != answerer(PROMPTS)["answer"].to_pylist()
