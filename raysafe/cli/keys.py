"""`raysafe keys list | make | rotate | revoke`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, By, Store
from raysafe.cli.confirmations import exit_code, print_confirmations
from raysafe.cli.output import print_json, print_table
from raysafe.control.key_store import KeyStore
from raysafe.control.keys import Scope
from raysafe.control.leases import await_seen
from raysafe.errors import ConfigError
from raysafe.records.store import open_store

_SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
Id = Annotated[
    tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help="Name of the key, in audit rows and budgets.")
]
Expires = Annotated[
    str | None, tyro.conf.arg(help="When it ends: a date (2027-01-31, UTC) or a time from now (90d, 12h). None: never.")
]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_keys, "make": make, "rotate": rotate, "revoke": revoke}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe keys", description=__doc__)


def list_keys(*, store: Store = None, as_json: AsJson = False) -> int:
    """All keys, also those that ended. Secrets are kept nowhere: the digest's first digits tell them apart."""
    with open_store(store) as opened:
        kept = KeyStore(opened).all()
    if as_json:
        print_json([k.key.model_dump(mode="json") | {"state": k.state, "ended": k.ended} for k in kept])
        return 0
    rows = []
    for k in kept:
        facts = (k.key.id, k.key.sha256[:8], k.key.tenant, ", ".join(k.key.scopes), k.state)
        rows.append((*facts, _time(k.key.created), _time(k.key.expires), _time(k.ended)))
    print_table(("key", "digest", "tenant", "scopes", "state", "made", "expires", "ended"), rows)
    return 0


def make(
    name: Id,
    *,
    tenant: Annotated[str, tyro.conf.arg(help="Whose key it is; budgets and policies go by it.")] = "default",
    scope: Annotated[
        tuple[Scope, ...],
        tyro.conf.arg(help="user asks the model, reviewer decides, operator runs the service; several may be given."),
    ] = ("user",),
    expires: Expires = None,
    by: By = None,
    store: Store = None,
) -> int:
    """Make a key. Its secret is printed once, alone on its line, and kept nowhere."""
    ends = None if expires is None else moment(expires)
    with open_store(store) as opened:
        key, secret = KeyStore(opened, by=by).make(name, tenant, scope, ends)
    until = "" if key.expires is None else f", until {_time(key.expires)} UTC"
    print(f"key '{key.id}' of tenant '{key.tenant}' ({', '.join(key.scopes)}{until}); shown this once:\n{secret}")
    return 0


def rotate(
    name: Id,
    *,
    grace: Annotated[str, tyro.conf.arg(help="How long the old secret still opens: 30m, 12h, 2d.")] = "0s",
    expires: Expires = None,
    by: By = None,
    store: Store = None,
) -> int:
    """Give a key a new secret, printed once. The old one opens for --grace more, by default not at all.

    The new one ends when the old one would have, or with --expires, which also renews a key that has expired.
    """
    ends = None if expires is None else moment(expires)
    with open_store(store) as opened:
        key, secret = KeyStore(opened, by=by).rotate(name, grace=span(grace), expires=ends)
    old = "opens nothing any more" if span(grace) == timedelta(0) else f"opens for {grace} more"
    print(f"key '{key.id}' has a new secret; the old one {old}. Shown this once:\n{secret}")
    return 0


def revoke(
    name: Id,
    *,
    reason: Annotated[str, tyro.conf.arg(help="Why; kept in the audit log.")],
    by: By = None,
    store: Store = None,
) -> int:
    """End all secrets of a key, and say which gateways have seen it. A stream that runs already is not cut off."""
    with open_store(store) as opened:
        keys = KeyStore(opened, by=by)
        keys.revoke(name, reason=reason)
        confirmations = await_seen(opened, keys.number)
    print(f"key '{name}' is revoked")
    print_confirmations(confirmations, "refuses it", "no gateway runs now")
    return exit_code(confirmations)


def span(text: str) -> timedelta:
    """30s, 15m, 12h or 90d; raises ConfigError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text.strip())
    if found is None:
        raise ConfigError(f"'{text}' is no length of time: give a number with s, m, h or d, as 12h")
    return timedelta(**{_SPANS[found[2]]: int(found[1])})


def moment(text: str) -> datetime:
    """A date or time of UTC, or a length of time from now; raises ConfigError."""
    if re.fullmatch(r"\d+[smhd]", text.strip()):
        return datetime.now(UTC) + span(text)
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"'{text}' is no time: give a date as 2027-01-31, or a time from now as 90d") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M}"
