"""Which of two answers is better: asked in both orders and averaged, so that a preference for a place cancels out.

With f = P(the answer shown first wins) in one order and g in the other, the first answer's preference is
(f + 1 - g) / 2 and the pair's position bias (f + g) / 2 - 1/2 (Wang et al. 2023, "Large language models are not fair
evaluators").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raysafe.errors import ModelError
from raysafe.judges.asking import ask
from raysafe.judges.blocking import wait_for
from raysafe.judges.constitution import Constitution, default_constitution
from raysafe.judges.judge import AnyMethod, Judge, Messages, Method, choose_method
from raysafe.judges.wording import VERDICTS, compare_question, read_verdict

_WINS_K = np.array([1.0, 0.0, 0.5])
"""What each of VERDICTS gives to the answer shown first."""


@dataclass(frozen=True)
class PairVerdict:
    """The verdict on one pair."""

    preference: float
    """1 where the first answer is better, 0 where the second is; NaN where the judge couldn't be read."""
    position_bias: float
    """How much the place shown first gained, -0.5 to 0.5."""
    consistent: bool
    """Whether both orders name the same winner, or both a tie."""
    method: Method
    unparsable: int
    """Answers of the judge that couldn't be read, those included that were asked again with success."""


@dataclass(frozen=True)
class PositionBias:
    """Mean over pairs of P(the answer shown first wins) - 0.5, with its two-sided 95% t interval (NaN for one pair)."""

    value: float
    low: float
    high: float
    n: int


async def compare_pairs(
    judge: Judge,
    prompts: Sequence[Messages],
    firsts: Sequence[str],
    seconds: Sequence[str],
    constitution: Constitution | None = None,
    *,
    method: AnyMethod = "auto",
    asks: int = 3,
    seed: int = 0,
) -> list[PairVerdict]:
    """A verdict for each pair, in order; both orders of all pairs go to the judge in one call."""
    chosen = choose_method(judge, method)
    shown = [*zip(prompts, firsts, seconds, strict=True), *zip(prompts, seconds, firsts, strict=True)]
    wins, failures = await first_wins(judge, shown, constitution, method=method, asks=asks, seed=seed)
    wins_2N, failures_2N = wins.reshape(2, -1), failures.reshape(2, -1)
    return [
        PairVerdict(
            preference=float((forward + 1 - backward) / 2),
            position_bias=float((forward + backward) / 2 - 0.5),
            consistent=bool(np.sign(forward - 0.5) == np.sign(0.5 - backward)),
            method=chosen,
            unparsable=int(failed),
        )
        for forward, backward, failed in zip(*wins_2N, failures_2N.sum(axis=0), strict=True)
    ]


async def compare(
    judge: Judge,
    prompt: Messages,
    first: str,
    second: str,
    constitution: Constitution | None = None,
    *,
    method: AnyMethod = "auto",
    asks: int = 3,
    seed: int = 0,
) -> PairVerdict:
    """The verdict on one pair."""
    (verdict,) = await compare_pairs(
        judge, [prompt], [first], [second], constitution, method=method, asks=asks, seed=seed
    )
    return verdict


async def first_wins(
    judge: Judge,
    shown: Sequence[tuple[Messages, str, str]],
    constitution: Constitution | None = None,
    *,
    method: AnyMethod = "auto",
    asks: int = 3,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """(P(the answer shown first wins) or NaN, how many answers couldn't be read) of each question, (N,) each.

    shown: prompt, answer shown first, answer shown second. One order only: `compare_pairs` asks in both.
    """
    criteria = (constitution or default_constitution()).criteria
    questions = [compare_question(prompt, first, second, criteria=criteria) for prompt, first, second in shown]
    if choose_method(judge, method) == "choice_logprobs":
        logps_NK = await judge.choice_logprobs(questions, VERDICTS)
        wins_N = np.clip(np.exp(logps_NK) @ _WINS_K, 0.0, 1.0)
        return wins_N, np.isnan(wins_N).astype(int)
    return await ask(judge, questions, read_verdict, asks=asks, seed=seed)


def position_bias(verdicts: Sequence[PairVerdict]) -> PositionBias:
    """Over the pairs that the judge could be read on; raises ModelError where there is none."""
    from scipy.stats import t

    biases_N = np.array([v.position_bias for v in verdicts if not np.isnan(v.position_bias)])
    n = len(biases_N)
    if not n:
        raise ModelError("no pair was judged, so there is no position bias: the judge's answers could not be read")
    mean = float(biases_N.mean())
    half = float(t.ppf(0.975, n - 1) * biases_N.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return PositionBias(mean, mean - half, mean + half, n)


def consistency_rate(verdicts: Sequence[PairVerdict]) -> float:
    """Share of the judged pairs on which both orders agree; NaN where no pair was judged."""
    judged = [v.consistent for v in verdicts if not np.isnan(v.preference)]
    return float(np.mean(judged)) if judged else float("nan")


def as_comparison(
    judge: Judge, constitution: Constitution | None = None, *, method: AnyMethod = "auto"
) -> Callable[[Messages, str, str], float]:
    """The judge as a function (prompt, first, second) -> 0 to 1, in that order: the win-rate suite asks in both itself.

    In a module of your own, `prefer = as_comparison(read_spec("openai:MODEL@URL").build())`, then
    `raysafe evaluate --suite win-rate --judge your_module:prefer`. Raises ModelError where the judge can't be read.
    """

    def prefer(prompt: Messages, first: str, second: str) -> float:
        wins_N, failures_N = wait_for(first_wins(judge, [(prompt, first, second)], constitution, method=method))
        if np.isnan(wins_N[0]):
            raise ModelError(f"the judge {judge.name} gave no readable verdict in {failures_N[0]} answers")
        return float(wins_N[0])

    return prefer
