"""`raysafe guards check | seal | test | train | probe`: policies, and the guards that are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.guard_policy import check, seal
from raysafe.cli.guard_probe import LabelField, TextField, probe
from raysafe.cli.output import print_json, print_table
from raysafe.errors import ConfigError, DataError
from raysafe.runtime.bar import Bar

if TYPE_CHECKING:
    from raysafe.evaluation.guard_report import Report, Row
    from raysafe.records.statistics import Estimate

Arg = tyro.conf.arg
Positional = tyro.conf.Positional


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"check": check, "seal": seal, "test": test, "train": train, "probe": probe}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe guards", description=__doc__)


def train(
    data: Annotated[Positional[str], Arg(help="JSONL (also .gz) or CSV with a text and a label in each row.")],
    *,
    out: Annotated[Path, Arg(help="Folder to write the model to; `kind: linear` of a policy names it.")],
    text_field: TextField = None,
    label_field: LabelField = "label",
    group_field: Annotated[
        str | None, Arg(help="Field that names a row's source: whole groups are held out. Similar texts by default.")
    ] = None,
    positive: Annotated[str, Arg(help="What a high score says of a text; shown in verdicts.")] = "attack",
    l2: Annotated[float, Arg(help="Strength of the L2 penalty.")] = 1e-4,
    window: Annotated[int, Arg(help="Bytes of text that are judged together; the worst window counts.")] = 1200,
    target_fpr: Annotated[float, Arg(help="False-positive rate at which the model's own threshold is set.")] = 0.01,
    seed: Annotated[int, Arg(help="Seed of the held-out part.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Train a linear text guard: hashed n-grams, logistic regression, calibrated on a held-out part.

    The held-out part shares no group of similar texts with the training part. Models of shuffled labels are trained
    beside it; the mean of their areas under the curve must be at chance, or the split leaks.
    """
    from raysafe.evaluation.guard_metrics import area_under_curve, recall_at
    from raysafe.guards.labelled import read_labelled
    from raysafe.guards.training import examples
    from raysafe.guards.training import train as train_model
    from raysafe.models.roc import auroc

    if out.exists() and not (out / "linear.json").is_file() and any(out.iterdir()):
        raise ConfigError(f"out: {out} holds other files: name a new folder")
    rows = read_labelled(data, text_field=text_field, label_field=label_field, group_field=group_field or "")
    groups = [row.group for row in rows] if group_field else None
    if groups is not None and not all(groups):
        raise DataError(f"{data} has rows without the field '{group_field}': fill it, or leave --group-field out")
    with Bar("training", unit="step") as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.total = total
            bar.show(done, what)

        trained = train_model(
            examples([row.text for row in rows], [row.attack for row in rows], groups),
            l2=l2,
            window=window,
            target_fpr=target_fpr,
            seed=seed,
            positive=positive,
            trained_on=f"{len(rows)} texts of {Path(data).name}",
            progress=progress,
        )
    trained.model.save(out)
    labels, scores = trained.held_labels_H, trained.held_scores_H
    area = area_under_curve(labels, scores)
    chance = [auroc(logits, labels == 1) for logits in trained.control_logits_CH]
    recalls = [recall_at(scores[labels == 1], scores[labels == 0], level) for level in (0.01, 0.05)]
    if as_json:
        found = {"auc": asdict(area), "shuffled": chance, "recall": [asdict(recall) for recall in recalls]}
        print_json({"model": str(out), "clusters": trained.clusters, **found})
        return 0
    shown = [("area under the curve", _shown(area, 3))]
    shown += [(f"recall at {recall.level:.0%} false positives", _shown(recall.recall)) for recall in recalls]
    shown += [("area on shuffled labels", f"{sum(chance) / len(chance):.3f} mean of {len(chance)}")]
    shown += [("threshold", f"{trained.model.settings.threshold:.4f}")]
    print_table(("held out", f"{labels.size} texts"), shown)
    print(f"written to {out}: name it in a policy with\n  - kind: linear\n    model: {out}")
    return 0


def test(
    policy: Annotated[Positional[str], Arg(help="Policy file, or default for the packaged one.")],
    data: Annotated[Positional[str], Arg(help="JSONL (also .gz) or CSV of attacks, with benign texts or without.")],
    *,
    benign: Annotated[tuple[str, ...], Arg(help="More files, of benign texts that need no label.")] = (),
    transforms: Annotated[tuple[str, ...], Arg(help="Disguises to examine under; all by default.")] = (),
    adaptive: Annotated[
        int, Arg(help="Tries of the adaptive attacker on each prompt, such as 200; none by default.")
    ] = 0,
    adaptive_prompts: Annotated[int, Arg(help="Prompts that it attacks, drawn at random.")] = 100,
    stage: Annotated[Literal["input", "output"], Arg(help="Judge the texts as prompts or as answers.")] = "input",
    out: Annotated[Path | None, Arg(help="Folder for report.json and recall.png; guards-report by default.")] = None,
    text_field: TextField = None,
    label_field: LabelField = "label",
    group_field: Annotated[str, Arg(help="Field that names a row's source, shown apart.")] = "group",
    seed: Annotated[int, Arg(help="Seed of the disguises and of the attacker.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Recall of a policy's guards at 1% and 5% false positives, with 95% intervals, per disguise and source.

    A policy's score of a text is the highest that any of its guards gives; the thresholds for 1% and 5% are taken on
    the benign texts as they are. `policy` is what the policy as it stands stops. Rate limits are left out.
    """
    from raysafe.evaluation.guard_report import examine
    from raysafe.evaluation.guard_scores import Examiner
    from raysafe.guards.labelled import read_labelled
    from raysafe.guards.policy import load_policy
    from raysafe.guards.transforms import TRANSFORMS, named

    if adaptive < 0 or adaptive_prompts < 1:
        raise ConfigError(
            f"adaptive must be 0 or more and adaptive-prompts 1 or more, got {adaptive}, {adaptive_prompts}"
        )
    for name in transforms:
        named(name)
    examiner = Examiner(load_policy(None if policy == "default" else policy), stage)
    if not examiner.guards:
        raise ConfigError(f"policy {policy} has no guard of texts at the stage {stage}: name one that has")
    rows = read_labelled(data, text_field=text_field, label_field=label_field, group_field=group_field)
    for path in benign:
        rows += read_labelled(
            path, text_field=text_field, label_field=label_field, group_field=group_field, label="benign"
        )
    with Bar("examining", unit="text") as bar:

        def work(what: str, total: int) -> Callable[[int], None]:
            bar.total, bar.title = total, what
            bar.show(0)
            return bar.advance

        report = examine(
            examiner,
            rows,
            transforms=transforms or tuple(TRANSFORMS),
            adaptive=adaptive,
            adaptive_prompts=adaptive_prompts,
            seed=seed,
            work=work,
        )
    folder = out or Path("guards-report")
    report.save(folder)
    if as_json:
        print((folder / "report.json").read_text(encoding="utf-8"), end="")
    else:
        _print(report)
        print(f"report.json and recall.png are in {folder}")
    return 0


def _print(report: Report) -> None:
    print(f"guards: {', '.join(report.guards)}; stage {report.stage}")
    print(f"area under the curve, plain: {_shown(report.auc, 3)}; false positives of the policy: ", end="")
    print(_shown(report.false_positives))
    headings = ("attacks", "n", "recall at 1% fp", "recall at 5% fp", "stopped by the policy")
    disguised = [
        (*_cells(row), "" if row.benign_stopped is None else _shown(row.benign_stopped)) for row in report.transforms
    ]
    print_table((*headings, "benign stopped, disguised"), disguised, title="under each transform")
    if len(report.groups) > 1:
        print_table(headings, [_cells(row) for row in report.groups], title="attacks by group, plain")
    if len(report.benign_groups) > 1:
        print_table(headings, [_cells(row) for row in report.benign_groups], title="benign texts by group: shares over")
    if (adaptive := report.adaptive) is not None:
        left = [*(_shown(estimate) for _, estimate in adaptive.at), _shown(adaptive.policy)]
        title = f"recall left after {adaptive.tries} tries on each of {adaptive.prompts} prompts"
        print_table(headings[2:], [left], title=title)
    if report.failures:
        print(f"guards failed on {report.failures} texts: their scores don't count, see the policy's own decision")


def _cells(row: Row) -> tuple[str, ...]:
    return (row.name, str(row.n), *(_shown(at.recall) for at in row.at), _shown(row.policy))


def _shown(estimate: Estimate, places: int = 0) -> str:
    if places:
        return f"{estimate.value:.{places}f} ({estimate.low:.{places}f} to {estimate.high:.{places}f})"
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"
