"""A judge whose answers a function gives: for judging by rules, and for tests with a known truth.

The function gets the messages that any judge gets; `wording.read_question` takes them apart again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np

from raysafe.errors import ConfigError, ModelError
from raysafe.judges.judge import Capabilities, Judge, Messages, check_choices, log_softmax, no_choices
from raysafe.runtime.functions import load_function

Answer = Callable[..., str]
"""(messages) or (messages, seed) -> what the judge writes."""
Weigh = Callable[[Messages, Sequence[str]], Sequence[float]]
"""(messages, choices) -> how likely each choice is; need not sum to one."""


class ScriptedJudge:
    """Answers by `answer`, and weighs choices by `weigh` where it is given."""

    def __init__(self, answer: Answer, weigh: Weigh | None = None, *, name: str = "scripted") -> None:
        self.name, self._answer, self._weigh = name, answer, weigh
        self._seeded = len(inspect.signature(answer).parameters) > 1
        self.capabilities = Capabilities(choice_logprobs=weigh is not None, deterministic=True)

    async def generate(
        self, prompts: Sequence[Messages], *, max_tokens: int = 16, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One answer a prompt; the function may draw by the seed, which is the call's plus the prompt's place."""
        answers = [
            self._answer(prompt, seed + place) if self._seeded else self._answer(prompt)
            for place, prompt in enumerate(prompts)
        ]
        for answer in answers:
            if not isinstance(answer, str):
                raise ConfigError(f"judge {self.name} returned {answer!r}; it must return the text of its answer")
        return answers

    async def choice_logprobs(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """log p(choice | prompt), (N, K), from the weights; raises ModelError for weights that are no distribution."""
        if self._weigh is None:
            raise no_choices(self.name)
        check_choices(choices)
        weights_NK = np.array([self._weigh(prompt, choices) for prompt in prompts], dtype=np.float64)
        weights_NK = weights_NK.reshape(len(prompts), -1)
        if (
            weights_NK.shape[1:] != (len(choices),)
            or not np.isfinite(weights_NK).all()
            or (weights_NK < 0).any()
            or (weights_NK.sum(axis=1) <= 0).any()
        ):
            raise ModelError(
                f"judge {self.name} must give all {len(choices)} choices weights of at least 0, not all of them 0"
            )
        with np.errstate(divide="ignore"):
            return log_softmax(np.log(weights_NK))


def load_scripted(name: str) -> Judge:
    """The judge that module:function names: a function (messages) -> answer, or one of no arguments that makes a judge.

    The working folder is on the path. Raises ConfigError where there is none.
    """
    function = load_function(name, "judge")
    if inspect.signature(function).parameters:
        return ScriptedJudge(function, name=name)
    made = function()
    if not isinstance(made, Judge):
        raise ConfigError(
            f"judge: {name!r} made a {type(made).__name__}, not a judge with generate and choice_logprobs"
        )
    return made
