"""`raysafe runs`: what runs there are, what one did, and whether settings differ beyond their seeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from raysafe.alignment.dpo import DPOJob
from raysafe.cli.main import main
from raysafe.runtime.run import Run

NOISE = (0.01, -0.02, 0.005, 0.012)


def make(storage: Path, *, beta: float, seed: int, loss: float, status: str = "finished") -> Run:
    run = Run.create(DPOJob(model="m", data="d", storage=str(storage), beta=beta, seed=seed))
    run.log(1, {"loss": 0.69, "learning_rate": 1e-5})
    run.log(2, {"loss": loss})
    run.flush()
    run.event(status)
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    weak = [make(tmp_path, beta=0.1, seed=s, loss=0.5 + n) for s, n in enumerate(NOISE)]
    return weak + [make(tmp_path, beta=0.3, seed=s, loss=0.4 + 1.5 * n) for s, n in enumerate(NOISE)]


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["runs", *arguments]) == 0
    return capsys.readouterr().out


def test_list_shows_the_newest_first_with_status_and_figures(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, beta=0.2, seed=9, loss=0.6, status="interrupted")
    (tmp_path / "no-run").mkdir()
    listed = json.loads(output(capsys, "list", "--storage", str(tmp_path), "--json"))
    assert len(listed) == 9
    assert (listed[0]["status"], listed[0]["loss"], listed[0]["step"]) == ("interrupted", 0.6, 2)
    assert "interrupted" in output(capsys, "list", "--storage", str(tmp_path))


def test_show_prints_settings_figures_and_events(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    shown = output(capsys, "show", runs[0].uri)
    assert "beta: 0.1" in shown
    assert "0.51" in shown
    assert "finished" in shown
    assert json.loads(output(capsys, "show", runs[0].uri, "--json"))["config"]["beta"] == 0.1


def test_compare_gives_intervals_over_seeds_and_a_paired_test(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    text = output(capsys, "compare", *(run.uri for run in runs))
    first, second = (np.array([base + scale * n for n in NOISE]) for base, scale in ((0.5, 1.0), (0.4, 1.5)))
    p_value = stats.ttest_rel(first, second).pvalue
    low, high = stats.t.interval(0.95, 3, loc=first.mean(), scale=stats.sem(first))
    assert "beta=0.1: 4 run(s), seeds 0, 1, 2, 3" in text
    assert f"{first.mean():.4g} ({low:.4g} to {high:.4g})" in text
    assert f"p = {p_value:.3g}" in text
    assert "learning_rate" not in text


def test_comparing_one_run_is_refused(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", runs[0].uri]) == 2
    assert "needs two runs at least" in capsys.readouterr().err


def test_resuming_a_finished_run_does_nothing_and_says_so(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    before = runs[0].folder.read("events.jsonl")
    assert output(capsys, "resume", runs[0].uri) == f"{runs[0].uri} is finished: nothing to do\n"
    assert runs[0].folder.read("events.jsonl") == before


def test_what_is_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "resume"):
        assert main(["runs", command, str(tmp_path)]) == 2
        assert "is not a run: it has no config.yaml" in capsys.readouterr().err


def test_compare_as_json_holds_numbers(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    compared = json.loads(output(capsys, "compare", *(run.uri for run in runs), "--json"))
    (loss,) = compared["figures"]
    assert loss["beta=0.1"]["value"] == pytest.approx(0.5 + np.mean(NOISE))
    assert loss["test"]["n"] == 4
    assert list(compared["groups"]) == ["beta=0.1", "beta=0.3"]


def test_only_seeds_that_both_groups_have_are_paired(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    more = make(tmp_path, beta=0.3, seed=77, loss=5.0)
    compared = json.loads(output(capsys, "compare", *(run.uri for run in [*runs, more]), "--json"))
    assert compared["figures"][0]["test"]["n"] == 4
    assert compared["figures"][0]["beta=0.3"]["n"] == 5


def test_a_run_may_be_given_by_the_name_that_list_shows(
    tmp_path: Path, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs[0].uri in output(capsys, "show", runs[0].name, "--storage", str(tmp_path))
    names = [run.name for run in runs[:2]]
    assert "same settings: 2 run(s)" in output(capsys, "compare", *names, "--storage", str(tmp_path))


def test_no_runs_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list", "--storage", str(tmp_path / "none")) == f"no runs in {tmp_path / 'none'}\n"


def test_looking_at_runs_imports_neither_torch_nor_ray(runs: list[Run]) -> None:
    first, second = runs[0].uri, runs[4].uri
    code = (
        "import sys; from raysafe.cli.main import main; "
        f"main(['runs', 'show', {first!r}]); main(['runs', 'compare', {first!r}, {second!r}]); "
        "sys.exit(str([m for m in ('torch', 'ray', 'transformers') if m in sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "[]"


DAMAGE = {
    "config.yaml": [b"job: [", b"- 1\n", b"1: 2\n", b"seed: many\n"],
    "metrics.parquet": [b"garbage", b"", b"PAR1" + bytes(60) + b"PAR1"],
    "events.jsonl": [b'{"time": "2026-11-01T00:00:00+00:00", "ev', b"1\n", b'{"event": "created", "time": "x"}\n'],
    "environment.json": [b"{", b"[]", b'{"inputs": [1]}'],
    "evidence.json": [b"[", b"{}", b'[{"suite": 1}]'],
}


@pytest.mark.parametrize(("name", "content"), [(name, c) for name, many in DAMAGE.items() for c in many])
def test_a_damaged_run_is_one_unreadable_row_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes
) -> None:
    good, bad = (make(tmp_path, beta=0.1, seed=seed, loss=0.5) for seed in (1, 2))
    bad.folder.write(name, content)
    listed = json.loads(output(capsys, "list", "--storage", str(tmp_path), "--json"))
    assert [(row["run"], row["status"]) for row in listed] == [(good.uri, "finished"), (bad.uri, "unreadable")]
    damaged = f"{bad.uri}/{name} is damaged: "
    assert listed[1]["reason"].startswith(damaged)
    text = output(capsys, "list", "--storage", str(tmp_path))
    assert "unreadable" in text
    assert f"{bad.name} is unreadable: {damaged}" in text
    assert main(["runs", "show", bad.uri]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"raysafe: {damaged}")
    assert error.endswith("; restore it, or delete the run\n")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["config.yaml", "metrics.parquet", "events.jsonl"])
@pytest.mark.parametrize("command", ["resume", "compare"])
def test_a_damaged_run_is_neither_resumed_nor_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    good, bad = (make(tmp_path, beta=0.1, seed=seed, loss=0.5, status="failed") for seed in (1, 2))
    bad.folder.write(name, DAMAGE[name][0])
    assert main(["runs", command, bad.uri, *([good.uri] if command == "compare" else [])]) == 2
    assert capsys.readouterr().err.startswith(f"raysafe: {bad.uri}/{name} is damaged: ")
