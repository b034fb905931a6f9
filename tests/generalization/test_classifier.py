"""The classifier's learner without Ray, its settings, and the job from a table to a report."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jobs.tasks.loans import loans
from raysafe.data.grouped import Grouped, load_grouped, split_grouped, to_table
from raysafe.errors import ConfigError
from raysafe.generalization.classifier import ClassifierJob
from raysafe.generalization.classifier_learner import ClassifierLearner, Constrained, group_names, rows_of, standard
from raysafe.generalization.fairness_front import Judged, candidates, front_plots, kept, on_front
from raysafe.generalization.predictions import predict
from raysafe.generalization.settings import FairTraining, Front, Regularisation
from raysafe.generalization.sparsity import sparsity
from raysafe.models.mlp import ClassifierHead, MlpConfig
from raysafe.records.statistics import wilson_interval

ROOT = Path(__file__).parents[2]
FREE, NONE = FairTraining(), Regularisation()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Grouped]:
    import csv

    path = tmp_path_factory.mktemp("loans") / "loans.csv"
    rows = loans(1600, seed=1)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    whole = load_grouped(str(path), label="label", groups=["group"])
    return split_grouped(whole, {"train": 0.6, "test": 0.4}, 0)


def trained(
    people: dict[str, Grouped],
    fair: FairTraining = FREE,
    regularisation: Regularisation = NONE,
    steps: int = 150,
) -> tuple[ClassifierLearner, Constrained]:
    """Full batches of the learner's own loss and step, as the loop takes them."""
    part = people["train"]
    config = MlpConfig(
        inputs=part.labelled.x.shape[1],
        hidden=(32,) if len(part.labelled.labels) > 2 else (8,),
        activation="relu",
        normalise=True,
        head=ClassifierHead(labels=part.labelled.labels),
    )
    learner = ClassifierLearner(
        config,
        part.features,
        mean_std=standard(part.labelled.x),
        favourable=part.labelled.labels.index("repaid") if part.groups else 0,
        groups=2 if part.groups else 1,
        regularisation=regularisation,
        fair=fair,
        batch_size=len(part),
    )
    torch.manual_seed(0)
    module = learner.build()
    assert isinstance(module, Constrained)
    batch = learner.collate(rows_of(part, ["a", "b"] if part.groups else ["all"]))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.02, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        loss, _ = learner.loss(module.train(), batch)
        (loss / batch.weight).backward()
        optimizer.step()
        learner.after_step(module, optimizer)
    return learner, module.eval()


def judged(people: dict[str, Grouped], learner: ClassifierLearner, module: nn.Module, folder: Path) -> Judged:
    learner.save(module, folder)
    found = predict(folder, people["test"])
    return Judged.of("", found.accuracy, found.by_group(group_names(people["test"]), "repaid"))


def test_penalty_and_constraint_narrow_the_gap_on_held_out_rows(people: dict[str, Grouped], tmp_path: Path) -> None:
    control = judged(people, *trained(people), tmp_path / "control")
    penalised = judged(people, *trained(people, FairTraining(penalty=10.0)), tmp_path / "penalised")
    fair = FairTraining(tolerance=0.02)
    constrained = judged(people, *trained(people, fair), tmp_path / "constrained")
    assert control.parity.value > 0.3
    assert penalised.parity.value < control.parity.value / 2
    assert constrained.parity.value < control.parity.value / 2
    assert control.accuracy.value > constrained.accuracy.value > 0.6


def test_regularisers_do_what_they_are_for(people: dict[str, Grouped], tmp_path: Path) -> None:
    _, control = trained(people)
    _, sparse = trained(people, regularisation=Regularisation(l1=0.01))
    _, smooth = trained(people, regularisation=Regularisation(spectral=0.05))
    _, flat = trained(people, regularisation=Regularisation(jacobian=0.5))
    layers = {name: sparsity(m.network) for name, m in (("control", control), ("sparse", sparse), ("smooth", smooth))}
    assert sum(layer.zeros for layer in layers["control"]) == 0
    assert layers["sparse"][0].share > 0.4
    assert layers["smooth"][0].spectral_norm < 0.7 * layers["control"][0].spectral_norm

    def slope(module: Constrained) -> float:
        """The true norm of the Jacobian, by autograd row by row."""
        rows = torch.from_numpy(people["test"].labelled.x[:50])
        jacobians = [torch.autograd.functional.jacobian(module, row[None])[0, :, 0] for row in rows]
        return float(torch.stack(jacobians).square().sum(dim=(1, 2)).mean())

    assert slope(flat) < 0.5 * slope(control)


@pytest.mark.slow
def test_the_jacobian_penalty_makes_digits_robust_to_noise() -> None:
    """Held-out digits in Gaussian noise of deviation 0.35: more are read right than without the penalty."""
    from raysafe.data.grouped import Feature, Features
    from raysafe.data.labelled import Labelled, load_labelled

    digits = load_labelled("digits")
    x_ND = digits.x.reshape(len(digits), -1)
    # a pixel at the border that hardly ever varies would be blown up by normalisation, and its noise with it
    x_ND = x_ND[:, x_ND.std(axis=0) > 0.1]
    names = Features(columns=tuple(Feature(name=str(place)) for place in range(x_ND.shape[1])))
    whole = Grouped(Labelled(x_ND, digits.y, digits.labels), {}, names)
    parts = split_grouped(whole, {"train": 0.6, "test": 0.4}, 0)
    test = parts["test"].labelled
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal(test.x.shape).astype(np.float32))

    def right(jacobian: float) -> tuple[float, float, float]:
        """Accuracy, accuracy in noise, and the mean squared norm of the true Jacobian."""
        _, module = trained(parts, regularisation=Regularisation(jacobian=jacobian), steps=250)
        x_ND = torch.from_numpy(test.x)
        with torch.no_grad():
            hits = [float((module(x).argmax(1).numpy() == test.y).mean()) for x in (x_ND, x_ND + 0.35 * noise)]
        norms = [torch.autograd.functional.jacobian(module, row[None]).square().sum() for row in x_ND[:60]]  # type: ignore[union-attr]
        return *hits, float(torch.stack(norms).mean())

    (clean, noisy, slope), (smooth_clean, smooth_noisy, smooth_slope) = right(0.0), right(0.01)
    print(f"clean {clean:.3f} {smooth_clean:.3f}, noisy {noisy:.3f} {smooth_noisy:.3f}, {slope:.1f} {smooth_slope:.1f}")
    assert smooth_slope < 0.5 * slope
    assert smooth_noisy > noisy + 0.03
    assert smooth_clean > clean - 0.02


def test_the_loss_on_validation_rows_is_an_exact_penalty(people: dict[str, Grouped]) -> None:
    learner, module = trained(people, steps=1)
    batch = learner.collate(rows_of(people["test"], ["a", "b"]))
    plain, figures = learner.loss(module, batch)
    learner.fair = FairTraining(tolerance=0.0, most=7.0)
    with torch.no_grad():
        constrained, _ = learner.loss(module, batch)
    gap = float(figures["gap"][0]) / batch.weight
    assert float(constrained - plain) / batch.weight == pytest.approx(7.0 * gap, abs=1e-4)


def test_multipliers_are_kept_with_the_weights(people: dict[str, Grouped]) -> None:
    learner, module = trained(people, FairTraining(tolerance=0.0), steps=5)
    state = module.state_dict()
    assert state["multipliers"].max() > 0
    again = learner.build()
    again.load_state_dict(state)
    assert isinstance(again, Constrained) and torch.equal(again.multipliers, module.multipliers)


def test_held_out_rows_are_read_back_as_they_were(people: dict[str, Grouped], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    part = people["test"]
    pq.write_table(to_table(part, "label"), tmp_path / "held-out.parquet")
    again = load_grouped(
        str(tmp_path / "held-out.parquet"),
        label="label",
        groups=["group"],
        features=part.features,
        labels=part.labelled.labels,
    )
    assert again.digest == part.digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": ["sex"]}, "groups need favourable"),
        ({"fair": {"penalty": 1.0}}, "need groups"),
        ({"groups": ["sex"], "favourable": "yes", "front": {}, "fair": {"penalty": 1.0}}, "leave fair.penalty"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "leave no rows to train on"),
        ({"front": {"penalties": []}, "groups": ["sex"], "favourable": "yes"}, "needs penalties or tolerances"),
        ({"training": {"sharding": "fsdp"}}, "set training.sharding to ddp"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifierJob.parse({"data": "people.csv"} | settings)


def test_a_favourable_class_that_is_none_is_refused_before_anything_starts() -> None:
    job = ClassifierJob(data=str(ROOT / "jobs/data/loans.csv"), groups=("group",), favourable="rich")
    with pytest.raises(ConfigError, match="favourable 'rich' is not one of the classes lost, repaid"):
        job.read()


def one(name: str, right: int, gap: float) -> Judged:
    from raysafe.generalization.fairness import Gap

    found = Gap(gap, 0.0, 1.0, 100, "a", "b")
    return Judged(name, wilson_interval(right, 100), found, found, found)


def test_the_kept_model_is_the_most_accurate_within_the_gap_or_else_the_most_equal() -> None:
    some = [one("free", 90, 0.3), one("mild", 88, 0.04), one("strict", 80, 0.01)]
    assert kept(some, "demographic-parity", 0.05) == 1
    assert kept(some, "demographic-parity", 0.001) == 2
    assert on_front([*some, one("worse", 79, 0.2)], "demographic-parity") == [True, True, True, False]
    assert len(front_plots(some, "demographic-parity")) == 2


def test_a_front_begins_with_an_unconstrained_model() -> None:
    names = list(candidates(FairTraining(criterion="equalised-odds"), Front(penalties=(1.0, 2.0), tolerances=(0.1,))))
    assert names == ["unconstrained", "penalty 1", "penalty 2", "tolerance 0.1"]
    assert candidates(FairTraining(penalty=3.0), None) == {"penalty 3": FairTraining(penalty=3.0)}


@pytest.mark.ray
@pytest.mark.slow
def test_the_job_leaves_a_model_evidence_and_a_report_and_the_suite_examines_it(
    tmp_path: Path, ray_cluster: None
) -> None:
    from raysafe.evaluation.job import EvaluateJob

    job = ClassifierJob(
        data=str(ROOT / "jobs/data/loans.csv"),
        groups=("group", "sex"),
        favourable="repaid",
        hidden=(8,),
        front={"penalties": (10.0,)},  # type: ignore[arg-type]
        permutations=9,
        training={"epochs": 8},  # type: ignore[arg-type]
        storage=str(tmp_path),
    )
    run = job.run()
    assert run.status == "finished"
    assert {item.metric for item in run.evidence} == {"accuracy", "demographic_parity_gap", "equalised_odds_gap"}
    report = run.folder.read("report.html").decode()
    assert "Accuracy against fairness" in report and "Audit of the data" in report and "district=south" in report
    examined = EvaluateJob(
        model=run.uri,
        suite="fairness",
        data=run.folder.join("held-out.parquet"),
        groups=("group", "sex"),
        favourable="repaid",
        permutations=9,
        thresholds={"demographic_parity_gap": 0.0, "accuracy": 0.5},
        storage=str(tmp_path),
        store=f"sqlite:///{tmp_path}/store.db",
    ).run()
    by_name = {item.metric: item for item in examined.evidence}
    assert by_name["accuracy"].passed and not by_name["demographic_parity_gap"].passed
    own = {item.metric: item.value for item in run.evidence}
    assert by_name["accuracy"].value == own["accuracy"]
    assert by_name["intersectional_demographic_parity_gap"].value == own["demographic_parity_gap"]
    assert by_name["leakage"].value > 0.7
