"""Eight radii of adversarial training, on two cores: the table, the front and its picture."""

from __future__ import annotations

import os
import shutil

import pyarrow.parquet as pq
import pytest

from tests.verify.readme import ROOT, publish
from tests.verify.shell import Clock, Shell

PICTURE = ROOT / "docs" / "images" / "sweep-pareto.png"


@pytest.mark.slow
def test_a_sweep_of_epsilon_shows_what_robustness_costs(shell: Shell) -> None:
    clock = Clock()
    run = shell.run("raysafe sweep jobs/presets/adversarial_sweep.yaml", named=True, timeout_s=3600)
    opened = shell.opened(run)
    rows = pq.read_table(opened.folder.local_path("sweep.parquet")).to_pylist()
    assert [row["state"] for row in rows] == ["finished"] * 8
    clean = {row["settings.epsilon"]: row["robustness/clean_accuracy"] for row in rows}
    robust = {row["settings.epsilon"]: row["robustness/robust_accuracy"] for row in rows}
    # training against next to nothing is the control; what is trained for is what is gained
    assert robust[0.1] > robust[0.01] + 0.15 and clean[0.2] < clean[0.02]
    best = next(event for event in opened.events if event["event"] == "best")
    assert clean[float(best["settings"].split()[1])] >= 0.95
    if os.environ.get("RAYSAFE_VERIFY"):
        shutil.copy(opened.folder.local_path("pareto.png"), PICTURE)
    lines = [
        f"| {row['settings.epsilon']:g} | {row['robustness/clean_accuracy']:.1%} "
        f"| {row['robustness/robust_accuracy@0.05']:.1%} | {row['robustness/robust_accuracy']:.1%} "
        f"| {row['robustness/robust_accuracy@0.15']:.1%} |"
        for row in rows
    ]
    publish(
        "sweep",
        "| trained within | clean accuracy | within 0.05 | within 0.1 | within 0.15 |\n|---|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n\nRegistered by the rule (robust within 0.1, at least 95% clean): {best['model']}, trained within "
        f"{best['settings'].split()[1]}. {clock.text}, two trials at a time.",
    )
