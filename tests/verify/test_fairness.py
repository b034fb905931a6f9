"""Adult's front between accuracy and demographic parity, with the gap of odds beside it, by the commands of a user."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real_data import FAIRNESS
from tests.verify.readme import publish
from tests.verify.shell import Shell


def shown(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


@pytest.mark.slow
def test_a_front_on_adult_narrows_one_gap_and_tells_what_the_other_costs(shell: Shell) -> None:
    data = FAIRNESS / "adult.csv"
    if not data.is_file():
        pytest.skip(f"there is no {data}: python -m tests.bench.fairness_data")
    (shell.folder / "adult.csv").symlink_to(data)
    command = "raysafe classifier --config jobs/presets/classifier_adult.yaml"
    run = shell.run(command, named=True, timeout_s=3600)
    front = json.loads(shell.opened(run).folder.read("artifacts/front.json"))
    found = {one["name"]: one for one in front["held_out"]}
    control, kept = found["unconstrained"], found[front["kept"]]
    assert kept is not control
    for name in ("penalty 30", "tolerance 0.02"):
        assert found[name]["parity"]["high"] < control["parity"]["low"], name
        assert found[name]["odds"]["value"] > control["odds"]["value"], name
    assert sum(one["on_front"] for one in found.values()) >= 3
    report = shell.opened(run).folder.read("report.html").decode()
    assert (
        "accuracy over demographic parity gap (trained for)" in report and "accuracy over equalised odds gap" in report
    )

    shell.run(
        f"raysafe evaluate {run} --suite fairness --data {run}/held-out.parquet --label salary --groups sex "
        "--favourable '>50K' --permutations 19",
        named=True,
    )
    suite = shell.transcript().splitlines()
    leakage = next(line.split() for line in suite if line.split()[:1] == ["leakage"])
    rows = [
        f"| {name}{' (kept)' if one is kept else ''} | {shown(one['accuracy'])} | {shown(one['parity'])} "
        f"| {shown(one['odds'])} | {'yes' if one['on_front'] else 'no'} |"
        for name, one in found.items()
    ]
    publish(
        "fairness",
        f"    $ {command}\n\n"
        "| Adult, women and men | accuracy | parity gap | odds gap | on the front |\n|---|---:|---:|---:|---|\n"
        + "\n".join(rows)
        + f"\n\n{control['accuracy']['n']:,} held-out rows, 95% intervals; parity was trained for, and the front is by "
        "accuracy and parity gap.\n`raysafe evaluate RUN --suite fairness` adds equal opportunity, calibration by "
        "group and the audit of the data: sex,\nwhich is no feature, can be told from the features with an AUROC of "
        f"{leakage[1]}.",
    )
