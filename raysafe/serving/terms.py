"""The terms that a tenant's requests are answered under while interventions are in force: which guards act, and how."""

from __future__ import annotations

from dataclasses import replace

from raysafe.control.keys import Key
from raysafe.control.measures import Measures
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Stage, Verdict
from raysafe.guards.pipeline import Pipeline
from raysafe.serving.wire.errors import ApiError

REVIEW = "require-review"


class ReviewEverything:
    """The guard that holds every answer for a reviewer; of embeddings, which no guard reads, the request."""

    name = REVIEW
    stages: frozenset[Stage] = frozenset({"input", "output"})
    inline = True

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        if (stage == "input") != (exchange.endpoint == "embeddings") or not "".join(exchange.received(stage)).strip():
            return Verdict(self.name, stage, "allow")
        return Verdict(self.name, stage, "hold", "every answer is reviewed while this intervention is in force")


def pipeline_under(measures: Measures, pipeline: Pipeline) -> Pipeline:
    """The policy's pipeline as it acts under the measures; itself where they ask for nothing."""
    entries = list(pipeline.entries)
    if measures.enforce_shadows:
        entries = [_enforced(entry) if entry.shadow else entry for entry in entries]
    if measures.review:
        entries.append(Entry(ReviewEverything()))
    return Pipeline(entries) if measures.enforce_shadows or measures.review else pipeline


def _enforced(entry: Entry) -> Entry:
    # before the model, for it may modify; and asked about every exchange, so that none passes unseen
    return replace(entry, mode="enforce", sample=1.0, beside=False)


def check_terms(measures: Measures, key: Key) -> None:
    """Raise the ApiError of a key that gets no answers now."""
    if measures.rolled_back:
        raise _closed("this version was taken out of service; try again in a moment", "rolled_back")
    if measures.quarantined and not {"reviewer", "operator"} & set(key.scopes):
        raise _closed("the service is in quarantine: only reviewers and operators get answers", "quarantined")


def changed() -> ApiError:
    """What is told where an intervention came into force while an answer was under way."""
    return _closed(
        "the service was restricted while it answered; ask again", "service_restricted", {"Retry-After": "1"}
    )


def no_trusted_model() -> ApiError:
    return _closed("only a trusted model may answer now, and this service was started without one", "degraded")


def _closed(message: str, code: str, headers: dict[str, str] | None = None) -> ApiError:
    return ApiError(503, message, kind="server_error", code=code, headers=headers or {})
