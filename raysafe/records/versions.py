"""Model versions as rows of the store, and what is known of their files, read in the caller's transaction.

A name and number say which version is meant; evidence belongs to the files, whatever names they have.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from raysafe.config import Config
from raysafe.errors import ModelError
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.tables import EvidenceRow, VersionRow

_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_LABEL = re.compile(r"(?P<name>[^:/]+)(:(?P<number>[0-9]{1,9}))?")


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


def check_name(name: str) -> None:
    """Raise ModelError for a name that a reference could not be told apart from a number, a path or a digest by."""
    if not name or ":" in name or "/" in name:
        raise ModelError(f"a model's name must be non-empty and have no ':' or '/', got '{name}'")
    if _DIGEST.fullmatch(name.lower()):
        raise ModelError(
            f"a name of hexadecimal digits alone would pass for a digest, got '{name}': add another letter"
        )


def find(session: Session, reference: str) -> ModelVersion | None:
    """A version by `name` (the latest), `name:2`, the beginning of a digest, or the path of a model or run.

    Files that were registered under several names are found under the one that they got last.
    """
    if _DIGEST.fullmatch(reference):
        found = _read(session, VersionRow.digest.startswith(reference))
        if len({version.digest for version in found}) > 1:
            raise ModelError(f"several models' digests begin with {reference}: give more of it")
        if found:
            return found[-1]
    elif label := _LABEL.fullmatch(reference):
        found = of_name(session, label["name"])
        if label["number"] is not None:
            found = [version for version in found if version.version == int(label["number"])]
        if found:
            return found[-1]
    folder = model_folder_of(Path(reference))
    # only such a folder can have been registered: others, perhaps large, aren't read
    if not reference or not (folder / "config.json").is_file():
        return None
    found = with_digest(session, folder_digest(folder))
    return found[-1] if found else None


def require_one(session: Session, reference: str, version: ModelVersion) -> None:
    """Raise ModelError where the reference that `version` was found by leaves open which version is meant."""
    if reference == version.name:
        others, what = of_name(session, version.name), f"'{reference}' has several versions"
    elif reference.startswith(f"{version.name}:"):
        return
    else:
        others, what = with_digest(session, version.digest), "these files are registered under several names"
    if len(others) > 1:
        labels = ", ".join(other.label for other in others)
        raise ModelError(f"{what}, {labels}: say which one is meant, as NAME:NUMBER")


def of_name(session: Session, name: str) -> list[ModelVersion]:
    """The versions of a name, oldest first."""
    return _read(session, VersionRow.name == name)


def with_digest(session: Session, digest: str) -> list[ModelVersion]:
    """The versions that hold these files, under whatever names, in the order of their registration."""
    return _read(session, VersionRow.digest == digest)


def lineage_of(session: Session, version: ModelVersion) -> list[ModelVersion]:
    """The version's registered ancestors, nearest first."""
    ancestors: list[ModelVersion] = []
    seen, digest = {version.digest}, version.parent
    while digest is not None and digest not in seen:
        seen.add(digest)
        parents = with_digest(session, digest)
        if not parents:
            break
        ancestors.append(parents[-1])
        digest = parents[-1].parent
    return ancestors


def evidence_on(session: Session, digest: str) -> list[Evidence]:
    """Evidence on these files, under whichever name it was added, in the order in which it came."""
    query = (
        select(EvidenceRow.body)
        .join(VersionRow, VersionRow.id == EvidenceRow.version_id)
        .where(VersionRow.digest == digest)
        .order_by(EvidenceRow.id)
    )
    return [Evidence.model_validate(body) for body in session.scalars(query)]


def model_folder_of(source: Path) -> Path:
    """A run's model/, or the folder itself."""
    return source / "model" if (source / "config.yaml").is_file() else source


def version_of(row: VersionRow) -> ModelVersion:
    return ModelVersion.parse({name: getattr(row, name) for name in ModelVersion.model_fields})


def _read(session: Session, where: ColumnElement[bool]) -> list[ModelVersion]:
    return [version_of(row) for row in session.scalars(select(VersionRow).where(where).order_by(VersionRow.id))]
