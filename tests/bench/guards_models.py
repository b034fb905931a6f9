"""Make the packaged data of the text guards anew: `python -m tests.bench.guards_models` after tests.bench.guards_data.

letters.safetensors and jailbreak/ are made from train.jsonl alone, whose sources are Apache-2.0 and MIT.
Prints what the models do on their held-out parts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

from raysafe.evaluation.guard_metrics import area_under_curve
from raysafe.guards import letters
from raysafe.guards.training import examples, train
from raysafe.models.roc import auroc
from tests.real_data import CACHE, ROOT

DATA = ROOT / "raysafe" / "guards" / "data"
KINDS = {"jailbreak": ("jailbreak", "injection")}
L2 = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, default=CACHE / "guard-prompts", help="folder of guards_data")
    parser.add_argument("--out", type=Path, default=DATA, help="where to write; the package's own folder by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    raw = (options.prompts / "train.jsonl").read_bytes()
    rows = [json.loads(line) for line in raw.decode().split("\n") if line]
    table = letters.learn(row["text"] for row in rows).save()
    (options.out / letters.TABLE).write_bytes(table)
    digest = hashlib.sha256(table).hexdigest()
    if options.out == DATA:
        source = Path(letters.__file__)
        source.write_text(re.sub(r"(?m)^SHA256 = .*$", f'SHA256 = "{digest}"', source.read_text()))
    print(f"letters: {len(table)} bytes, sha256 {digest}")
    for name, families in KINDS.items():
        chosen = [row for row in rows if row["family"] in (*families, "benign")]
        sources = ", ".join(sorted({row["group"] for row in chosen}))
        trained = train(
            examples([row["text"] for row in chosen], [row["label"] == "attack" for row in chosen]),
            l2=L2,
            positive=name,
            trained_on=f"{len(chosen)} texts: {sources}; sha256 of all {hashlib.sha256(raw).hexdigest()}",
        )
        trained.model.save(options.out / name)
        area = area_under_curve(trained.held_labels_H, trained.held_scores_H)
        chance = [auroc(logits_H, trained.held_labels_H == 1) for logits_H in trained.control_logits_CH]
        print(f"{name}: AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}), {area.n} held out")
        print(f"  on shuffled labels: {', '.join(f'{value:.3f}' for value in chance)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
