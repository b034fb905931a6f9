"""`raysafe guards check | seal`: what a policy does, before a service follows it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from raysafe.cli.arguments import AsJson
from raysafe.cli.output import print_json, print_table

if TYPE_CHECKING:
    from raysafe.guards.checking import PolicyCheck

Arg = tyro.conf.arg
Positional = tyro.conf.Positional


def check(
    policy: Annotated[Positional[Path | None], Arg(help="YAML policy; the packaged one by default.")] = None,
    *,
    as_json: AsJson = False,
) -> int:
    """Validate a policy, build its guards, and show what lets text past and what differs for each tenant.

    Exit code 2, and one sentence that names the place and the remedy, where the policy is not valid.
    """
    from raysafe.guards.checking import check_policy

    return _shown(check_policy(policy), as_json)


def seal(
    policy: Annotated[Positional[Path], Arg(help="YAML policy; its last line is written anew.")],
    *,
    as_json: AsJson = False,
) -> int:
    """Check a policy and write its digest as its last line, so that a running service takes up no damaged file.

    A service that runs under a sealed policy refuses any later file whose seal is missing or doesn't fit.
    """
    from raysafe.guards.checking import seal_policy

    return _shown(seal_policy(policy), as_json)


def _shown(found: PolicyCheck, as_json: bool) -> int:
    from raysafe.guards.checking import GUARD_HEADINGS, TENANT_HEADINGS

    if as_json:
        print_json(asdict(found))
        return 0
    print_table(GUARD_HEADINGS, found.guards, title=found.label)
    if found.tenants:
        print_table(TENANT_HEADINGS, found.tenants, title="Tenants")
    for remark in found.remarks:
        print(remark)
    return 0
