"""What the classifier job does: train each candidate, keep one by its validation rows, judge them on held-out rows."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from raysafe.data.grouped import Grouped, split_grouped, to_table
from raysafe.generalization.classifier import HELD_OUT
from raysafe.generalization.classifier_learner import ClassifierLearner, group_names, rows_of, standard
from raysafe.generalization.fairness import columns_of
from raysafe.generalization.fairness_audit import audit_columns
from raysafe.generalization.fairness_front import Judged, candidates, kept, on_front
from raysafe.generalization.fairness_report import audit_section, fairness_section, front_section
from raysafe.generalization.predictions import Predictions, place_of, predict
from raysafe.generalization.sparsity import sparsity, sparsity_table
from raysafe.models.classifier import load_classifier
from raysafe.models.mlp import ClassifierHead, MlpConfig
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.runtime.fit import fit
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.generalization.classifier import ClassifierJob

Parts = dict[str, Grouped]
FRONT = "artifacts/front.json"


def train(job: ClassifierJob, run: Run, grouped: Grouped) -> tuple[dict[str, str], Parts]:
    """Each candidate's place in the run, by name, and the parts of the rows; what is trained already stays."""
    rest = 1 - job.validation_fraction - job.test_fraction
    shares = {"train": rest, "validation": job.validation_fraction, "test": job.test_fraction}
    parts = split_grouped(grouped, shares, job.seed)
    written = io.BytesIO()
    pq.write_table(to_table(parts["test"], job.label), written)
    run.folder.write(HELD_OUT, written.getvalue())
    names = sorted(set(group_names(grouped).tolist()))
    tables = {name: rows_of(part, names) for name, part in parts.items() if name != "test"}
    labels = grouped.labelled.labels
    mean_std = standard(parts["train"].labelled.x)
    config = MlpConfig(
        inputs=grouped.labelled.x.shape[1],
        hidden=job.hidden,
        activation=job.activation,
        normalise=True,
        head=ClassifierHead(labels=labels),
    )
    done = sum(event["event"] == "trained" for event in run.events)
    models = {}
    for number, (name, fair) in enumerate(candidates(job.fair, job.front).items()):
        models[name] = "model" if job.front is None else f"front/{number}"
        if number < done:
            continue
        learner = ClassifierLearner(
            config,
            grouped.features,
            mean_std=mean_std,
            favourable=place_of(job.favourable, labels) if job.favourable is not None else 0,
            groups=len(names),
            regularisation=job.regularisation,
            fair=fair,
            batch_size=job.training.batch_size,
        )
        fit(
            learner,
            run,
            job.training,
            train=tables["train"],
            validation=tables["validation"],
            seed=job.seed,
            address=job.address,
            member=number,
            target=models[name],
        )
    return models, parts


def judge(job: ClassifierJob, run: Run, models: dict[str, str], parts: Parts, digest: str) -> list[Section]:
    """Evidence of the kept model on held-out rows, and the report's sections."""
    with tempfile.TemporaryDirectory(prefix="raysafe-classifiers-") as scratch:
        folders = []
        for place in models.values():
            folders.append(Path(scratch, place))
            run.folder.download(place, folders[-1])
        held_out = [predict(folder, parts["test"]) for folder in folders]
        chosen, sections = 0, []
        if job.groups:
            validation = [predict(folder, parts["validation"]) for folder in folders]
            chosen, sections = _fair_sections(job, run, list(models), validation, held_out, parts)
        if job.front is not None:
            run.folder.upload(folders[chosen], "model")
            run.event("kept", model=list(models)[chosen])
        sections.append(_weights_section(folders[chosen]))
        if not run.evidence:
            run.add_evidence(
                _evidence(job, run, held_out[chosen], parts["test"], folder_digest(folders[chosen]), digest)
            )
    return sections


def _fair_sections(
    job: ClassifierJob,
    run: Run,
    names: list[str],
    validation: list[Predictions],
    held_out: list[Predictions],
    parts: Parts,
) -> tuple[int, list[Section]]:
    """Which model is kept, by its validation rows, and what the report says of fairness."""
    favourable = str(job.favourable)
    chosen, sections = 0, []
    if job.front is not None:
        criterion = job.fair.criterion
        chosen = kept(_judged(job, names, validation, parts["validation"]), criterion, job.front.largest_gap)
        judged = _judged(job, names, held_out, parts["test"])
        marks = on_front(judged, criterion)
        figures = [asdict(one) | {"on_front": marked} for one, marked in zip(judged, marks, strict=True)]
        run.folder.write(FRONT, json.dumps({"kept": names[chosen], "held_out": figures}, indent=2))
        where = f"{len(parts['test'])} held-out rows, which chose nothing"
        sections.append(front_section(judged, criterion, chosen, where))
    for column, groups_N in columns_of(parts["test"].groups).items():
        found = held_out[chosen].by_group(groups_N, favourable, smallest=job.smallest_group)
        sections.append(fairness_section(column, found, favourable))
    place = place_of(favourable, parts["train"].labelled.labels)
    found_of_data = audit_columns(parts["train"], place, permutations=job.permutations, seed=job.seed)
    sections.append(audit_section(found_of_data, favourable))
    return chosen, sections


def _judged(job: ClassifierJob, names: list[str], predictions: list[Predictions], rows: Grouped) -> list[Judged]:
    groups_N = group_names(rows)
    return [
        Judged.of(name, one.accuracy, one.by_group(groups_N, str(job.favourable), smallest=job.smallest_group))
        for name, one in zip(names, predictions, strict=True)
    ]


def _weights_section(folder: Path) -> Section:
    model = load_classifier(folder)
    text = "Weights that are exactly zero; an input or output of a layer is dead where all of its weights are."
    return Section("Weights", text, sparsity_table(sparsity(model)))


def _evidence(
    job: ClassifierJob, run: Run, found: Predictions, rows: Grouped, model_digest: str, data_digest: str
) -> list[Evidence]:
    """Accuracy and, with groups, both gaps, on held-out rows."""
    figures: list[dict[str, Any]] = [
        {
            "metric": "accuracy",
            "value": found.accuracy.value,
            "n": found.accuracy.n,
            "interval": found.accuracy.interval,
        }
    ]
    if job.groups:
        fair = found.by_group(group_names(rows), str(job.favourable), smallest=job.smallest_group)
        gaps = {"demographic_parity_gap": fair.demographic_parity, "equalised_odds_gap": fair.equalised_odds}
        figures += [
            {"metric": name, "value": gap.value, "n": gap.n, "interval": gap.interval, "better": "lower"}
            for name, gap in gaps.items()
            if gap is not None
        ]
    settings = {"groups": ", ".join(job.groups), "favourable": str(job.favourable)} if job.groups else {}
    return [
        Evidence(
            suite="classifier",
            model_digest=model_digest,
            data_digest=data_digest,
            settings=settings | {"part": "held-out", "share": f"{job.test_fraction:g}", "seed": str(job.seed)},
            run=run.uri,
            artifacts={"held-out": HELD_OUT},
            **figure,
        )
        for figure in figures
    ]
