"""Evidence of a registered model goes into the store as well, where reviewers look."""

from __future__ import annotations

from collections.abc import Sequence

from raysafe.records.evidence import Evidence
from raysafe.runtime.run import Run


def add_to_store(url: str | None, digest: str, evidence: Sequence[Evidence], run: Run) -> bool:
    """Add to the store at `url` if the model with that digest is registered there; the run notes what happened."""
    from raysafe.records.registry import Registry
    from raysafe.records.store import default_url, open_store

    with open_store(url or default_url()) as store:
        registry = Registry(store)
        version = registry.find(digest)
        if version is None:
            run.event("not registered", digest=digest, remedy=f"raysafe registry register {run.uri}")
            return False
        registry.add_evidence(version, list(evidence))
        run.event("evidence stored", model=f"{version.name}:{version.version}")
        return True
