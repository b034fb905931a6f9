"""Decisions as audit rows: what is written, and a future that is done when the row is durable."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from raysafe.errors import RaySafeError
from raysafe.guards.decision import Decision
from raysafe.guards.guard import Exchange
from raysafe.serving.wire.errors import ApiError

ACTOR = "gateway"


class AuditWriter(Protocol):
    """The part of records.audit.AuditLog that the gateway uses."""

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[Any]: ...

    def close(self) -> None: ...


async def recorded(row: Future[Any]) -> None:
    """Wait until a row is durable; raises ApiError 503 where it can't be made so. It is written in any case."""
    try:
        await asyncio.shield(asyncio.wrap_future(row))
    except RaySafeError as error:
        message = f"the audit log can't be written: {type(error).__name__}"
        raise ApiError(503, message, kind="server_error", code="audit_failed") from error


class Ledger:
    """Writes an exchange's decisions. Rows hold digests and lengths, and the texts only where the policy says so."""

    def __init__(self, writer: AuditWriter, policy: str, record_text: bool, interventions: Sequence[str] = ()) -> None:
        """policy: its label, which each row bears. interventions: ids of those in force."""
        self._writer, self._policy, self._record_text = writer, policy, record_text
        self._interventions = list(interventions)

    def decided(self, exchange: Exchange, decision: Decision, **more: Any) -> Future[Any]:
        """The decision of one stage, on all of its text."""
        texts = exchange.received(decision.stage)
        details: dict[str, Any] = {
            "stage": decision.stage,
            "action": decision.action,
            "verdicts": [verdict.record() for verdict in decision.verdicts],
            "not_run": dict(decision.not_run),
        }
        if self._record_text and decision.stage == "input":
            # who says each of the first texts; those after them are calls and tools
            details["roles"] = [message.role for message in exchange.messages]
        if decision.stage == "tool_call":
            details["tools"] = [call.name for call in exchange.tool_calls]
        return self._write("verdict", exchange, details | more, texts)

    def released(self, exchange: Exchange, text: str, start: int, guards: Sequence[str]) -> Future[Any]:
        """Characters `start` onward of a streamed answer, which all `guards` have let go, are about to leave."""
        details = {"stage": "output", "action": "allow", "start": start, "cleared_by": list(guards)}
        return self._write("release", exchange, details, (text,))

    def answered(self, exchange: Exchange, **more: Any) -> Future[Any]:
        """An answer without text, which no output guard can read, is about to leave."""
        return self._write("release", exchange, {"stage": "output", "action": "allow", "cleared_by": [], **more}, ())

    def running(self, exchange: Exchange, code: str, **more: Any) -> Future[Any]:
        """A program that the model wrote is about to run in a sandbox."""
        return self._write("tool run", exchange, more, (code,))

    def ran(self, exchange: Exchange, printed: Sequence[str], **more: Any) -> Future[Any]:
        """How it ended, and what it printed, which the model is about to be told."""
        return self._write("tool result", exchange, more, printed)

    def breached(self, exchange: Exchange, code: str, **more: Any) -> Future[Any]:
        """It tried to get out of its sandbox, which ended it."""
        return self._write("sandbox_breach", exchange, more, (code,))

    def _write(self, kind: str, exchange: Exchange, details: dict[str, Any], texts: Sequence[str]) -> Future[Any]:
        joined = "\n".join(texts)
        details |= {
            "key": exchange.key_id,
            "tenant": exchange.tenant,
            "endpoint": exchange.endpoint,
            "model": exchange.model,
            "policy": self._policy,
            "characters": sum(map(len, texts)),
            "sha256": hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest(),
        }
        if self._interventions:
            details["interventions"] = self._interventions
        if exchange.trace is not None:
            details["trace"] = exchange.trace
        if self._record_text:
            details["texts"] = list(texts)
        return self._writer.submit(kind, ACTOR, exchange.request_id, details)
