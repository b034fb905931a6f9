"""Evidence of a registered model goes into the store as well, where reviewers look."""

from __future__ import annotations

from collections.abc import Sequence

from raysafe.records.evidence import Evidence
from raysafe.runtime.run import Run


def add_to_store(url: str | None, digest: str, evidence: Sequence[Evidence], run: Run) -> bool:
    """Add to the store at `url` if these files are registered there, under any name; the run notes what happened."""
    from raysafe.records.registry import Registry
    from raysafe.records.store import default_url, open_store

    with open_store(url or default_url()) as store:
        registry = Registry(store)
        versions = registry.with_digest(digest)
        if not versions:
            run.event("not registered", digest=digest, remedy="raysafe registry register MODEL --name NAME")
            return False
        registry.add_evidence(versions[0], evidence)
        run.event("evidence stored", model=", ".join(version.label for version in versions))
        return True
