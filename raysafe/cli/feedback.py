"""`raysafe feedback ITEMS.jsonl`, and `raysafe feedback status | export | pairs`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table
from raysafe.errors import DataError, StorageError
from raysafe.feedback.export import Form, Rows, Ties

Folder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="The --out of `raysafe feedback`.")]
To = Annotated[str, tyro.conf.arg(help="JSON Lines file to write; a summary goes to FOLDER/summary.json.")]
As = Annotated[
    Form,
    tyro.conf.arg(
        name="as",
        help="preferences (for reward-model and dpo), scores (rated answers, for a policy's reward), or judgements "
        "(everything, frames too).",
    ),
]
RowsOf = Annotated[Rows, tyro.conf.arg(help="A preference an item, by majority, or one for each judgement.")]
TiesAre = Annotated[Ties, tyro.conf.arg(help="Ties are dropped, or kept as pairs of margin 0, chosen by lot.")]


def main(argv: list[str]) -> int:
    """Serve, or run the subcommand that stands first."""
    commands = {"status": status, "export": export}
    if argv and argv[0] in commands:
        name = argv[0]
        return tyro.cli(commands[name], args=argv[1:], prog=f"raysafe feedback {name}")
    if argv and argv[0] == "pairs":
        return pairs(argv[1:])
    return serve(argv)


def serve(argv: list[str]) -> int:
    """Serve the page in the foreground until Ctrl-C."""
    from rich.console import Console

    from raysafe.feedback.service import FeedbackConfig, FeedbackService, is_loopback

    console = Console(highlight=False, soft_wrap=True)
    config = tyro.cli(FeedbackConfig, args=argv, prog="raysafe feedback", config=(tyro.conf.PositionalRequiredArgs,))
    with FeedbackService(config) as service:
        console.print(f"{len(service.desk.items)} items ({service.new_items} new), kept in {config.out}", markup=False)
        console.print(f"  page  {service.url}", markup=False)
        for name, link in service.links.items():
            console.print(f"  link of {name}  {link}   (shown this once; only its digest is kept)", markup=False)
        known = [name for name in config.raters if name not in service.links]
        if known:
            console.print(f"  {', '.join(known)} have their links; --renew NAME makes a new one", markup=False)
        if not is_loopback(config.host):
            console.print("  other machines reach this over plain HTTP: put a proxy with TLS in front", markup=False)
        console.print("Ctrl-C stops it; nothing is lost.", markup=False)
        with suppress(KeyboardInterrupt):
            service.serve()
    console.print(f"Stopped. Next: raysafe feedback export {config.out} --to preferences.jsonl", markup=False)
    return 0


def status(folder: Folder, *, as_json: AsJson = False) -> int:
    """How many judgements there are, how far raters agree, and whether the order sways them."""
    found = _load(folder)[2]
    if as_json:
        print_json(found)
        return 0
    first, rows = found["first_chosen"], []
    for name in ("items", "items_judged", "judgements", "ties", "skipped", "undone"):
        rows.append((name.replace("_", " "), found[name]))
    rows += [(f"judged by {name}", count) for name, count in found["raters"].items()]
    for kind, value in found["agreement"].items():
        name = f"agreement on {kind} (alpha, {value['metric']})"
        rows.append((name, _figure(value["alpha"], value, f"{value['shared_items']} shared items")))
    rows.append(("first one preferred", _figure(first["share"], first, f"{first['n']} comparisons")))
    print_table(("what", "value"), rows)
    return 0


def export(
    folder: Folder, *, to: To, as_: As = "preferences", rows: RowsOf = "majority", ties: TiesAre = "drop"
) -> int:
    """Write judgements as training data, and FOLDER/summary.json: agreement, and bias to what stands first."""
    import json

    from raysafe.feedback.export import preferences, raw_judgements, scores

    items, judgements, summary = _load(folder)
    if as_ == "preferences":
        text = preferences(items, judgements, rows=rows, ties=ties)
    else:
        text = scores(items, judgements) if as_ == "scores" else raw_judgements(items, judgements)
    target, beside = Path(to), Path(folder, "summary.json")
    if not target.name.endswith(".jsonl"):
        raise DataError(f"--to must end in .jsonl, by which it is read again, got {to}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path, content in ((target, text), (beside, json.dumps(summary, indent=2) + "\n")):
            partial = path.with_name(f".{path.name}.partial")
            partial.write_text(content, encoding="utf-8")
            partial.replace(path)
    except OSError as error:
        raise StorageError(f"can't write {error.filename or to}: {error.strerror}") from None
    print(f"{text.count(chr(10))} {as_} in {to}, what they rest on in {beside}")
    if as_ == "preferences":
        print(f"next: raysafe reward-model --model MODEL --data {to}, or raysafe dpo --model MODEL --data {to}")
    if as_ == "scores":
        print(f"next: a training's reward 'feedback:{to}'")
    return 0


def pairs(argv: list[str]) -> int:
    """Have a model write the answers that people compare."""
    from raysafe.feedback.pairs import PairsConfig, write_pairs

    # only the model may stand without its flag
    arguments = ["--model", *argv] if argv and not argv[0].startswith("-") else argv
    config = tyro.cli(PairsConfig, args=arguments, prog="raysafe feedback pairs")
    written = write_pairs(config)
    print(f"{written.pairs} pairs in {config.to}; {written.without} prompts had no two different answers")
    print(f"next: raysafe feedback {config.to}")
    return 0


def _load(folder: str) -> tuple[Any, Any, dict[str, Any]]:
    """Items, judgements (undone ones too) and their summary."""
    from raysafe.feedback.project import load_settings, open_judgements
    from raysafe.feedback.summary import summarise

    load_settings(folder)
    store, kept = open_judgements(folder)
    with store:
        items, judgements = kept.items(), kept.all(undone=True)
    return items, judgements, summarise(items, judgements)


def _figure(value: float | None, ends: dict[str, Any], about: str) -> str:
    if value is None:
        return f"not defined yet ({about})"
    return f"{value:.3f} [{ends['low']:.3f}, {ends['high']:.3f}] ({about})"
