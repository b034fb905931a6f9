"""`raysafe guards probe`: train an activation probe, beside its controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table
from raysafe.errors import ConfigError, DataError

Arg = tyro.conf.arg
Positional = tyro.conf.Positional
TextField = Annotated[str | None, Arg(help="Field of the text; text, prompt, question or instruction by default.")]
LabelField = Annotated[str, Arg(help="Field of the label: attack, harmful, unsafe or 1; benign, safe or 0.")]


def probe(
    data: Annotated[Positional[str], Arg(help="JSONL (also .gz) or CSV with a text and a label in each row.")],
    *,
    model: Annotated[str, Arg(help="The model whose activations are read: the one to be guarded.")],
    out: Annotated[Path, Arg(help="File to write, *.safetensors; `kind: probe` of a policy names it.")],
    concept: Annotated[str, Arg(help="What the positive texts are; shown in verdicts.")] = "harmful request",
    layer: Annotated[int | None, Arg(help="Blocks before the state that is read; by default 0.6 of them.")] = None,
    position: Annotated[Literal["last", "mean", "max"], Arg(help="Token that counts: last, all, or highest.")] = "last",
    l2: Annotated[float, Arg(help="Strength of the L2 penalty.")] = 0.01,
    target_fpr: Annotated[float, Arg(help="False-positive rate at which the probe's own threshold is set.")] = 0.05,
    text_field: TextField = None,
    label_field: LabelField = "label",
    group_field: Annotated[str, Arg(help="Field of a row's topic: whole topics are held out.")] = "group",
    chat_template: Annotated[str, Arg(help="auto (the tokenizer's own), plain, or a Jinja file.")] = "auto",
    seed: Annotated[int, Arg(help="Seed of splits, draws and the untrained network.")] = 0,
    as_json: AsJson = False,
) -> int:
    """Train a linear probe of a model's own activations, beside its controls: shuffled labels, random directions, and
    an untrained network of the same architecture. A guard refuses a probe that doesn't beat them.
    """
    import numpy as np

    from raysafe.guards.labelled import read_labelled
    from raysafe.models.probe_training import LabelledTexts, ProbeTraining, train_probe

    if out.exists():
        raise ConfigError(f"out: {out} is there already: name a new file")
    rows = read_labelled(data, text_field=text_field, label_field=label_field, group_field=group_field)
    groups = [row.group for row in rows]
    if any(groups) and not all(groups):
        raise DataError(f"{data} has rows without the field '{group_field}': fill it in each, or in none")
    texts = LabelledTexts(
        [[{"role": "user", "content": row.text}] for row in rows],
        np.array([row.attack for row in rows]),
        groups=groups if all(groups) else (),
    )
    training = ProbeTraining.parse(
        {
            "concept": concept, "layer": layer, "position": position, "l2": l2, "false_positives": target_fpr,
            "chat_template": chat_template, "seed": seed,
        },
        "command line",
    )  # fmt: skip
    trained = train_probe(model, texts, training)
    trained.save(out)
    card = trained.card
    if as_json:
        print_json({"probe": str(out), **card.model_dump(mode="json")})
        return 0
    controls = card.controls
    shown = [
        ("probe", f"{controls.held_out:.3f} (from {controls.held_out_low:.3f})"),
        ("shuffled labels", f"{controls.shuffled_labels:.3f}"),
        ("random direction", f"{controls.random_direction:.3f}"),
        ("untrained network", f"{controls.untrained:.3f} (the probe's less it: from {controls.above_untrained:.3f})"),
        ("threshold", f"{card.threshold:.3f}"),
    ]
    curve = f"area under the curve, {controls.groups} held-out groups"
    print_table((f"layer {card.layer}, {card.position}", curve), shown)
    if not controls.beaten:
        print(f"written to {out}, but it doesn't beat its controls: a guard will refuse it")
        return 0
    print(f"written to {out}: name it in a policy with\n  - kind: probe\n    probe: {out}\n    model: {model}")
    return 0
