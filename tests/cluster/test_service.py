"""The Serve applications that the RayService names: they exist, take the manifest's settings, and refuse the rest."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysafe.control.key_store import KeyStore
from raysafe.errors import ConfigError, ModelError, NotApproved
from raysafe.records.audit import AuditLog
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.serving.service import ServiceConfig
from tests.cluster.manifests import manifest
from tests.oversight.helpers import add, approve
from tests.records.test_registry import make_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def serve_config() -> Any:
    """serveConfigV2 as Ray Serve reads it."""
    from ray.serve.schema import ServeDeploySchema

    return ServeDeploySchema.model_validate(yaml.safe_load(manifest("RayService")["spec"]["serveConfigV2"]))


def build(kind: str, args: dict[str, Any]) -> Any:
    """What the application of this builder becomes."""
    (path,) = [app.import_path for app in serve_config().applications if app.import_path.endswith(f":{kind}")]
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)(args)._bound_deployment


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The manifest's args, with an approved model called as they say and a key in the store."""
    url = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", url)
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    with open_store(url) as store, AuditLog(tmp_path / "audit", "review") as audit:
        KeyStore(store).make("first")
        version = Registry(store).register(make_run(tmp_path / "run"), name="assistant")[0]
        add(store, version, 0.1)
        approve(store, audit, "assistant")
    return serve_config().applications[0].args or {}


def test_ray_serve_takes_the_configuration() -> None:
    config = serve_config()
    model, gateway = config.applications
    assert config.http_options.port == 8000
    assert gateway.name == gateway.args["name"] and gateway.route_prefix == "/"
    assert (model.name, model.route_prefix, model.args) == (f"{gateway.name}-model", None, gateway.args)
    ServiceConfig.parse(dict(gateway.args), "args")


def test_an_approved_model_becomes_gateways_and_replicas(approved: dict[str, Any]) -> None:
    gateway, model = build("gateway", approved), build("model", approved)
    assert (gateway.name, gateway.num_replicas) == ("gateway", approved["gateways"])
    assert (model.name, model.ray_actor_options["num_cpus"]) == ("model", approved["cpus"])


@pytest.mark.parametrize("kind", ["gateway", "model"])
def test_a_model_that_was_never_reviewed_is_not_served(approved: dict[str, Any], tmp_path: Path, kind: str) -> None:
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as store:
        Registry(store).register(make_run(tmp_path / "other"), name="other")
    with pytest.raises(NotApproved, match="has not been reviewed"):
        build(kind, approved | {"model": "other"})


@pytest.mark.parametrize("kind", ["gateway", "model"])
def test_a_model_whose_files_have_changed_is_not_served(approved: dict[str, Any], tmp_path: Path, kind: str) -> None:
    file = next((tmp_path / "run").rglob("config.json"))
    file.write_text(file.read_text() + "\n")
    with pytest.raises((ModelError, NotApproved)):
        build(kind, approved)


def test_no_key_is_made_where_nobody_would_see_it(approved: dict[str, Any], tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as store:
        KeyStore(store).revoke("first", reason="lost")
        with pytest.raises(ConfigError, match="holds no API key"):
            build("gateway", approved)
        assert KeyStore(store).live() == []


@pytest.mark.parametrize(
    ("field", "value"), [("host", "0.0.0.0"), ("port", 9000), ("new_key", "x"), ("way_in", "serve")]
)
def test_a_setting_without_effect_is_refused(approved: dict[str, Any], field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} has no effect"):
        build("gateway", approved | {field: value})


def test_a_misspelt_setting_is_refused(approved: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="replica"):
        build("gateway", approved | {"replica": 2})
