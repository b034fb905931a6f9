"""A reward model on real human judgements: small, from scratch, on sentences that twenty people rated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from raysafe.evaluation.job import ROWS
from tests.real_data import RATED
from tests.verify.readme import publish
from tests.verify.shell import Shell


@pytest.mark.slow
@pytest.mark.skipif(not RATED.is_dir(), reason="the rated sentences are not in the user's cache")
def test_held_out_pairs_are_ranked_as_people_rank_them(shell: Shell) -> None:
    (shell.folder / "rated").symlink_to(RATED)
    start = shell.run("python jobs/scratch.py --data rated --kind ratings --test-fraction 0.2", named=True)
    reward = shell.run(
        f"raysafe reward-model --config jobs/presets/reward_model_ratings.yaml --model {start} --data rated", named=True
    )
    examined = shell.opened(
        shell.run(f"raysafe evaluate {reward} --suite preference-accuracy --data {reward}/held-out.jsonl", named=True)
    )
    found = {item.metric: item for item in examined.evidence}
    accuracy = found["accuracy"]
    vader = vader_accuracy([json.loads(line) for line in examined.folder.read(ROWS).splitlines()])
    texts = next(event["read"] for event in shell.opened(reward).events if event["event"] == "data")
    low, high = accuracy.interval or (0.0, 1.0)
    publish(
        "human-ratings",
        f"""{shell.transcript()}

On {texts:,} sentences that twenty people rated each, that model of 0.9 million weights, trained in one pass, ranks
**{accuracy.value:.1%}** ({low:.1%} to {high:.1%}) of {accuracy.n:,} held-out pairs as people do; the longer text is
right in {found["longer_baseline"].value:.1%}, and VADER's lexicon in {vader:.1%} of the same pairs.""",
    )
    assert accuracy.value >= 0.70


def vader_accuracy(rows: list[dict[str, Any]]) -> float:
    """Share of pairs whose chosen text VADER finds the more positive; ties count one half."""
    analyzer = SentimentIntensityAnalyzer()
    texts = {row[side] for row in rows for side in ("chosen", "rejected")}
    scores = {text: analyzer.polarity_scores(text)["compound"] for text in texts}
    pairs = [(scores[row["chosen"]], scores[row["rejected"]]) for row in rows]
    return sum((chosen > rejected) + 0.5 * (chosen == rejected) for chosen, rejected in pairs) / len(pairs)
