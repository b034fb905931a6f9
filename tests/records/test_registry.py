"""The store and its registry: versions, lineage, evidence, tampering; several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import inspect, update

from raysafe.errors import ModelError, StorageError
from raysafe.records.digest import folder_digest
from raysafe.records.evidence import Evidence
from raysafe.records.registry import Registry
from raysafe.records.store import Store, open_store
from raysafe.records.tables import Base, VersionRow
from raysafe.records.versions import ModelVersion


def make_run(folder: Path, *, weights: str = "w", inputs: list[dict[str, str]] | None = None) -> Path:
    """A finished run's files, by hand."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_text(weights)
    (folder / "config.yaml").write_text("job: dpo\nbeta: 0.1\n")
    (folder / "environment.json").write_text(json.dumps({"inputs": inputs or []}))
    return folder


def evidence(digest: str, value: float = 0.1) -> Evidence:
    return Evidence(
        suite="safety-prompts",
        metric="unsafe_rate",
        value=value,
        n=50,
        threshold=0.2,
        better="lower",
        model_digest=digest,
    )


@pytest.fixture
def store(tmp_path: Path):
    with open_store(f"sqlite:///{tmp_path}/deep/raysafe.db") as opened:
        yield opened


def test_the_migrations_make_the_tables_that_the_code_reads(store: Store) -> None:
    found = inspect(store.engine)
    for table in Base.metadata.sorted_tables:
        assert {c["name"] for c in found.get_columns(table.name)} == {c.name for c in table.columns}
        for index in table.indexes:
            assert index.name in {i["name"] for i in found.get_indexes(table.name)}


def test_versions_count_up_and_the_same_files_are_one_version(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    first, new = registry.register(make_run(tmp_path / "a"), name="tiny")
    again, new_again = registry.register(tmp_path / "a", name="tiny")
    second, _ = registry.register(make_run(tmp_path / "b", weights="other"), name="tiny")
    assert (first.label, new, again, new_again, second.label) == ("tiny:1", True, first, False, "tiny:2")
    assert first.config == {"job": "dpo", "beta": 0.1}


def test_a_version_is_found_by_name_number_digest_and_path(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    first, _ = registry.register(make_run(tmp_path / "a"), name="tiny")
    second, _ = registry.register(make_run(tmp_path / "b", weights="other"), name="tiny")
    assert registry.get("tiny") == second
    for reference in ("tiny:1", first.digest, first.digest[:10], str(tmp_path / "a"), str(tmp_path / "a" / "model")):
        assert registry.get(reference) == first, reference
    with pytest.raises(ModelError, match="'tiny:7' is not registered"):
        registry.get("tiny:7")


def test_lineage_follows_the_models_that_runs_started_from(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    parent, _ = registry.register(make_run(tmp_path / "sft"), name="sft")
    inputs = [
        {"kind": "data", "uri": "pairs.jsonl", "sha256": "0" * 64},
        {"kind": "model", "uri": "sft", "sha256": parent.digest},
    ]
    child, _ = registry.register(make_run(tmp_path / "dpo", weights="x", inputs=inputs), name="dpo")
    assert child.parent == parent.digest
    assert registry.lineage(child) == [parent]


def test_evidence_in_the_run_comes_along_and_that_on_other_files_is_refused(store: Store, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    own, other = evidence(folder_digest(run / "model")), evidence("f" * 64)
    (run / "evidence.json").write_text(json.dumps([e.model_dump(mode="json") for e in (own, other)]))
    registry = Registry(store)
    version, _ = registry.register(run, name="tiny")
    assert registry.evidence(version) == [own]
    with pytest.raises(ModelError, match="is on model ffffffffffff, not on tiny:1"):
        registry.add_evidence(version, [other])


def test_a_changed_file_is_noticed(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    version, _ = registry.register(make_run(tmp_path / "a"), name="tiny")
    registry.check_files(version)
    (tmp_path / "a" / "model" / "model.safetensors").write_text("W")
    with pytest.raises(ModelError, match="has changed since it was registered"):
        registry.check_files(version)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "URL can't be read"),
        ("mysql://a@b/c", "SQLite or PostgreSQL, got 'mysql'"),
        ("sqlite:////proc/none/raysafe.db", "can't make the folder"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_store(url)


def test_a_password_is_never_in_a_message() -> None:
    with pytest.raises(StorageError) as raised:
        open_store("postgresql://me:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(raised.value)


WRITER = """
import sys
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
with open_store(sys.argv[1]) as store:
    for source in sys.argv[2:]:
        Registry(store).register(source, name="many")
"""


@pytest.mark.serve
def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    sources = [str(make_run(tmp_path / f"r{i}", weights=str(i))) for i in range(12)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, url, *sources[i::3]]) for i in range(3)]
    assert [w.wait(60) for w in writers] == [0, 0, 0]
    with open_store(url) as store:
        assert [v.version for v in Registry(store).list()] == list(range(1, 13))


def test_evidence_belongs_to_the_files_under_all_their_names(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    make_run(tmp_path / "a")
    first, _ = registry.register(tmp_path / "a", name="first")
    registry.add_evidence(first, [evidence(first.digest, 0.9)])
    second, _ = registry.register(tmp_path / "a", name="second")
    registry.add_evidence(second, [evidence(first.digest, 0.1)])
    assert [e.value for e in registry.evidence(first)] == [e.value for e in registry.evidence(second)] == [0.9, 0.1]


def test_evidence_that_comes_again_with_another_name_is_not_newer(store: Store, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    passed = evidence(folder_digest(run / "model"))
    (run / "evidence.json").write_text(json.dumps([passed.model_dump(mode="json")]))
    registry = Registry(store)
    version, _ = registry.register(run, name="first")
    failed = evidence(version.digest, 0.9)
    registry.add_evidence(version, [failed])
    registry.register(run, name="second")
    assert registry.evidence(version) == [passed, failed]


@pytest.mark.parametrize("name", ["deadbeef", "0" * 64, "20261105", "DEADBEEF"])
def test_a_name_that_would_pass_for_a_digest_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="would pass for a digest"):
        Registry(store).register(make_run(tmp_path / "a"), name=name)


def named_after(store: Store, victim: ModelVersion, impostor: ModelVersion) -> None:
    """Give a version the name that registering refuses, as a store of an earlier RaySafe may have it."""
    with store.session() as session:
        session.execute(update(VersionRow).where(VersionRow.id == impostor.id).values(name=victim.digest))


def test_a_digest_never_means_another_model_that_is_called_so(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    parent, _ = registry.register(make_run(tmp_path / "a"), name="good")
    inputs = [{"kind": "model", "uri": "a", "sha256": parent.digest}]
    child, _ = registry.register(make_run(tmp_path / "c", weights="c", inputs=inputs), name="child")
    named_after(store, parent, registry.register(make_run(tmp_path / "b", weights="b"), name="other")[0])
    assert registry.get(parent.digest) == parent
    assert registry.lineage(child) == [parent]


def test_a_reference_that_leaves_the_version_open_is_refused_where_one_must_be_meant(
    store: Store, tmp_path: Path
) -> None:
    registry = Registry(store)
    first, _ = registry.register(make_run(tmp_path / "a"), name="tiny")
    assert registry.get_exact("tiny") == first
    second, _ = registry.register(make_run(tmp_path / "b", weights="b"), name="tiny")
    with pytest.raises(ModelError, match="'tiny' has several versions, tiny:1, tiny:2: say which one is meant"):
        registry.get_exact("tiny")
    assert [registry.get_exact(r) for r in ("tiny:1", first.digest, str(tmp_path / "b"))] == [first, first, second]
    registry.register(tmp_path / "a", name="copy")
    with pytest.raises(ModelError, match="under several names, tiny:1, copy:1: say which one is meant"):
        registry.get_exact(first.digest)


@pytest.mark.parametrize("reference", ["tiny:²", "tiny:", "tiny:99999999999999999999", "tiny:-1", "tiny:1:1", ""])
def test_what_is_no_reference_is_not_registered(store: Store, tmp_path: Path, reference: str) -> None:
    Registry(store).register(make_run(tmp_path / "a"), name="tiny")
    with pytest.raises(ModelError, match="is not registered"):
        Registry(store).get(reference)
