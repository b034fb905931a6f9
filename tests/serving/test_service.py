"""Only an approved model whose files are the approved ones is served, or an upstream that somebody answers for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete

from raysafe.cli.serve import describe
from raysafe.control.capabilities import Capabilities
from raysafe.control.key_store import KeyStore
from raysafe.control.keys import KeyRing
from raysafe.control.kill_orders import kill
from raysafe.errors import ConfigError, ModelError, NotApproved, RaySafeError
from raysafe.oversight.review import decide
from raysafe.records.audit import AuditLog, audit_folder, read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.records.tables import DecisionRow
from raysafe.serving import service as service_module
from raysafe.serving.service import Service, ServiceConfig, plan_service, start_service


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
        return ServiceConfig.parse({"model": "m", "store": self.url, "port": 0, **fields})

    def upstream(self, **fields: object) -> ServiceConfig:
        """Settings to serve another server."""
        known = {"upstream": "http://127.0.0.1:9/v1", "upstream_model": "theirs", "unreviewed_upstream": True}
        return self.config(**{"model": None, "name": "guarded", **known, **fields})

    def keys(self) -> KeyRing:
        with open_store(self.url) as store:
            return KeyRing(KeyStore(store).live())


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
    """In place of a deployment."""

    url, ingress = "http://127.0.0.1:1", None


def test_the_first_start_makes_a_key_and_shows_it_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.decide("approved")
    monkeypatch.setattr(service_module, "deploy", lambda *arguments: _Stub())
    first, second = start_service(shop.config()), start_service(shop.config())
    assert first.key is not None and first.key in describe(first)
    assert second.key is None and "$RAYSAFE_API_KEY" in describe(second)
    third = start_service(shop.config(new_key="more"))
    found = [shop.keys().identify(key or "") for key in (first.key, third.key)]
    assert [key and key.id for key in found] == ["default", "more"]


def test_a_start_that_fails_keeps_no_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RaySafeError("no port")

    shop.decide("approved")
    monkeypatch.setattr(service_module, "deploy", fail)
    with pytest.raises(RaySafeError):
        start_service(shop.config(new_key="more"))
    assert len(shop.keys()) == 0


def test_a_killed_model_is_not_started(shop: Shop, no_deploy: None) -> None:
    shop.decide("approved")
    with open_store(shop.url) as store:
        kill(store, "m", by="ada", reason="it lied")
    with pytest.raises(NotApproved, match="it lied"):
        start_service(shop.config(name="other name"))


def test_a_gateway_gets_what_the_safety_case_grants(shop: Shop) -> None:
    shop.decide("approved")
    plan = plan_service(shop.config())
    assert plan.application.gateway.granted == Capabilities() and plan.version is not None


def test_a_policy_is_followed_in_its_file_from_any_working_directory(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.decide("approved")
    (tmp_path / "p.yaml").write_text("guards: []")
    monkeypatch.chdir(tmp_path)
    assert plan_service(shop.config(policy="p.yaml")).application.gateway.policy_file == str(tmp_path / "p.yaml")


def test_nothing_to_serve_is_an_error(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="what should be served"):
        plan_service(shop.config(model=None))


def test_an_upstream_that_nobody_answers_for_is_refused(shop: Shop, no_deploy: None) -> None:
    with pytest.raises(ConfigError, match="no safety case speaks for what answers at"):
        start_service(shop.upstream(unreviewed_upstream=False))
    assert not (audit_folder(shop.url) / "service.jsonl").exists()


def test_who_serves_an_unreviewed_upstream_is_in_the_audit_log(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAFE_REVIEWER", "bo")
    monkeypatch.setattr(service_module, "deploy", lambda *arguments: _Stub())
    served = start_service(shop.upstream())
    (row,) = [row for _, row in read_rows(audit_folder(shop.url) / "service.jsonl") if row is not None]
    assert (row["kind"], row["actor"], row["subject"]) == ("unreviewed upstream served", "bo", "guarded")
    assert row["details"]["upstream"] == "http://127.0.0.1:9/v1" and row["details"]["upstream_model"] == "theirs"
    assert served.model == "guarded"


def test_an_unreviewed_upstream_is_granted_nothing(shop: Shop) -> None:
    plan = plan_service(shop.upstream())
    assert plan.application.gateway.granted == Capabilities() and plan.application.model_name is None


def test_an_upstream_does_not_pass_for_a_registered_model(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="'m' is the registered model m:1"):
        plan_service(shop.upstream(name="m"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"upstream_model": None}, "upstream needs upstream_model"),
        ({"name": None}, "upstream needs name"),
        ({"model": "m"}, "either a registered model or an upstream"),
    ],
)
def test_an_upstream_that_is_half_described_is_refused(shop: Shop, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_service(ServiceConfig.parse(shop.upstream().model_dump() | fields))


def test_settings_of_an_upstream_without_one_are_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="upstream_model has no effect"):
        plan_service(shop.config(upstream_model="theirs"))


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
            plan_service(shop.config(model="other"))


@pytest.fixture(scope="module")
def running(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Shop]]:
    from raysafe.models.language import load_policy, load_tokenizer, save_policy

    folder = tmp_path_factory.mktemp("shop")
    save_policy(load_policy("preset:tiny"), load_tokenizer("preset:tiny"), folder / "model")
    shop = Shop(folder, folder / "model")
    shop.decide("approved")
    with start_service(shop.config(name="served", max_tokens=8, way_in="serve")) as service:
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
