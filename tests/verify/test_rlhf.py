"""Online training learns: what people like, watched by judges that it never sees, and what a check can tell."""

from __future__ import annotations

import json
import re
import time
from typing import Any, NamedTuple

import pytest

from raysafe.runtime.run import Run
from tests.real_data import RATED
from tests.verify.readme import publish
from tests.verify.shell import Shell, minutes

GOLD = "jobs.tasks.vader:score"
LIMITS = {"kl": 0.3, "distinct_2": 0.9, "perplexity": 1.5}


class Trained(NamedTuple):
    """An online run, and how its start and its result answer prompts that neither saw."""

    name: str
    run: Run
    seconds: float
    found: dict[str, Any]

    def change(self, figure: str) -> tuple[float, float]:
        return self.found["before"][figure], self.found["after"][figure]

    @property
    def row(self) -> str:
        start, end = self.change(GOLD)
        judge = next(test for name, test in self.found["rewards"].items() if name != GOLD)
        distinct, perplexity = (after / before for before, after in map(self.change, ("distinct_2", "perplexity")))
        low, high = judge["interval"]
        return (
            f"| {self.name} | {start:.3f} -> {end:.3f} | {judge['difference']:+.2f} ({low:+.2f} to {high:+.2f}) | "
            f"{self.found['after']['kl']:.3f} | {distinct:.2f} | {perplexity:.2f} | {minutes(self.seconds)} |"
        )


def trained(shell: Shell, name: str, preset: str, start: str, reward: str, judge: str, more: str = "") -> Trained:
    began = time.monotonic()
    run = shell.run(
        f"python jobs/rlhf.py --config jobs/presets/{preset}.yaml --model {start} --rewards {reward}{more}", named=True
    )
    seconds = time.monotonic() - began
    said = shell.run(
        f"python -m jobs.tasks.held_out {start} {run} --prompts {run}/held-out.jsonl --rewards {judge} {GOLD}",
        show=False,
    )
    return Trained(name, shell.opened(run), seconds, json.loads(said.splitlines()[-1]))


def parted(run: Run) -> list[str]:
    return [event["warning"] for event in run.events if event["event"] == "reward-and-gold-part"]


@pytest.mark.slow
@pytest.mark.skipif(not RATED.is_dir(), reason="the rated sentences are not in the user's cache")
def test_rlhf_makes_sentences_that_an_unseen_judge_and_a_lexicon_find_more_positive(shell: Shell) -> None:
    (shell.folder / "rated").symlink_to(RATED)
    shell.run("python -m jobs.tasks.sentences rated sentences")
    nothing = shell.run(
        "python jobs/scratch.py --config jobs/presets/scratch_sentences.yaml --data rated --test-fraction 0.1",
        named=True,
    )
    start = shell.run(f"python jobs/sft.py --config jobs/presets/sft_sentences.yaml --model {nothing}", named=True)
    rate = f"python jobs/reward_model.py --config jobs/presets/reward_model_sentences.yaml --model {start}"
    reward = shell.run(rate, named=True)
    judge = shell.run(f"{rate} --data sentences/ratings-judge.jsonl --seed 1", named=True)
    runs = [trained(shell, name, f"{name}_sentences", start, reward, judge) for name in ("ppo", "grpo")]
    transcript = shell.transcript()
    unbound = trained(shell, "grpo, no KL", "grpo_sentences_unbound", start, reward, judge)
    says = re.findall(r"The policy went far from its reference: [^<]*", unbound.run.folder.read("report.html").decode())
    publish(
        "rlhf",
        f"""{transcript}

On prompts that no training saw (n = {runs[0].found["prompts"]}), one answer each; the judge is a reward model of the
ratings that the reward never saw, KL is in nats a token, distinct-2 and perplexity are shares of the start's:

| | VADER | judge | KL | distinct-2 | perplexity | training |
|---|---|---|---|---|---|---|
{runs[0].row}
{runs[1].row}
{unbound.row}

The last row has a KL coefficient of 0 and no limits. Its report says: {says[0]} An answer of it:
"{last_answer(unbound.run)}".""",
    )
    for result in runs:
        before, after = result.change(GOLD)
        assert after - before >= 0.3
        assert all(test["interval"][0] > 0 for test in result.found["rewards"].values())
        assert result.found["after"]["kl"] <= LIMITS["kl"]
        distinct, perplexity = (result.change(name) for name in ("distinct_2", "perplexity"))
        assert distinct[1] >= LIMITS["distinct_2"] * distinct[0]
        assert perplexity[1] <= LIMITS["perplexity"] * perplexity[0]
        assert not parted(result.run)
    assert len(says) == 1
    assert unbound.found["after"]["kl"] > 3 * LIMITS["kl"]
    distinct = unbound.change("distinct_2")
    assert distinct[1] < 0.5 * distinct[0]


def last_answer(run: Run) -> str:
    """The first validation prompt's answer at the last step."""
    rows = run.examples("artifacts/answers.jsonl")
    return next(row["answer"] for row in rows if row["step"] == rows[-1]["step"])


@pytest.mark.slow
def test_grpo_learns_to_sort_from_being_told_what_is_right(shell: Shell) -> None:
    shell.run("python -m jobs.tasks.sorting sorting")
    start = shell.run("python jobs/sft.py --config jobs/presets/sft_sorting.yaml", named=True)
    began = time.monotonic()
    run = shell.run(f"python jobs/rlhf.py --config jobs/presets/grpo_sorting.yaml --model {start}", named=True)
    seconds = time.monotonic() - began
    said = shell.run(
        f"python -m jobs.tasks.held_out {start} {run} --prompts {run}/held-out.jsonl --rewards check:exact "
        "--max-tokens 12",
        show=False,
    )
    found = json.loads(said.splitlines()[-1])
    before, after = (found[side]["check:exact"] for side in ("before", "after"))
    publish(
        "rlhf-sorting",
        f"""{shell.transcript()}

Of {found["prompts"]} lists that no training saw, that model of a tenth of a million weights sorts {before:.1%} before
and **{after:.1%}** after {minutes(seconds)}, told of each answer only whether it is right; KL is
{found["after"]["kl"]:.2f} nats a token.""",
    )
    assert before < 0.2
    assert after > 0.9
