"""Traffic as the audit log tells it: the rows of one exchange, gathered into what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from raysafe.control.keys import Key
from raysafe.records.audit_read import ChainRow

SEVERITY = ("allow", "modify", "hold", "block")
KINDS = ("verdict", "release")


class Passage(NamedTuple):
    """One exchange: the severest of its stages' decisions, and which guard said so."""

    id: str
    time: str
    """Of its newest row."""
    tenant: str
    key: str
    endpoint: str
    action: str
    stage: str
    guard: str
    reason: str
    stages: tuple[tuple[str, str], ...]
    """(stage, action), in the order in which they were decided."""
    shadow: tuple[str, ...]
    """What guards in shadow mode would have done, as 'guard: action'."""
    failed: tuple[str, ...]
    """Guards that failed or ran too long."""


def may_read(key: Key, found: ChainRow) -> bool:
    """Whether a row is this key's to read: operators read every row, reviewers their own tenant's and their own."""
    details = found.row["details"]
    if "operator" in key.scopes or found.row["actor"] == key.id:
        return True
    return isinstance(details, dict) and "tenant" in details and key.reviews(str(details["tenant"]))


def traffic_of(service: str, key: Key) -> Callable[[ChainRow], bool]:
    """Whether a row tells of an exchange with this service, and is this key's to read."""

    def keep(found: ChainRow) -> bool:
        row = found.row
        return row["kind"] in KINDS and row["details"].get("model") == service and may_read(key, found)

    return keep


def passages(rows: Iterable[ChainRow]) -> list[Passage]:
    """The exchanges of these rows (newest first), by their newest row. Rows of other kinds are passed over."""
    of: dict[str, list[dict[str, Any]]] = {}
    for _, row in rows:
        if row["kind"] in KINDS:
            of.setdefault(row["subject"], []).append(row)
    return [_passage(subject, found[::-1]) for subject, found in of.items()]


def _passage(subject: str, rows: list[dict[str, Any]]) -> Passage:
    """rows: oldest first."""
    details = [row["details"] for row in rows]
    worst = max(details, key=lambda each: SEVERITY.index(_action(each)))
    verdicts = [verdict for each in details for verdict in each.get("verdicts", ())]
    telling = next((v for v in worst.get("verdicts", ()) if v["action"] == _action(worst) != "allow"), {})
    stages = dict.fromkeys((str(each.get("stage")), _action(each)) for each in details)
    return Passage(
        id=subject,
        time=rows[-1]["time"],
        tenant=str(details[-1].get("tenant", "")),
        key=str(details[-1].get("key", "")),
        endpoint=str(details[-1].get("endpoint", "")),
        action=_action(worst),
        stage=str(worst.get("stage", "")),
        guard=str(telling.get("guard", "")),
        reason=str(telling.get("reason", "")),
        stages=tuple(stages),
        shadow=tuple(f"{v['guard']}: {v['shadow']}" for v in verdicts if v.get("shadow") not in (None, "allow")),
        failed=tuple(dict.fromkeys(str(v["guard"]) for v in verdicts if v.get("error"))),
    )


def _action(details: dict[str, Any]) -> str:
    found = details.get("action")
    return found if found in SEVERITY else "allow"
