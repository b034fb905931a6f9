"""What a client is told where guards, limits or a model stop its request."""

from __future__ import annotations

import math

from raysafe.guards.decision import Decision
from raysafe.guards.guard import Stage, Verdict
from raysafe.serving.backend import ModelFailed, NotOffered, Overloaded, PromptRefused
from raysafe.serving.wire.errors import ApiError

HOLD = "X-RaySafe-Hold"
"""Names the hold that an exchange is kept as; in a request, the one that a reviewer has released it from."""


_NOUNS: dict[Stage, str] = {
    # after a tool's result, the model is asked again
    "input": "next question to the model",
    "output": "answer",
    "tool_call": "tool call",
}


def refusal(decision: Decision, hold_id: str | None = None) -> ApiError:
    """The error of a request that was stopped on its way in; `hold_id` where it is kept for a reviewer."""
    verdict = _stopper(decision)
    if verdict.category in ("rate", "budget"):
        headers = retry_after(verdict.retry_after_s or 1.0)
        return ApiError(429, verdict.reason, kind="requests", code="rate_limit_exceeded", headers=headers)
    if verdict.category == "length":
        return ApiError(400, verdict.reason, code="string_above_max_length", param="messages")
    if verdict.category == "error":
        return guard_failed(verdict.reason)
    if verdict.category == "capability" and verdict.action == "block":
        return ApiError(403, verdict.reason, kind="permission_error", code="capability_denied")
    message = f"the request {_fate(verdict, hold_id)} by the guard '{verdict.guard}': {verdict.reason}"
    return ApiError(400, message, code="content_policy_violation", param="messages", headers=_hold(hold_id))


def withheld(decision: Decision, hold_id: str | None = None) -> ApiError:
    """The error of an answer that was stopped, where it has no field for a refusal."""
    verdict = _stopper(decision)
    if verdict.category == "error":
        return guard_failed(verdict.reason)
    said = explanation(decision, hold_id)
    headers = _hold(hold_id)
    return ApiError(403, said, kind="permission_error", code="content_policy_violation", headers=headers)


def explanation(decision: Decision, hold_id: str | None = None) -> str:
    """Why an answer was stopped, as its `refusal` says it."""
    verdict = _stopper(decision)
    return f"The {_NOUNS[decision.stage]} {_fate(verdict, hold_id)} by the guard '{verdict.guard}': {verdict.reason}."


def guard_failed(reason: str) -> ApiError:
    return ApiError(503, f"{reason}; nothing is let through", kind="server_error", code="guard_failed")


def closed(reason: str) -> ApiError:
    return ApiError(503, f"the service is closed: {reason}", kind="server_error", code="service_closed")


def overloaded(retry_after_s: float = 1.0) -> ApiError:
    message = "the service has as many requests under way as it takes; try again later"
    return ApiError(503, message, kind="server_error", code="overloaded", headers=retry_after(retry_after_s))


def model_error(error: Exception, timeout_s: float) -> ApiError | None:
    """What the client is told of a model's error; None where it isn't foreseen here."""
    if isinstance(error, TimeoutError):
        limit = f"the answer took longer than {timeout_s:g} s"
        return ApiError(504, limit, kind="server_error", code="timeout")
    if isinstance(error, ModelFailed):
        message = f"the model failed on this request ({error}); try again"
        return ApiError(503, message, kind="server_error", code="model_failed")
    if isinstance(error, Overloaded):
        return overloaded(error.retry_after_s)
    if isinstance(error, NotOffered):
        return ApiError(404, "this model does nothing of this kind", code="not_offered")
    if isinstance(error, PromptRefused):
        return ApiError(400, error.message, code=error.code, param="messages")
    return None


def retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _fate(verdict: Verdict, hold_id: str | None) -> str:
    if verdict.action != "hold":
        return "was blocked"
    return "is held for review" if hold_id is None else f"is held for review as {hold_id}"


def _hold(hold_id: str | None) -> dict[str, str]:
    return {} if hold_id is None else {HOLD: hold_id}


def _stopper(decision: Decision) -> Verdict:
    verdict = decision.stopped_by
    assert verdict is not None
    return verdict
