"""Incidents: exchanges that a guard blocked or held, or whose answer a person corrected, read from the audit log.

What happened is the log's word. Its rows hold the texts only where the policy's `record_text` is true; a hold's texts
are in the store until it expires, and count only where their digest is the one in the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from raysafe.config import Config
from raysafe.control.held import Held
from raysafe.control.holds import Holds
from raysafe.data.conversation import BadValue, Messages, parse_prompt
from raysafe.errors import ConfigError
from raysafe.guards.guard import Stage
from raysafe.oversight.corrections import Correction
from raysafe.oversight.incident_log import IncidentLog, Traces, Word, stopper
from raysafe.records.audit import audit_folder
from raysafe.records.store import Store

NO_TEXTS = "the texts aren't kept: set record_text in the policy, and hold rather than block what people shall see"
TOOLS = "tools are offered or called, which these rows can't hold"
OTHER_ENDPOINT = "it is no chat"
NO_ROLES = "its audit row doesn't tell who said what: it is of an earlier version"
DISPUTED = "the store's texts aren't those that the audit log has the digest of"


class Wanted(Config):
    """Which incidents."""

    since: datetime | None = Field(default=None, description="Not those before it; UTC where no offset is given.")
    model: str | None = Field(default=None, description="Of the model that goes by this name at the gateway.")
    tenant: str | None = Field(default=None, description="Of this tenant.")

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a gateway's decision is of one."""
        details = row["details"]
        if self.since is not None:
            since = self.since if self.since.tzinfo else self.since.replace(tzinfo=UTC)
            if datetime.fromisoformat(row["time"]) < since:
                return False
        return self.model in (None, details["model"]) and self.tenant in (None, details["tenant"])


class Incident(NamedTuple):
    """One exchange, as far as it is known."""

    id: str
    time: str
    model: str
    tenant: str
    key: str
    policy: str
    stage: Stage
    """Where it was stopped; output where only a person objected."""
    action: Literal["block", "hold", "allow"]
    guard: str
    reason: str
    row: str
    """Hash of the audit row of the decision."""
    prompt: Messages | None
    answer: str | None
    """What the model wrote; None where it was stopped before it, or isn't known."""
    lacking: str | None
    """Why prompt or answer isn't here."""
    word: Word | None
    """What a reviewer decided on the hold."""
    correction: Correction | None

    @property
    def state(self) -> str:
        """corrected, released, refused, held, blocked."""
        if self.correction is not None:
            return "corrected"
        if self.word is not None:
            return self.word.outcome
        return "held" if self.action == "hold" else "blocked"


class Incidents:
    """The incidents of one store and its audit log. Raises StorageError where the log is broken."""

    def __init__(self, store: Store, audit: Path | None = None) -> None:
        self.folder = audit or audit_folder(store.url)
        self._holds = Holds(store, self.folder)
        self._log = IncidentLog(self.folder)

    def read(self, wanted: Wanted | None = None) -> tuple[list[Incident], int]:
        """The incidents, oldest first, and how many exchanges were stopped for another cause than what they say: a
        rate, a budget, a size, or a guard's failure."""
        chosen = wanted or Wanted()
        traces, others = self._log.read(chosen.holds)
        found = [self._incident(trace) for trace in traces]
        return sorted(found, key=lambda incident: incident.time), others

    def get(self, incident_id: str) -> Incident:
        """One incident, or an exchange that was let pass and may be corrected; raises ConfigError for what isn't."""
        traces = self._log.find(incident_id)
        if traces is None:
            raise ConfigError(
                f"the audit log in {self.folder} has no exchange '{incident_id}' that was answered in text, or stopped "
                "for what it says: `raysafe incidents list` shows the incidents"
            )
        return self._incident(traces)

    def _incident(self, trace: Traces) -> Incident:
        row, verdict = trace.decision, stopper(trace.decision)
        details = row["details"]
        prompt, answer, lacking = self._texts(trace)
        return Incident(
            id=row["subject"],
            time=row["time"],
            model=details["model"],
            tenant=details["tenant"],
            key=details["key"],
            policy=details["policy"],
            stage=details["stage"],
            action=verdict["action"] if verdict else "allow",
            guard=verdict["guard"] if verdict else "",
            reason=verdict.get("reason", "") if verdict else "",
            row=row["hash"],
            prompt=prompt,
            answer=answer,
            lacking=lacking,
            word=trace.word,
            correction=trace.correction,
        )

    def _texts(self, trace: Traces) -> tuple[Messages | None, str | None, str | None]:
        """Prompt, answer, and why one of them is missing."""
        details = trace.decision["details"]
        if details["endpoint"] != "chat":
            return None, None, OTHER_ENDPOINT
        if details["stage"] == "tool_call":
            return None, None, TOOLS
        if trace.request is not None and "texts" in trace.request["details"] and "texts" in details:
            asked = trace.request["details"]
            if "roles" not in asked:
                return None, None, NO_ROLES
            return _conversation(asked["texts"], asked["roles"], None if details["stage"] == "input" else details)
        return self._held_texts(trace)

    def _held_texts(self, trace: Traces) -> tuple[Messages | None, str | None, str | None]:
        held = self._body(trace.decision)
        if held is None:
            return None, None, NO_TEXTS
        if held.tools or held.tool_calls or any(message["calls"] for message in held.messages):
            return None, None, TOOLS
        contents = [message["content"] for message in held.messages]
        asked = trace.request["details"] if trace.request is not None else {}
        answered = trace.decision["details"] if trace.decision["details"]["stage"] == "output" else None
        if digest(contents) != asked.get("sha256") or (answered and digest([held.output]) != answered["sha256"]):
            return None, None, DISPUTED
        said = None if answered is None else {"texts": [held.output]}
        return _conversation(contents, [message["role"] for message in held.messages], said)

    def _body(self, decision: Mapping[str, Any]) -> Held | None:
        """What the store keeps of a hold: the last one's, where an exchange was held again after a release."""
        subject, kept, number = decision["subject"], None, 1
        while (hold := self._holds.get(subject if number == 1 else f"{subject}.{number}")) is not None:
            kept, number = hold.held or kept, number + 1
        return kept


def digest(texts: Sequence[str]) -> str:
    """sha256 of texts, as the gateway's rows have it."""
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


def _conversation(
    texts: Sequence[str], roles: Sequence[str], answered: Mapping[str, Any] | None
) -> tuple[Messages | None, str | None, str | None]:
    if len(texts) > len(roles):
        return None, None, TOOLS
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    try:
        prompt = parse_prompt(messages, "the conversation")
    except BadValue as error:
        return None, None, str(error)
    return prompt, None if answered is None else answered["texts"][0], None
