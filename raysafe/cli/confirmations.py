"""Which gateways follow a change, as commands that make one show it."""

from __future__ import annotations

from raysafe.cli.output import print_table
from raysafe.control.leases import Confirmation, Holder


def print_confirmations(confirmations: list[tuple[Holder, Confirmation]], seen: str, nobody: str) -> None:
    """seen: the word for a gateway that follows. nobody: what is said where none runs."""
    if not confirmations:
        print(nobody)
        return
    words = {"seen": seen, "lapsed": "closed: its lease ran out", "waiting": "NOT CONFIRMED"}
    rows = [(holder.service, holder.place, words[said]) for holder, said in confirmations]
    print_table(("service", "gateway", "state"), rows)


def confirmations_json(confirmations: list[tuple[Holder, Confirmation]]) -> list[dict[str, object]]:
    return [{"service": h.service, "gateway": h.place, "state": said} for h, said in confirmations]


def exit_code(confirmations: list[tuple[Holder, Confirmation]]) -> int:
    """1 where a gateway has not confirmed."""
    return 1 if any(said == "waiting" for _, said in confirmations) else 0
