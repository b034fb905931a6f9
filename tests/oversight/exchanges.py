"""Exchanges as a gateway leaves them behind: rows by its own ledger, holds on its own shelf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raysafe.control.held import Held, digest_of
from raysafe.control.holds import Holds
from raysafe.guards.decision import Decision
from raysafe.guards.guard import Action, Category, Exchange, Message, Stage, Verdict
from raysafe.records.audit import AuditLog
from raysafe.records.store import Store
from raysafe.serving.ledger import Ledger


class Past:
    """Writes what happened, with texts in the log or without."""

    def __init__(self, store: Store, audit: Path, *, record_text: bool = True) -> None:
        self.holds = Holds(store, audit)
        self._audit, self._record_text = audit, record_text

    def happened(
        self,
        request_id: str,
        prompt: str | tuple[Message, ...],
        answer: str | None = None,
        *,
        action: Action = "block",
        guard: str = "phrases",
        category: Category = "policy",
        **fields: Any,
    ) -> None:
        """One exchange, stopped at its answer, or at its request where there is no answer."""
        messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        exchange = Exchange(request_id, "ann", fields.pop("model", "m"), messages, output=answer or "", **fields)
        stage: Stage = "input" if answer is None else "output"
        stopped = Decision(stage, (Verdict(guard, stage, action, "it holds a phrase", 1.0, category),))
        with AuditLog(self._audit, "gateway-m", unique=True) as log:
            ledger = Ledger(log, "test (0123abcd)", self._record_text)
            if answer is not None:
                ledger.decided(exchange, Decision("input", (Verdict(guard, "input", "allow"),))).result()
            ledger.decided(exchange, stopped).result()
        if action == "hold":
            self.holds.put(
                request_id,
                service="m",
                tenant=exchange.tenant,
                key_id=exchange.key_id,
                stage=stage,
                guard=guard,
                reason="it holds a phrase",
                digest=digest_of(exchange, stage),
                held=Held.of(exchange, stage),
            )
