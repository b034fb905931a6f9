"""People compare fragments on the feedback page: two trajectories side by side, as pictures that play or as texts.

Answers are kept in the folder and survive the run: a fragment that is asked about again after a kill and a resume is
the same question, and isn't put twice.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from raysafe.config import Config
from raysafe.data.comparisons import Comparison
from raysafe.rl.watching import Look, Watched

if TYPE_CHECKING:
    from raysafe.feedback.judgements import Judgement
    from raysafe.feedback.service import FeedbackService

WORTH = {"a": 1.0, "b": 0.0, "tie": 0.5}


class HumanRater(Config):
    """People with a link each. Training waits until every pair of a round is compared or skipped."""

    kind: Literal["human"] = "human"
    folder: str = Field(description="Where questions and answers are kept; made where it is missing.")
    raters: tuple[str, ...] = Field(default=("rater",), min_length=1, description="Who compares; each gets a link.")
    per_pair: int = Field(default=1, ge=1, description="Answers that each pair needs; preferences are their mean.")
    look: Look = Field(default="frames", description="What is shown: frames (pictures that play) or text.")
    question: str = Field(default="Which one does better?", max_length=500, description="What the page asks.")
    port: int = Field(default=8790, ge=0, le=65535, description="Of the page, on this machine; 0 takes a free one.")

    def compare(self, pairs: Sequence[tuple[Watched, Watched]]) -> list[Comparison]:
        """Ask about pairs and wait; those that everybody skips are left out."""
        from raysafe.feedback.service import FeedbackConfig, FeedbackService

        items, by_name = self._write(pairs)
        config = FeedbackConfig(
            items=str(items),
            out=str(Path(self.folder, "answers")),
            raters=self.raters,
            per_item=self.per_pair,
            overlap=0.0,
            question=self.question,
            port=self.port,
        )
        with FeedbackService(config) as service:
            left = self._left(service, set(by_name))
            if left:
                self._tell(service, left)
                service.serve_while(lambda: self._left(service, set(by_name)) > 0)
            answers = service.desk.judgements.all()
        return comparisons_of(by_name, answers)

    def _write(self, pairs: Sequence[tuple[Watched, Watched]]) -> tuple[Path, dict[str, tuple[Watched, Watched]]]:
        """The questions' file with its pictures, and the pairs by the names of their questions."""
        folder = Path(self.folder, "questions")
        folder.mkdir(parents=True, exist_ok=True)
        field = "frames" if self.look == "frames" else "steps"
        rows: dict[str, dict[str, Any]] = {}
        by_name = {}
        for pair in pairs:
            a, b = (self._shown(folder, watched) for watched in pair)
            name = hashlib.sha256(json.dumps([a, b]).encode()).hexdigest()[:16]
            if a != b:
                rows[name], by_name[name] = {"id": name, f"{field}_a": a, f"{field}_b": b}, pair
        items = folder / f"{hashlib.sha256(''.join(rows).encode()).hexdigest()[:16]}.jsonl"
        items.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")
        return items, by_name

    @staticmethod
    def _shown(folder: Path, watched: Watched) -> list[str]:
        """Names of pictures, which are written once whatever fragment they belong to, or the texts."""
        names = []
        for view in watched.views:
            if isinstance(view, str):
                names.append(view)
                continue
            name = f"{hashlib.sha256(view).hexdigest()[:24]}.png"
            if not (folder / name).exists():
                (folder / name).write_bytes(view)
            names.append(name)
        return names

    def _left(self, service: FeedbackService, names: set[str]) -> int:
        """Pairs that still need an answer from somebody who hasn't skipped them."""
        judgements = service.desk.judgements
        counts = judgements.counts()
        done = [judgements.done(rater) for rater in judgements.raters()]
        return sum(counts.get(name, 0) < self.per_pair and not all(name in judged for judged in done) for name in names)

    def _tell(self, service: FeedbackService, left: int) -> None:
        print(f"{left} pairs of fragments to compare: {service.url}", file=sys.stderr)
        for name, link in service.links.items():
            print(f"  link of {name}  {link}   (shown this once; only its digest is kept)", file=sys.stderr)


def comparisons_of(pairs: dict[str, tuple[Watched, Watched]], answers: Sequence[Judgement]) -> list[Comparison]:
    """One comparison a pair that has an answer, in the order of the pairs; several answers are averaged."""
    found = []
    for name, (a, b) in pairs.items():
        given = [one for one in answers if one.item == name and one.undone is None and one.choice in WORTH]
        if given:
            preference = sum(WORTH[one.choice] for one in given) / len(given)
            found.append(Comparison(a.fragment, b.fragment, preference, "+".join(sorted({one.rater for one in given}))))
    return found
