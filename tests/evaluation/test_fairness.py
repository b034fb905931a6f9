"""The suite on a model made by hand, whose decisions are known."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from raysafe.data.grouped import Feature, Features, write_features
from raysafe.errors import ConfigError, DataError
from raysafe.evaluation.job import EvaluateJob
from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig, save_mlp

CELLS = [("a", 1, 1, 30), ("a", 1, 0, 10), ("a", 0, 1, 12), ("a", 0, 0, 48)]
CELLS += [("b", 1, 1, 10), ("b", 1, 0, 10), ("b", 0, 1, 8), ("b", 0, 0, 72)]
"""Group, qualified, selected, rows: parity gap 0.24, opportunity gap 0.25, odds gap 0.25."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A classifier that selects whoever has a positive score."""
    network = Mlp(MlpConfig(inputs=1, head=ClassifierHead(labels=("no", "yes"))))
    network.load_state_dict({"layers.0.weight": torch.tensor([[0.0], [1.0]]), "layers.0.bias": torch.zeros(2)})
    save_mlp(network, tmp_path / "model")
    write_features(Features(columns=(Feature(name="score"),)), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        (g, "f" if n % 2 else "m", "yes" if q else "no", 1.0 if s else -1.0) for g, q, s, k in CELLS for n in range(k)
    ]
    columns = dict(zip(("team", "sex", "hired", "score"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), tmp_path / "people.parquet")
    return tmp_path / "people.parquet"


def job(model: Path, data: Path, **settings: object) -> EvaluateJob:
    given = {"label": "hired", "groups": ["team"], "favourable": "yes", "permutations": 3}
    store = f"sqlite:///{data.parent}/store.db"
    values = {"model": str(model), "data": str(data), "suite": "fairness", "storage": str(data.parent / "runs")}
    return EvaluateJob.parse(values | {"store": store} | given | settings)


def test_both_gaps_become_evidence_with_intervals_and_thresholds(model: Path, data: Path) -> None:
    run = job(model, data, thresholds={"demographic_parity_gap": 0.1, "equalised_odds_gap": 0.3}).run()
    found = {item.metric: item for item in run.evidence}
    assert found["demographic_parity_gap"].value == pytest.approx(0.24)
    assert found["demographic_parity_gap"].passed is False
    assert found["equalised_odds_gap"].value == pytest.approx(0.25) and found["equalised_odds_gap"].passed
    assert found["equal_opportunity_gap"].value == pytest.approx(0.25)
    assert found["label_gap"].value == pytest.approx(0.2)
    assert found["smallest_group_share"].value == 0.5
    assert found["accuracy"].value == pytest.approx(160 / 200)
    assert all(found[name].interval for name in ("demographic_parity_gap", "equalised_odds_gap", "label_gap"))
    report = run.folder.read("report.html").decode()
    assert "Groups by team" in report and "<svg" in report and "Audit of the data" in report
    cases = [json.loads(line) for line in run.folder.read("artifacts/cases.jsonl").splitlines()]
    assert [case["selected"] for case in cases] == pytest.approx([0.42, 0.18])


def test_several_columns_are_also_compared_together(model: Path, data: Path) -> None:
    found = {item.metric: item.value for item in job(model, data, groups=["team", "sex"]).run().evidence}
    assert found["demographic_parity_gap"] == pytest.approx(0.24)
    assert found["intersectional_demographic_parity_gap"] >= 0.24


def test_a_gap_that_is_unknown_is_no_evidence(model: Path, data: Path) -> None:
    table = pq.read_table(data)
    kept = [t == "a" or h == "no" for t, h in zip(table["team"].to_pylist(), table["hired"].to_pylist(), strict=True)]
    pq.write_table(table.filter(pa.array(kept)), data)
    names = {item.metric for item in job(model, data).run().evidence}
    assert "demographic_parity_gap" in names and "equalised_odds_gap" not in names
    with pytest.raises(DataError, match="holds no cases for equalised_odds_gap"):
        job(model, data, thresholds={"equalised_odds_gap": 0.1}).run()


def test_the_suite_needs_groups_and_a_favourable_class(model: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="can't do without favourable and groups"):
        job(model, data, groups=None, favourable=None)
    with pytest.raises(ConfigError, match="favourable 'maybe' is not one of the classes no, yes"):
        job(model, data, favourable="maybe").run()
