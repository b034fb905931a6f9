"""`raysafe registry list | show | register`."""

from __future__ import annotations

import tyro

from raysafe.cli.arguments import AsJson, Store
from raysafe.cli.output import print_json, print_table
from raysafe.oversight.safety_case import load_case
from raysafe.records.registry import Registry
from raysafe.records.store import open_store


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_versions, "show": show, "register": register}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe registry", description=__doc__)


def list_versions(*, store: Store = None, as_json: AsJson = False) -> int:
    """Every registered version and what has been decided on it."""
    with open_store(store) as opened:
        versions = Registry(opened).list()
        cases = [load_case(opened, v.label) for v in versions]
    if as_json:
        print_json([v.model_dump(mode="json") for v in versions])
        return 0
    rows = [
        (
            v.label,
            v.digest[:12],
            v.config.get("job", ""),
            case.decision.outcome if case.decision else "not reviewed",
            len(case.evidence),
            f"{v.created:%Y-%m-%d %H:%M}",
            v.path,
        )
        for v, case in zip(versions, cases, strict=True)
    ]
    print_table(("model", "digest", "made by", "decision", "evidence", "registered", "folder"), rows)
    return 0


def show(model: tyro.conf.Positional[str], *, store: Store = None, as_json: AsJson = False) -> int:
    """A version's lineage: the data and models that it was made from, and its registered ancestors."""
    with open_store(store) as opened:
        registry = Registry(opened)
        version = registry.get(model)
        ancestors = registry.lineage(version)
    if as_json:
        print_json(version.model_dump(mode="json") | {"ancestors": [a.label for a in ancestors]})
        return 0
    facts = [
        ("model", version.label),
        ("digest", version.digest),
        ("folder", version.path),
        ("run", version.run),
        ("made by", version.config.get("job")),
        ("registered", f"{version.created:%Y-%m-%d %H:%M}"),
        ("ancestors", " <- ".join(a.label for a in ancestors) or "none registered"),
    ]
    print_table(("what", "value"), facts)
    print_table(("made from", "where", "sha256"), [(i["kind"], i["uri"], i["sha256"]) for i in version.inputs])
    return 0


def register(source: tyro.conf.Positional[str], *, name: str, store: Store = None) -> int:
    """Register a finished run's model, or a model folder, as the next version of NAME."""
    with open_store(store) as opened:
        version, new = Registry(opened).register(source, name=name)
    print(f"{version.label} {'registered' if new else 'is these files already'}, digest {version.digest[:12]}")
    print(f"next: raysafe review show {version.label}")
    return 0
