"""Loans with planted unfairness, for a first run: `python -m jobs.tasks.loans FILE [--rows N]` writes a CSV.

Two groups that repay alike given income and debts; one of them is poorer, and lives in the south. Whoever forbids the
column `group` alone leaves the district, by which the group can be told.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np


def loans(rows: int, seed: int = 0) -> list[dict[str, object]]:
    """Rows with income and debts in thousands, district, job, sex, group, and whether the loan was repaid."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], rows, p=[0.7, 0.3])
    poorer = group == "b"
    income = np.maximum(rng.normal(np.where(poorer, 34, 44), 10), 8)
    debts = np.maximum(rng.normal(12, 6, rows), 0)
    south = rng.random(rows) < np.where(poorer, 0.85, 0.2)
    repaid = rng.random(rows) < 1 / (1 + np.exp(-(income - 38 - 0.6 * (debts - 12)) / 6))
    sex, job = rng.choice(["f", "m"], rows), rng.choice(["clerk", "cook", "driver"], rows)
    return [
        {
            "income": round(float(income[i]), 1),
            "debts": round(float(debts[i]), 1),
            "district": "south" if south[i] else "north",
            "job": str(job[i]),
            "sex": str(sex[i]),
            "group": str(group[i]),
            "label": "repaid" if repaid[i] else "lost",
        }
        for i in range(rows)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=1200)
    options = parser.parse_args()
    made = loans(options.rows)
    with options.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(made[0]))
        writer.writeheader()
        writer.writerows(made)
    print(f"{options.file}: {len(made)} rows")


if __name__ == "__main__":
    main()
