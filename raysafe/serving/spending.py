"""What a request draws on budgets: set aside before the model is asked, settled by what it really took."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from raysafe.control.budgets import Budget, Granted, Refused, Resource
from raysafe.control.capability_guard import BudgetRule, CapabilityGuard
from raysafe.errors import ConfigError, StorageError
from raysafe.guards.guard import Exchange, Verdict

logger = logging.getLogger(__name__)
THROTTLE = "throttle"
"""What stops a request in the name of an intervention, where no guard of capabilities counts."""
MESSAGE_TOKENS = 16
"""Tokens that a chat template may put around a message."""
MOST = 1e12
"""The largest rate that a budget counts; one above it is none."""
LONG_S = 86_400.0
"""When to come back to a budget that has no next window, for clients that insist on a time."""


class Counters(Protocol):
    """The part of control.budgets.Budgets that a gateway uses."""

    def reserve(self, limits: Any, amounts: Any) -> Future[Granted | Refused]: ...

    def settle(self, granted: Granted, actual: Any) -> Future[None]: ...

    def close(self) -> None: ...


class Spending:
    """One request's draw on the budgets that its capabilities set."""

    def __init__(
        self,
        counters: Counters,
        guard: CapabilityGuard | None,
        exchange: Exchange,
        answer_tokens: int,
        throttle: float | None = None,
    ) -> None:
        """answer_tokens: the most that the answer may take. throttle: requests a minute, by an intervention."""
        self._counters, self._exchange = counters, exchange
        self._name = guard.name if guard else THROTTLE
        self.limits = limits_of(guard, exchange, throttle)
        seconds = []
        if guard is not None:
            seconds = [_aside(rule) for rule in guard.config.budgets if rule.resource == "model_seconds"]
            rate = guard.effective(exchange).model_seconds_per_minute
            if rate:
                seconds.append(rate / 10)
        self.model_seconds: float = min(seconds, default=0.0)
        """Set aside for the model's work, which is cut there; 0 where no budget counts it."""
        self._amounts: dict[Resource, float] = {
            "requests": 1,
            "tokens": prompt_bound(exchange) + answer_tokens,
            "model_seconds": self.model_seconds,
        }
        self._granted: Granted | None = None

    async def reserve(self) -> Verdict | None:
        """Set the amounts aside; the verdict of a refusal, or None. Raises StorageError where nobody can count."""
        found = await asyncio.wrap_future(self._counters.reserve(self.limits, self._amounts))
        if isinstance(found, Granted):
            self._granted = found
            return None
        wait_s = found.retry_after_s
        when = "waiting does not help" if wait_s is None else f"try again in {wait_s:.0f} s"
        reason = f"over the budget of {found.budget}; {when}"
        return Verdict(
            self._name,
            "input",
            "block",
            reason,
            1.0,
            "budget",
            retry_after_s=LONG_S if wait_s is None else wait_s,
        )

    def failed(self, error: Exception) -> Verdict:
        """The verdict where nobody can count: nothing passes."""
        reason = "the budgets can't be counted"
        return Verdict(self._name, "input", "block", reason, 1.0, "error", error=type(error).__name__)

    def settle(self, tokens: int | None, model_seconds: float) -> None:
        """Charge what was used; tokens None: they aren't known, and what was set aside stays charged."""
        if tokens is not None:
            self._charge({"requests": 1, "tokens": tokens, "model_seconds": model_seconds})

    def give_back(self) -> None:
        """The model did nothing for this request."""
        self._charge({})

    def _charge(self, used: dict[str, float]) -> None:
        if self._granted is None:
            return
        try:
            self._counters.settle(self._granted, used)
        except (ConfigError, StorageError) as error:
            logger.error("what a request set aside stays charged: %s", error)


def limits_of(guard: CapabilityGuard | None, exchange: Exchange, throttle: float | None = None) -> tuple[Budget, ...]:
    """The budgets that a request draws on: the policy's rules, the rates of what is in effect for its model, and the
    throttle of an intervention."""
    found: list[Budget] = []
    rates: list[tuple[Resource, float | None]] = [("requests", throttle)]
    if guard is not None:
        granted = guard.effective(exchange)
        found += _by_rules(guard.config.budgets, exchange)
        rates += [
            ("requests", granted.requests_per_minute),
            ("tokens", granted.tokens_per_minute),
            ("model_seconds", granted.model_seconds_per_minute),
        ]
    found += [_budget("model", exchange.model, resource, "minute", min(rate, MOST)) for resource, rate in rates if rate]
    least: dict[str, Budget] = {}
    for budget in found:
        if budget.counter not in least or budget.limit < least[budget.counter].limit:
            least[budget.counter] = budget
    return tuple(least.values())


def prompt_bound(exchange: Exchange) -> int:
    """The most tokens that a request's texts may take: a token is at least a byte."""
    texts = exchange.texts("input")
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) + MESSAGE_TOKENS * (len(texts) + 1)


def _by_rules(rules: tuple[BudgetRule, ...], exchange: Exchange) -> Iterator[Budget]:
    names = {"key": exchange.key_id, "tenant": exchange.tenant, "model": exchange.model}
    for rule in rules:
        name = names[rule.subject]
        if not rule.only or name in rule.only:
            yield _budget(rule.subject, name, rule.resource, rule.window, rule.limit)


def _budget(subject: Any, name: str, resource: Resource, window: Any, limit: float) -> Budget:
    return Budget(subject=subject, name=name, resource=resource, window=window, limit=limit)


def _aside(rule: BudgetRule) -> float:
    return rule.limit / 10 if rule.aside is None else rule.aside
