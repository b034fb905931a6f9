"""What an approval is bound to, taken from where it is, and whether it is still the same there."""

from __future__ import annotations

import hashlib

from raysafe.errors import NotApproved, StorageError
from raysafe.guards.policy import Policy, load_policy
from raysafe.oversight.committee.reviews import Submission
from raysafe.oversight.decisions import Terms
from raysafe.oversight.safety_case import SafetyCase
from raysafe.records.evidence import Evidence, evidence_digest
from raysafe.records.versions import ModelVersion
from raysafe.runtime.storage import Folder


def evidence_files(version: ModelVersion, evidence: tuple[Evidence, ...]) -> dict[str, str]:
    """Files of runs that the evidence rests on, by address, with their sha256; raises StorageError.

    That is evidence.json of the run that made the model, where it has one, and every artifact that evidence names.
    """
    found: dict[str, str] = {}
    if version.run is not None and Folder(version.run).exists("evidence.json"):
        _add(found, version.run, "evidence.json")
    for item in evidence:
        for name in item.artifacts.values() if item.run else ():
            _add(found, item.run or "", name)
    return found


def changed_files(files: dict[str, str]) -> str | None:
    """The first of these files that is gone or another; None where all are as they were."""
    for address, digest in files.items():
        folder, _, name = address.rpartition("#")
        try:
            now = hashlib.sha256(Folder(folder).read(name)).hexdigest()
        except (StorageError, OSError):
            return f"{name} of {folder} can't be read any more"
        if now != digest:
            return f"{name} of {folder} has changed"
    return None


def why_changed(submission: Submission, case: SafetyCase) -> str | None:
    """What of a submission isn't any more as it was submitted, weights aside; None where all is."""
    bound = submission.bound
    if case.version.digest != bound.weights:
        return f"{bound.model} holds other files now"
    if evidence_digest(case.evidence) != bound.evidence:
        return f"the evidence on {bound.model} has changed"
    if load_policy(submission.guards_file).digest != bound.guards:
        return f"the policy of guards {submission.guards_file or '(packaged)'} has changed"
    return changed_files(bound.files)


def check_terms(label: str, terms: Terms, policy: Policy) -> None:
    """Raise NotApproved where a model would be served under other guards, or its evidence's files have changed."""
    if terms.guards is not None and terms.guards != policy.digest:
        raise NotApproved(
            f"{label} was approved under another policy of guards ({terms.guards[:8]}) than {policy.label}: serve it "
            f"under that one, or submit it with this one by `raysafe committee submit {label} --guards FILE`"
        )
    changed = changed_files(terms.files)
    if changed is not None:
        raise NotApproved(f"the approval of {label} rests on evidence whose file {changed}: submit it again")


def _add(found: dict[str, str], folder: str, name: str) -> None:
    # a run's folder and the file's name in it; a name has no '#', for the last one is where they part
    found[f"{folder}#{name}"] = hashlib.sha256(Folder(folder).read(name)).hexdigest()
