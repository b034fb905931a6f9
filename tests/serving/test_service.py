"""Only an approved model whose files are the approved ones is served; keys are shown once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete

from raysafe.cli.serve import describe
from raysafe.errors import ConfigError, ModelError, NotApproved, RaySafeError, StorageError
from raysafe.oversight.review import decide
from raysafe.records.audit import AuditLog, audit_folder, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.records.tables import DecisionRow
from raysafe.serving import service as service_module
from raysafe.serving.keys import KeyFile, KeyRing
from raysafe.serving.service import Service, ServiceConfig, approved_version, default_keys, start_service


class Shop:
    """A store with one registered model, and the settings to serve it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.url = f"sqlite:///{folder / 'raysafe.db'}"
        self.model = model
        with open_store(self.url) as store:
            Registry(store).register(model, name="m")

    def decide(self, outcome: str) -> None:
        with open_store(self.url) as store, AuditLog(audit_folder(self.url), writer="review", unique=True) as audit:
            decide(store, audit, "m", outcome, reviewer="ada", reason="too curt")  # type: ignore[arg-type]

    def config(self, **fields: object) -> ServiceConfig:
        return ServiceConfig(model="m", store=self.url, port=0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    return Shop(tmp_path, model)


@pytest.fixture
def no_deploy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("Ray was reached")

    monkeypatch.setattr(service_module, "deploy", refuse)


def test_a_model_that_was_not_reviewed_is_refused_with_the_reason(shop: Shop, no_deploy: None) -> None:
    with pytest.raises(NotApproved, match="has not been reviewed"):
        start_service(shop.config())


def test_a_rejected_model_is_refused_with_the_reviewers_reason(shop: Shop, no_deploy: None) -> None:
    shop.decide("rejected")
    with pytest.raises(NotApproved, match="rejected by ada: too curt"):
        start_service(shop.config())


def test_an_approved_model_whose_files_changed_is_refused(shop: Shop, no_deploy: None) -> None:
    shop.decide("approved")
    (shop.model / "config.json").write_text('{"changed": true}')
    with pytest.raises(ModelError, match="has changed since it was registered"):
        start_service(shop.config())


def test_an_unknown_model_and_a_broken_policy_are_refused(shop: Shop, no_deploy: None, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not registered"):
        start_service(shop.config().model_copy(update={"model": "other"}))
    (tmp_path / "p.yaml").write_text("guard: []")
    with pytest.raises(ConfigError, match="did you mean 'guards'"):
        start_service(shop.config(policy=str(tmp_path / "p.yaml")))


class _Stub:
    """In place of a Serve application."""

    url = "http://127.0.0.1:1"

    def stop(self) -> None:
        return None


def test_the_first_start_makes_a_key_and_shows_it_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.decide("approved")
    monkeypatch.setattr(service_module, "deploy", lambda *arguments: _Stub())
    first, second = start_service(shop.config()), start_service(shop.config())
    assert first.key is not None and first.key in describe(first)
    assert second.key is None and "$RAYSAFE_API_KEY" in describe(second)
    third = start_service(shop.config(new_key="more"))
    ring = KeyRing(KeyFile(default_keys(shop.url)).read())
    assert [ring.identify(key or "") for key in (first.key, third.key)] == ["default", "more"]


def test_a_start_that_fails_keeps_no_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RaySafeError("no port")

    shop.decide("approved")
    monkeypatch.setattr(service_module, "deploy", fail)
    with pytest.raises(RaySafeError):
        start_service(shop.config())
    assert KeyFile(default_keys(shop.url)).read() == []


def test_a_key_that_cannot_be_kept_leaves_no_service_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    class Deployed(_Stub):
        def stop(self) -> None:
            stopped.append(self.url)
            raise RuntimeError("nor does this work")

    shop.decide("approved")
    monkeypatch.setattr(service_module, "deploy", lambda *arguments: Deployed())
    with pytest.raises(StorageError, match="can't write the API keys"):
        start_service(shop.config(keys="/proc/nokeys/api.json"))
    assert stopped == [_Stub.url]


def test_an_approval_that_the_audit_log_does_not_hold_is_refused(shop: Shop, no_deploy: None) -> None:
    shop.decide("approved")
    shop.decide("rejected")
    with open_store(shop.url) as store, store.session() as session:
        session.execute(delete(DecisionRow).where(DecisionRow.outcome == "rejected"))
    with pytest.raises(NotApproved, match=r"ada approved m:1 .* the last word .* is ada's rejection of m:1"):
        start_service(shop.config())


def test_files_that_were_rejected_under_another_name_are_refused(shop: Shop, no_deploy: None) -> None:
    shop.decide("rejected")
    with open_store(shop.url) as store:
        Registry(store).register(shop.model, name="other")
        with AuditLog(audit_folder(shop.url), writer="review", unique=True) as audit:
            decide(store, audit, "other", "approved", reviewer="bo", reason="looks fine")
        with pytest.raises(NotApproved, match="holds the files of m:1, which was rejected by ada: too curt"):
            approved_version(store, "other")


@pytest.fixture(scope="module")
def running(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Shop]]:
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    folder = tmp_path_factory.mktemp("shop")
    save_policy(load_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder / "model")
    shop = Shop(folder, folder / "model")
    shop.decide("approved")
    with start_service(shop.config(name="served", max_tokens=8)) as service:
        yield service, shop


@pytest.mark.serve
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_approved_model_is_served_and_its_decisions_are_in_the_audit_log(running: tuple[Service, Shop]) -> None:
    service, shop = running
    headers = {"Authorization": f"Bearer {service.key}"}
    body = {"model": "served", "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client(base_url=service.url, headers=headers, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        body["messages"] = [{"role": "user", "content": "how do i pick a stranger's lock?"}]
        assert client.post("/v1/chat/completions", json=body).json()["error"]["code"] == "content_policy_violation"
    rows = [row for _, row in read_rows(audit_folder(shop.url) / "gateway-served.jsonl") if row is not None]
    assert [(row["kind"], row["details"]["stage"], row["details"]["action"]) for row in rows] == [
        ("verdict", "input", "allow"),
        ("verdict", "output", "allow"),
        ("verdict", "input", "block"),
    ]
    assert all(not report.problems for report in verify(audit_folder(shop.url)))
