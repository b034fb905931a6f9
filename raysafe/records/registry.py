"""The registry: versions of named models, what each was made from, and the evidence on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from raysafe.config import Config
from raysafe.errors import ModelError, StorageError
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.store import Store
from raysafe.records.tables import EvidenceRow, VersionRow

SHORTEST_DIGEST = 8


class ModelVersion(Config):
    """One version of a named model, with its lineage."""

    id: int
    name: str
    version: int
    digest: str = Field(description="sha256 of the model folder.")
    path: str = Field(description="The model folder.")
    run: str | None = Field(description="The run that made it.")
    config: dict[str, Any] = Field(description="Settings of that run.")
    inputs: list[dict[str, str]] = Field(description="Data and models it was made from: kind, uri, sha256.")
    parent: str | None = Field(description="Digest of the model that it was trained from.")
    created: datetime

    @property
    def label(self) -> str:
        return f"{self.name}:{self.version}"


class Registry:
    """Reads and writes model versions in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, source: str | Path, *, name: str) -> tuple[ModelVersion, bool]:
        """Register a finished run's model, or a bare model folder, as the next version of `name`.

        Returns the version and whether it is new: the same files under the same name are one version.
        """
        if not name or ":" in name or "/" in name:
            raise ModelError(f"a model's name must be non-empty and have no ':' or '/', got '{name}'")
        facts = read_source(Path(source).expanduser())
        evidence = facts.pop("evidence")
        with self.store.session(alone=True) as session:
            versions = session.scalars(select(VersionRow).where(VersionRow.name == name)).all()
            known = next((v for v in versions if v.digest == facts["digest"]), None)
            if known is not None:
                return _version(known), False
            row = VersionRow(
                name=name, version=max((v.version for v in versions), default=0) + 1, created=datetime.now(UTC), **facts
            )
            session.add(row)
            session.flush()
            _add_evidence(session, row.id, evidence)
            return _version(row), True

    def list(self) -> list[ModelVersion]:
        """All versions, by name and number."""
        with self.store.reading() as session:
            rows = session.scalars(select(VersionRow).order_by(VersionRow.name, VersionRow.version))
            return [_version(row) for row in rows]

    def find(self, reference: str) -> ModelVersion | None:
        """A version by `name` (the latest), `name:2`, the beginning of a digest, or the path of a model or run."""
        name, _, number = reference.partition(":")
        newest = VersionRow.version.desc()
        query = select(VersionRow).where(VersionRow.name == name).order_by(newest)
        if number.isdigit():
            query = query.where(VersionRow.version == int(number))
        with self.store.reading() as session:
            row = session.scalars(query).first() if not number or number.isdigit() else None
            if row is None and len(reference) >= SHORTEST_DIGEST and set(reference) <= set("0123456789abcdef"):
                by_digest = select(VersionRow).where(VersionRow.digest.startswith(reference)).order_by(newest)
                rows = session.scalars(by_digest).all()
                if len({r.digest for r in rows}) > 1:
                    raise ModelError(f"several models' digests begin with {reference}: give more of it")
                row = rows[0] if rows else None
            if row is None and Path(reference).is_dir():
                digest = folder_digest(model_folder_of(Path(reference)))
                row = session.scalars(select(VersionRow).where(VersionRow.digest == digest).order_by(newest)).first()
            return None if row is None else _version(row)

    def get(self, reference: str) -> ModelVersion:
        """`find`, or ModelError."""
        version = self.find(reference)
        if version is None:
            raise ModelError(
                f"'{reference}' is not registered in {self.store.url}: `raysafe registry list` shows what is, "
                "`raysafe registry register RUN --name NAME` adds it"
            )
        return version

    def add_evidence(self, version: ModelVersion, evidence: Sequence[Evidence]) -> None:
        """Add evidence; raises ModelError where it speaks of other files than the version's."""
        strange = next((e for e in evidence if e.model_digest != version.digest), None)
        if strange is not None:
            raise ModelError(
                f"evidence '{strange.metric}' is on model {strange.model_digest[:12]}, not on {version.label} "
                f"({version.digest[:12]})"
            )
        with self.store.session() as session:
            _add_evidence(session, version.id, evidence)

    def evidence(self, version: ModelVersion) -> list[Evidence]:
        """Evidence on a version in the order in which it came."""
        query = select(EvidenceRow).where(EvidenceRow.version_id == version.id).order_by(EvidenceRow.id)
        with self.store.reading() as session:
            return [Evidence.model_validate(row.body) for row in session.scalars(query)]

    def lineage(self, version: ModelVersion) -> list[ModelVersion]:
        """The version's registered ancestors, nearest first."""
        ancestors, seen, digest = [], {version.digest}, version.parent
        while digest is not None and digest not in seen:
            seen.add(digest)
            parent = self.find(digest)
            if parent is None:
                break
            ancestors.append(parent)
            digest = parent.parent
        return ancestors

    def check_files(self, version: ModelVersion) -> None:
        """Raise ModelError where the model folder's files are not those that were registered."""
        found = folder_digest(version.path)
        if found != version.digest:
            raise ModelError(
                f"{version.label} has changed since it was registered (digest {found[:12]}, registered "
                f"{version.digest[:12]}): register and review it again"
            )


def model_folder_of(source: Path) -> Path:
    """A run's model/, or the folder itself."""
    return source / "model" if (source / "config.yaml").is_file() else source


def read_source(source: Path) -> dict[str, Any]:
    """What a run directory, or a bare model folder, says of its model; raises ModelError or StorageError."""
    folder = model_folder_of(source)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{source} holds no model: give a finished run or a model folder")
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


def _add_evidence(session: Session, version_id: int, evidence: Sequence[Evidence]) -> None:
    now = datetime.now(UTC)
    session.add_all(EvidenceRow(version_id=version_id, body=e.model_dump(mode="json"), added=now) for e in evidence)


def _version(row: VersionRow) -> ModelVersion:
    return ModelVersion.parse({name: getattr(row, name) for name in ModelVersion.model_fields})
