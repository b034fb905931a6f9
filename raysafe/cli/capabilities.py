"""`raysafe capabilities show MODEL`: what its safety case grants, what a policy allows, and what is in effect."""

from __future__ import annotations

from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, Store
from raysafe.cli.output import print_json, print_table
from raysafe.control.capabilities import Capabilities, minimum
from raysafe.control.capability_guard import CapabilitiesConfig, describe
from raysafe.guards.policy import load_policy
from raysafe.oversight.safety_case import load_case
from raysafe.records.store import open_store

PolicyFile = Annotated[str | None, tyro.conf.arg(help="The service's policy; the packaged one by default.")]
Asked = Annotated[str | None, tyro.conf.arg(help="A YAML file of what a request would ask for, to see what it gets.")]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"show": show}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe capabilities", description=__doc__)


def show(
    model: tyro.conf.Positional[str],
    *,
    policy: PolicyFile = None,
    tenant: str = "default",
    asked: Asked = None,
    store: Store = None,
    as_json: AsJson = False,
) -> int:
    """The five capabilities of a registered model, side by side: granted, allowed, and the minimum of the two."""
    with open_store(store) as opened:
        case = load_case(opened, model)
    config = _config(policy, tenant)
    sides = {"safety case": case.capabilities, "policy": config.allowed}
    if asked is not None:
        sides["asked"] = Capabilities.load(asked)
    effective = minimum(*sides.values())
    if as_json:
        shown = {name: side.model_dump(mode="json") for name, side in (*sides.items(), ("effective", effective))}
        budgets = [rule.model_dump(mode="json") for rule in config.budgets]
        isolation = config.isolation.model_dump(mode="json")
        print_json({"model": case.version.label, **shown, "isolation": isolation, "budgets": budgets})
        return 0
    columns = [describe(side) for side in (*sides.values(), effective)]
    rows = [(cells[0][0], *(value for _, value in cells)) for cells in zip(*columns, strict=True)]
    print_table(("capability", *sides, "in effect"), rows, title=case.version.label)
    isolated = [(name, level) for name, level in config.isolation.model_dump().items()]
    print_table(("capability", "isolation"), isolated)
    if config.budgets:
        budgets = [
            (r.subject, ", ".join(r.only) or "all", r.resource, r.window, f"{r.limit:,.12g}") for r in config.budgets
        ]
        print_table(("each", "which", "resource", "window", "limit"), budgets)
    if case.decision is None:
        print("No decision is in force on this version: nothing is granted.")
    return 0


def _config(policy: str | None, tenant: str) -> CapabilitiesConfig:
    """A policy's guard of capabilities; one without limits where it has none."""
    guards = load_policy(policy).for_tenant(tenant).guards
    return next((guard for guard in guards if isinstance(guard, CapabilitiesConfig)), CapabilitiesConfig())
