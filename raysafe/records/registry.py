"""The registry: versions of named models, what each was made from, and the evidence on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.errors import ModelError, StorageError
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.references import check_references
from raysafe.records.store import Store
from raysafe.records.tables import EvidenceRow, VersionRow
from raysafe.records.versions import (
    ModelVersion,
    check_name,
    evidence_on,
    find,
    lineage_of,
    model_folder_of,
    require_one,
    version_of,
    with_digest,
)


class Registry:
    """Reads and writes model versions in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, source: str | Path, *, name: str) -> tuple[ModelVersion, bool]:
        """Register a finished run's model, or a bare model folder, as the next version of `name`.

        Returns the version and whether it is new: the same files under the same name are one version.
        """
        check_name(name)
        facts = read_source(Path(source).expanduser())
        evidence = facts.pop("evidence")
        with self.store.session(alone=True) as session:
            versions = session.scalars(select(VersionRow).where(VersionRow.name == name)).all()
            known = next((v for v in versions if v.digest == facts["digest"]), None)
            if known is not None:
                return version_of(known), False
            row = VersionRow(
                name=name, version=max((v.version for v in versions), default=0) + 1, created=datetime.now(UTC), **facts
            )
            session.add(row)
            session.flush()
            version = version_of(row)
            _add_evidence(session, version, evidence)
            return version, True

    def list(self) -> list[ModelVersion]:
        """All versions, by name and number."""
        with self.store.reading() as session:
            rows = session.scalars(select(VersionRow).order_by(VersionRow.name, VersionRow.version))
            return [version_of(row) for row in rows]

    def find(self, reference: str) -> ModelVersion | None:
        """A version by name, name:number, digest or path, as versions.find says."""
        with self.store.reading() as session:
            return find(session, reference)

    def with_digest(self, digest: str) -> Sequence[ModelVersion]:
        """The versions that hold these files, under whatever names."""
        with self.store.reading() as session:
            return with_digest(session, digest)

    def get(self, reference: str) -> ModelVersion:
        """`find`, or ModelError."""
        return self._get(reference, exact=False)

    def get_exact(self, reference: str) -> ModelVersion:
        """`get`, for what must not hit another version than was meant: ModelError where several could be."""
        return self._get(reference, exact=True)

    def add_evidence(self, version: ModelVersion, evidence: Sequence[Evidence]) -> None:
        """Add evidence on the version's files, under all their names; raises ModelError where it is on other files."""
        strange = next((e for e in evidence if e.model_digest != version.digest), None)
        if strange is not None:
            raise ModelError(
                f"evidence '{strange.metric}' is on model {strange.model_digest[:12]}, not on {version.label} "
                f"({version.digest[:12]})"
            )
        # alone: evidence is numbered in the order in which it becomes visible, which decisions rely on
        with self.store.session(alone=True) as session:
            _add_evidence(session, version, evidence)

    def evidence(self, version: ModelVersion) -> Sequence[Evidence]:
        """Evidence on a version's files in the order in which it came, under whichever name."""
        with self.store.reading() as session:
            return evidence_on(session, version.digest)

    def lineage(self, version: ModelVersion) -> Sequence[ModelVersion]:
        """The version's registered ancestors, nearest first."""
        with self.store.reading() as session:
            return lineage_of(session, version)

    def check_files(self, version: ModelVersion) -> None:
        """Raise ModelError where the model folder's files are not those that were registered."""
        found = folder_digest(version.path)
        if found != version.digest:
            raise ModelError(
                f"{version.label} has changed since it was registered (digest {found[:12]}, registered "
                f"{version.digest[:12]}): register and review it again"
            )

    def _get(self, reference: str, *, exact: bool) -> ModelVersion:
        with self.store.reading() as session:
            version = find(session, reference)
            if version is None:
                raise ModelError(
                    f"'{reference}' is not registered in {self.store.url}: `raysafe registry list` shows what is, "
                    "`raysafe registry register RUN --name NAME` adds it"
                )
            if exact:
                require_one(session, reference, version)
            return version


def read_source(source: Path) -> dict[str, Any]:
    """What a run directory, or a bare model folder, says of its model; raises ModelError or StorageError."""
    folder = model_folder_of(source)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{source} holds no model: give a finished run or a model folder")
    check_references(folder)
    facts: dict[str, Any] = {
        "digest": folder_digest(folder),
        "path": str(folder.absolute()),
        "run": None,
        "config": {},
        "inputs": [],
        "parent": None,
        "evidence": [],
    }
    if folder == source:
        return facts
    try:
        facts["config"] = yaml.safe_load((source / "config.yaml").read_text()) or {}
        facts["inputs"] = json.loads((source / "environment.json").read_text()).get("inputs", [])
        if (source / "evidence.json").is_file():
            found = [Evidence.model_validate(e) for e in json.loads((source / "evidence.json").read_text())]
            facts["evidence"] = [e for e in found if e.model_digest == facts["digest"]]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StorageError(f"can't read the run {source}: {error}") from None
    facts["run"] = str(source.absolute())
    facts["parent"] = next((i["sha256"] for i in facts["inputs"] if i["kind"] == "model"), None)
    return facts


def _add_evidence(session: Session, version: ModelVersion, evidence: Sequence[Evidence]) -> None:
    """Evidence that came with another name of the same files already is not added again: it would look newer."""
    now, known = datetime.now(UTC), evidence_on(session, version.digest)
    session.add_all(
        EvidenceRow(version_id=version.id, body=e.model_dump(mode="json"), added=now)
        for e in evidence
        if e not in known
    )
