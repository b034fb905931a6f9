"""Lists to sort: a task whose answers can be checked.

    python -m jobs.tasks.sorting sorting

writes demonstrations.jsonl for `raysafe sft` and prompts.jsonl for `raysafe grpo` with `rewards: [check:exact]` into
the folder `sorting`. Both have the same prompts, so that jobs with the same fractions and seed hold the same ones out.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path


def lists(count: int, length: int, seed: int) -> Iterator[list[int]]:
    """Different lists of different digits."""
    rng = random.Random(seed)
    seen: set[tuple[int, ...]] = set()
    while len(seen) < count:
        digits = tuple(rng.sample(range(10), length))
        if digits not in seen:
            seen.add(digits)
            yield list(digits)


def spoken(digits: list[int]) -> str:
    """4 2 9 1"""
    return " ".join(map(str, digits))


def write(folder: Path, count: int = 4000, length: int = 4, seed: int = 0) -> None:
    """demonstrations.jsonl and prompts.jsonl; raises ValueError where there are fewer lists than that."""
    if count > math.perm(10, length):
        raise ValueError(f"there are {math.perm(10, length)} lists of {length} different digits, fewer than {count}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(f"sort {spoken(digits)}", spoken(sorted(digits))) for digits in lists(count, length, seed)]
    for name, field in (("demonstrations", "completion"), ("prompts", "label")):
        lines = [json.dumps({"prompt": prompt, field: answer}) for prompt, answer in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4000, help="lists (4000)")
    parser.add_argument("--length", type=int, default=4, choices=range(2, 8), help="digits of a list (4)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        write(given.folder, given.count, given.length, given.seed)
    except ValueError as error:
        parser.error(str(error))
    print(f"{given.folder}/demonstrations.jsonl and prompts.jsonl: {given.count} lists")


if __name__ == "__main__":
    main()
