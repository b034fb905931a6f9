"""What guards held, at the gateway: kept for a reviewer, shown, decided, and delivered once it was released."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from raysafe.control.held import Held, Hold, Outcome, digest_of
from raysafe.control.keys import Key
from raysafe.errors import ConfigError, StorageError
from raysafe.guards.decision import Decision
from raysafe.guards.guard import Exchange
from raysafe.serving.ledger import AuditWriter, recorded
from raysafe.serving.refusals import HOLD
from raysafe.serving.wire.errors import ApiError

logger = logging.getLogger(__name__)
SWEEP_S = 30.0
"""Between two looks at which holds have expired."""


class Shelf(Protocol):
    """The part of control.holds.Holds that a gateway uses."""

    def put(self, exchange_id: str, hours: float = ..., **fields: Any) -> None: ...

    def get(self, hold_id: str) -> Hold | None: ...

    def list(self, service: str | None = None, *, pending: bool = True) -> list[Hold]: ...

    def decide(self, hold_id: str, outcome: Outcome, *, reviewer: str, note: str) -> Hold: ...

    def lapse(self) -> list[str]: ...

    def released(self, hold_id: str) -> Hold | None: ...

    def take(self, hold_id: str, digest: str) -> Hold | None: ...


class HoldDesk:
    """One gateway's; without a shelf nothing is kept, and a hold is a refusal."""

    def __init__(self, shelf: Shelf | None, audit: AuditWriter, service: str, hours: float) -> None:
        self._shelf, self._audit, self._service, self._hours = shelf, audit, service, hours

    async def watch(self) -> None:
        """Until it is cancelled, have it written down which holds nobody decided on in time."""
        while self._shelf is not None:
            try:
                while await asyncio.to_thread(self._shelf.lapse):
                    pass
            except StorageError as error:
                logger.error("holds that nobody decided on can't be written down now: %s", error)
            await asyncio.sleep(SWEEP_S)

    async def keep(self, exchange: Exchange, decision: Decision, finish: str, counts: tuple[int, int]) -> str | None:
        """Keep what a guard held; its id, or None where it can't be kept: then it is a refusal."""
        verdict = decision.stopped_by
        if self._shelf is None or verdict is None or verdict.action != "hold":
            return None
        # a delivered exchange that is held again has the hold's id: the next one counts on
        name, _, number = exchange.request_id.partition(".")
        hold_id = f"{name}.{int(number or 1) + 1}" if exchange.released else name
        try:
            await asyncio.to_thread(
                self._shelf.put,
                hold_id,
                self._hours,
                service=self._service,
                tenant=exchange.tenant,
                key_id=exchange.key_id,
                stage=decision.stage,
                guard=verdict.guard,
                reason=verdict.reason,
                digest=digest_of(exchange, decision.stage),
                held=Held.of(exchange, decision.stage, finish, counts),
            )
        except StorageError as error:
            logger.error("a hold can't be kept, and so is a refusal: %s", error)
            return None
        return hold_id

    async def present(self, exchange: Exchange, hold_id: str | None) -> None:
        """Let a request pass the guard that held it, where a reviewer has released this very request; else ApiError."""
        if hold_id is None:
            return
        shelf = self._shelf_or_error()
        hold = await _stored(asyncio.to_thread(shelf.released, hold_id))
        if hold is None or hold.digest != digest_of(exchange, "input") or hold.held is None or hold.reviewer is None:
            raise _not_released(hold_id)
        exchange.released = {**hold.held.released, hold.place: hold.reviewer}
        exchange.release = hold_id

    async def use_up(self, exchange: Exchange) -> None:
        """The request is admitted: its release, if it came with one, lets nothing else pass. ApiError where one did."""
        if exchange.release is None:
            return
        take = self._shelf_or_error().take
        if await _stored(asyncio.to_thread(take, exchange.release, digest_of(exchange, "input"))) is None:
            raise _not_released(exchange.release)

    async def pending(self, key: Key) -> list[dict[str, Any]]:
        """What waits for a decision that this key's owner may see."""
        found = await _stored(asyncio.to_thread(self._shelf_or_error().list, self._service))
        return [_facts(hold) for hold in found if key.reviews(hold.tenant)]

    async def show(self, key: Key, hold_id: str) -> Hold:
        """A hold that concerns this key: its own, or one that it may review; raises ApiError 404."""
        hold = await _stored(asyncio.to_thread(self._shelf_or_error().get, hold_id))
        own = hold is not None and (hold.tenant, hold.key_id) == (key.tenant, key.id)
        if hold is None or hold.service != self._service or not (own or key.reviews(hold.tenant)):
            raise ApiError(404, f"nothing is held as '{hold_id[:64]}'", code="hold_not_found")
        return hold

    async def note_reading(self, key: Key, hold: Hold) -> None:
        """Record who reads what was held, before it leaves; raises ApiError 503 where that can't be recorded."""
        details = {"tenant": hold.tenant, "service": hold.service, "place": hold.place, "sha256": hold.digest}
        await recorded(self._audit.submit("read", key.id, hold.id, details))

    async def released(self, hold: Hold) -> Hold | None:
        """The hold, where it was released and the audit log says so too."""
        return await _stored(asyncio.to_thread(self._shelf_or_error().released, hold.id))

    async def decide(self, key: Key, hold_id: str, outcome: Outcome, note: str) -> dict[str, Any]:
        """A reviewer's word; raises ApiError where it can't count."""
        await self.show(key, hold_id)
        decide = self._shelf_or_error().decide
        try:
            hold = await _stored(asyncio.to_thread(decide, hold_id, outcome, reviewer=key.id, note=note))
        except ConfigError as error:
            raise ApiError(409, str(error), code="hold_not_decided") from None
        return _facts(hold)

    def _shelf_or_error(self) -> Shelf:
        if self._shelf is None:
            raise ApiError(404, "this gateway has no store, and so keeps nothing that is held", code="not_offered")
        return self._shelf


def describe(hold: Hold, reviewer: bool, state: str) -> dict[str, Any]:
    """A hold as its asker sees it; with the texts that were held, as a reviewer does."""
    shown = _facts(hold) | {"status": state}
    return shown | {"texts": list(hold.texts())} if reviewer else shown


def _facts(hold: Hold) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": hold.id,
        "object": "hold",
        "stage": hold.stage,
        "guard": hold.guard,
        "reason": hold.reason,
        "tenant": hold.tenant,
        "key": hold.key_id,
        "created": hold.created.isoformat(),
        "expires": hold.expires.isoformat(),
    }
    if hold.outcome is not None:
        facts |= {"outcome": hold.outcome, "reviewer": hold.reviewer, "note": hold.note}
    return facts


def _not_released(hold_id: str) -> ApiError:
    message = f"'{hold_id[:64]}' releases no such request: it isn't released, was used, or was on another one"
    return ApiError(409, message, code="hold_not_released", param=HOLD)


async def _stored(work: Any) -> Any:
    try:
        return await work
    except StorageError as error:
        logger.error("the store of holds can't be used: %s", error)
        raise ApiError(503, "the store can't be used", kind="server_error", code="store_failed") from None
