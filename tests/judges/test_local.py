"""The local judge weighs choices as its model would write them, and answers as its engine does."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysafe.data.conversation import MESSAGES
from raysafe.errors import ConfigError, ModelError
from raysafe.judges.compare import compare
from raysafe.judges.constitution import Constitution, default_constitution
from raysafe.judges.judge import Messages
from raysafe.judges.local import LocalJudge
from raysafe.judges.pooled import PooledJudge, _generator, _weigher
from raysafe.judges.rubric import score_answers
from raysafe.judges.spec import JudgeConfig
from raysafe.judges.wording import NUMBERS
from raysafe.models.generate.engine import SamplingParams
from tests.judges.known import PROMPT
from tests.real_data import STORIES

PROMPTS = [[{"role": "user", "content": text}] for text in ("Is it good?", "And now, at length: is it?", "Hm?")]
SHORT = Constitution(principles=default_constitution().principles[:1])
MODELS = [
    "preset:tiny",
    pytest.param(str(STORIES), marks=pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not here")),
]


def alone(judge: LocalJudge, prompt: Messages, choice: str, *, whole: bool) -> float:
    """log p(choice | prompt) by one plain forward pass; whole: with the end of turn."""
    prompt_ids, choice_ids = judge.chat.encode(prompt, choice)
    choice_ids = choice_ids if whole else choice_ids[:-1]
    with torch.no_grad():
        logits = judge.engine.model(torch.tensor([prompt_ids + choice_ids])).logits[0, len(prompt_ids) - 1 : -1]
    return float(logits.double().log_softmax(-1)[torch.arange(len(choice_ids)), torch.tensor(choice_ids)].sum())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("choices", "whole"), [(NUMBERS, True), (("A", "B", "C"), False)], ids=["numbers", "letters"])
def test_choices_are_normalised_log_probabilities_of_the_plain_model(model: str, choices: tuple, whole: bool) -> None:
    judge = LocalJudge(model, chat_template="plain")
    found_NK = asyncio.run(judge.choice_logprobs(PROMPTS, choices))
    logps_NK = torch.tensor([[alone(judge, prompt, c, whole=whole) for c in choices] for prompt in PROMPTS])
    np.testing.assert_allclose(found_NK, logps_NK.log_softmax(-1), atol=2e-4)
    np.testing.assert_allclose(np.exp(found_NK).sum(axis=1), 1)


def test_answers_are_the_engines() -> None:
    judge = LocalJudge("preset:tiny", chat_template="plain")
    answers = asyncio.run(judge.generate(PROMPTS, max_tokens=5, temperature=1.0, seed=3))
    (prompt_ids,) = judge.chat.encode_batch(PROMPTS)
    expected = judge.engine.generate(prompt_ids, SamplingParams(max_tokens=5, temperature=1.0, seed=3))
    assert answers == [generation.text for generation in expected]


def test_calls_at_the_same_time_do_not_mix() -> None:
    judge = LocalJudge("preset:tiny")

    async def together() -> list[np.ndarray]:
        return list(await asyncio.gather(*(judge.choice_logprobs([prompt], ["A", "B"]) for prompt in PROMPTS)))

    whole_NK = asyncio.run(judge.choice_logprobs(PROMPTS, ["A", "B"]))
    np.testing.assert_allclose(np.concatenate(asyncio.run(together())), whole_NK, atol=1e-5)


def test_an_untrained_model_gives_scores_and_preferences_within_their_range() -> None:
    judge = JudgeConfig(kind="local", model="preset:tiny").build()
    (score,) = asyncio.run(score_answers(judge, [PROMPT], ["Mix flour, water, salt and yeast."]))
    assert all(0 <= value <= 10 for value in score.scores.values()) and score.method == "choice_logprobs"
    pairs = (("bake", "burn"), ("burn", "bake"))
    # all eight principles are more bytes than the preset's context
    one, other = (asyncio.run(compare(judge, PROMPT, *pair, SHORT)) for pair in pairs)
    assert one.preference + other.preference == pytest.approx(1, abs=1e-5) and 0 < one.preference < 1


def test_choices_that_cannot_be_told_apart_are_refused() -> None:
    judge = LocalJudge("preset:tiny")
    for choices in (["A"], ["A", "A"], ["A", " "]):
        with pytest.raises(ConfigError, match="choices must be two or more different texts"):
            asyncio.run(judge.choice_logprobs(PROMPTS, choices))


def test_an_answer_too_long_for_the_judge_is_an_error() -> None:
    judge = LocalJudge("preset:tiny")
    with pytest.raises(ModelError, match="with its longest choice, the model takes 2048: shorten it"):
        asyncio.run(score_answers(judge, [PROMPT], ["long " * 500]))


def test_an_actors_work_is_the_judges_in_one_process() -> None:
    make = JudgeConfig(kind="local", model="preset:tiny").load_local
    table = pa.table({"prompt": pa.array(PROMPTS, MESSAGES)})
    answers = _generator(make, 4, 0.0, 0)(table)["answer"].to_pylist()
    assert answers == asyncio.run(make().generate(PROMPTS, max_tokens=4))
    logps_NK = np.array(_weigher(make, ("A", "B"))(table)["logps"].to_pylist())
    np.testing.assert_array_equal(logps_NK, asyncio.run(make().choice_logprobs(PROMPTS, ["A", "B"])))


@pytest.mark.ray
def test_a_pool_of_actors_judges_as_one_process(ray_cluster: None) -> None:
    pooled = JudgeConfig(kind="local", model="preset:tiny", workers=1).build()
    prompts = [[{"role": "user", "content": f"question {i}"}] for i in range(40)]
    logps_NK = asyncio.run(pooled.choice_logprobs(prompts, ["A", "B"]))
    expected_NK = asyncio.run(LocalJudge("preset:tiny").choice_logprobs(prompts, ["A", "B"]))
    np.testing.assert_allclose(logps_NK, expected_NK, atol=1e-5)
    assert isinstance(pooled, PooledJudge) and asyncio.run(pooled.generate([])) == []
