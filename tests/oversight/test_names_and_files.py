"""Evidence and rejections are on files, whatever names they have; an approval is on the version that was reviewed."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.errors import ConfigError, ModelError, NotApproved
from raysafe.oversight.safety_case import approved_case, load_case
from raysafe.records.audit import AuditLog
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.versions import ModelVersion
from tests.oversight.helpers import add, approve, reject
from tests.records.test_registry import make_run


@pytest.fixture
def copy(store: Store, version: ModelVersion, tmp_path: Path) -> ModelVersion:
    """The files of tiny:1 under another name, and of another number."""
    registry = Registry(store)
    registry.register(make_run(tmp_path / "before", weights="before"), name="copy")
    return registry.register(tmp_path / "run", name="copy")[0]


def test_a_failure_on_the_files_counts_under_every_name(
    store: Store, version: ModelVersion, copy: ModelVersion, audit: AuditLog
) -> None:
    approve(store, audit, "tiny:1")
    add(store, copy, 0.9)
    with pytest.raises(NotApproved, match="the approval of tiny:1 is stale"):
        approved_case(store, "tiny:1")
    with pytest.raises(NotApproved, match="copy:2 can't be approved"):
        approve(store, audit, "copy:2")


def test_files_that_were_rejected_under_one_name_are_served_under_none(
    store: Store, version: ModelVersion, copy: ModelVersion, audit: AuditLog
) -> None:
    reject(store, audit, "tiny:1")
    refusal = "copy:2 holds the files of tiny:1, which was rejected by Bo: found a hole; neither is served until tiny:1"
    for _ in range(2):
        with pytest.raises(NotApproved, match=refusal):
            approved_case(store, "copy:2")
        approve(store, audit, "copy:2")
    approve(store, audit, "tiny:1")
    assert approved_case(store, "copy:2").version == copy
    approved_case(store, "tiny:1")


def test_an_approval_is_of_one_version_and_not_of_its_files_elsewhere(
    store: Store, version: ModelVersion, copy: ModelVersion, audit: AuditLog
) -> None:
    approve(store, audit, "tiny:1")
    approved_case(store, "tiny:1")
    with pytest.raises(NotApproved, match="copy:2 has not been reviewed"):
        approved_case(store, "copy:2")
    assert [d.label for d in load_case(store, "copy:2").history] == ["tiny:1"]


def test_a_name_with_several_versions_is_not_decided_on(
    store: Store, version: ModelVersion, audit: AuditLog, tmp_path: Path
) -> None:
    approve(store, audit, "tiny")  # one version: nothing is left open
    Registry(store).register(make_run(tmp_path / "next", weights="next"), name="tiny")
    for act in (approve, reject):
        with pytest.raises(ModelError, match="'tiny' has several versions, tiny:1, tiny:2: say which one is meant"):
            act(store, audit, "tiny")
    assert load_case(store, "tiny:2").history == ()
    assert approve(store, audit, version.digest).version == version
    reject(store, audit, "tiny:2")
    approved_case(store, "tiny:1")


def test_decisions_go_where_serving_looks_for_them(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    with (
        AuditLog(tmp_path / "audit", "elsewhere") as log,
        pytest.raises(ConfigError, match="audit chain 'review', where serving looks, not 'elsewhere'"),
    ):
        approve(store, log)
    assert load_case(store, "tiny").history == ()
