"""Evidence and decisions in one line."""

from __future__ import annotations

from typing import Any

from raysafe.oversight.review import decide
from raysafe.oversight.safety_case import SafetyCase
from raysafe.records.audit import AuditLog
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.versions import ModelVersion


def figure(version: ModelVersion, value: float, **fields: Any) -> Evidence:
    known = {"suite": "safety-prompts", "metric": "unsafe_rate", "n": 50, "threshold": 0.2, "better": "lower"}
    return Evidence(**{**known, "value": value, "model_digest": version.digest, **fields})


def add(store: Store, version: ModelVersion, value: float, **fields: Any) -> None:
    Registry(store).add_evidence(version, [figure(version, value, **fields)])


def approve(store: Store, audit: AuditLog, reference: str = "tiny", **options: Any) -> SafetyCase:
    return decide(store, audit, reference, "approved", reviewer="Ada", reason="figures hold", **options)


def reject(store: Store, audit: AuditLog, reference: str = "tiny") -> SafetyCase:
    return decide(store, audit, reference, "rejected", reviewer="Bo", reason="found a hole")
