"""`raysafe holds list | show | release | refuse`: decide on what guards have held for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import tyro

from raysafe.cli.arguments import AsJson, Reviewer, Store
from raysafe.cli.output import print_json, print_table
from raysafe.control.held import Hold, Outcome
from raysafe.control.holds import Holds
from raysafe.errors import ConfigError
from raysafe.oversight.review import named_reviewer
from raysafe.records.store import open_store

Id = tyro.conf.Positional[str]
Note = Annotated[str, tyro.conf.arg(help="Why; kept with the decision and in the audit log.")]
Everything = Annotated[bool, tyro.conf.arg(name="all", help="What is decided or expired too.")]


def main(argv: list[str]) -> int:
    """Run one of the subcommands."""
    commands = {"list": list_holds, "show": show, "release": release, "refuse": refuse}
    return tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="raysafe holds", description=__doc__)


def list_holds(*, everything: Everything = False, store: Store = None, as_json: AsJson = False) -> int:
    """What waits for a decision, oldest first."""
    with open_store(store) as opened:
        found = Holds(opened).list(pending=not everything)
    now = datetime.now(UTC)
    if as_json:
        print_json([_facts(hold, now) for hold in found])
        return 0
    rows = [
        (h.id, h.service, h.key_id, h.stage, h.guard, h.reason, f"{h.created:%m-%d %H:%M}", h.state(now)) for h in found
    ]
    print_table(("hold", "service", "key", "stage", "guard", "reason", "since", "state"), rows)
    return 0


def show(hold: Id, *, store: Store = None, as_json: AsJson = False) -> int:
    """One hold, with the texts that were held."""
    with open_store(store) as opened:
        found = Holds(opened).get(hold)
    if found is None:
        raise ConfigError(f"nothing is held as '{hold}': `raysafe holds list` shows what is")
    facts = _facts(found, datetime.now(UTC))
    if as_json:
        print_json(facts | {"texts": list(found.texts())})
        return 0
    print_table(("what", "value"), [(name, str(value)) for name, value in facts.items() if value is not None])
    for text in found.texts():
        # repr: what is held may try to write to the reviewer's terminal
        print(repr(text))
    return 0


def release(hold: Id, *, note: Note, reviewer: Reviewer = None, store: Store = None) -> int:
    """Let it pass the guard that held it; the guards after that one still judge."""
    return _decide(hold, "released", note, reviewer, store)


def refuse(hold: Id, *, note: Note, reviewer: Reviewer = None, store: Store = None) -> int:
    """Keep it back for good."""
    return _decide(hold, "refused", note, reviewer, store)


def _decide(hold: str, outcome: Outcome, note: str, reviewer: str | None, store: str | None) -> int:
    with open_store(store) as opened:
        decided = Holds(opened).decide(hold, outcome, reviewer=named_reviewer(reviewer), note=note)
    print(f"{decided.id} {outcome} by {decided.reviewer}")
    return 0


def _facts(hold: Hold, now: datetime) -> dict[str, object]:
    fields = ("id", "service", "tenant", "key_id", "stage", "guard", "reason", "created", "expires", "reviewer", "note")
    facts: dict[str, object] = {name: getattr(hold, name) for name in fields}
    return facts | {"state": hold.state(now)}
