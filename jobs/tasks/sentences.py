"""Sentences to be written so that people find them positive: data for RLHF out of sentences that people rated.

    python -m jobs.tasks.sentences RATED sentences

RATED holds JSON Lines of {"text", "rating"}. Into the folder `sentences` go

    demonstrations.jsonl   a prompt is a sentence's first words, its answer the whole sentence: for `raysafe sft`
    prompts.jsonl          the different first words: for `raysafe ppo` and `raysafe grpo`
    ratings.jsonl          half of the sentences with their ratings: for the reward model
    ratings-judge.jsonl    the other half: for a second reward model that judges what was learned

Jobs with the same fractions and seed hold the same prompts out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raysafe.cli.main import guarded
from raysafe.data.readers import read
from raysafe.data.split import place

Row = dict[str, Any]


def opening(text: str, words: int) -> str:
    """The first words of a text."""
    return " ".join(text.split()[:words])


def parts(ratings: Iterable[Row], *, opening_words: int = 2, most_words: int = 16) -> dict[str, list[Row]]:
    """Rows of each file by its name; sentences to be written have from twice the opening's words to `most_words`."""
    rated: dict[str, float] = {}
    for row in ratings:
        rated.setdefault(" ".join(row["text"].split()), row["rating"])
    short = [text for text in rated if 2 * opening_words <= len(text.split()) <= most_words]
    rows = [{"prompt": opening(text, opening_words), "completion": text} for text in short]
    halves: tuple[list[Row], list[Row]] = ([], [])
    for text, rating in rated.items():
        # a hash of its own: by that of the text alone, one half would hold all that a job's split holds out
        halves[place(["half", text], 0) >= 0.5].append({"text": text, "rating": rating})
    return {
        "demonstrations": rows,
        "prompts": [{"prompt": prompt} for prompt in dict.fromkeys(row["prompt"] for row in rows)],
        "ratings": halves[0],
        "ratings-judge": halves[1],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rated", help="file or folder of rated texts")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--opening-words", type=int, default=2, help="words of a prompt (2)")
    parser.add_argument("--most-words", type=int, default=16, help="words of a sentence to be written, at most (16)")
    given = parser.parse_args()
    ratings = read(given.rated, "ratings").table.to_pylist()
    made = parts(ratings, opening_words=given.opening_words, most_words=given.most_words)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, rows in made.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (given.folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{len(rows):6} rows  {given.folder}/{name}.jsonl")
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(main))
