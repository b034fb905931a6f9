"""The Serve application that the RayService names: it exists, takes the manifest's settings, and refuses the rest."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysafe.errors import ConfigError, ModelError, NotApproved
from raysafe.records.audit import AuditLog
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.serving.keys import KeyFile
from raysafe.serving.service import ServiceConfig
from tests.cluster.manifests import manifest
from tests.oversight.helpers import add, approve
from tests.records.test_registry import make_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def serve_config() -> Any:
    """serveConfigV2 as Ray Serve reads it."""
    from ray.serve.schema import ServeDeploySchema

    return ServeDeploySchema.model_validate(yaml.safe_load(manifest("RayService")["spec"]["serveConfigV2"]))


def build(args: dict[str, Any]) -> Any:
    module, _, name = serve_config().applications[0].import_path.partition(":")
    return getattr(importlib.import_module(module), name)(args)


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The manifest's args, with an approved model called as they say and keys of its own."""
    url = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", url)
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    keys = KeyFile(tmp_path / "api-keys.json")
    keys.keep(keys.make("first")[0])
    with open_store(url) as store, AuditLog(tmp_path / "audit", "review") as audit:
        version = Registry(store).register(make_run(tmp_path / "run"), name="assistant")[0]
        add(store, version, 0.1)
        approve(store, audit, "assistant")
    return (serve_config().applications[0].args or {}) | {"keys": str(keys.path)}


def test_ray_serve_takes_the_configuration() -> None:
    config = serve_config()
    (application,) = config.applications
    assert config.http_options.port == 8000
    assert application.name == application.args["name"]
    ServiceConfig.parse(dict(application.args), "args")


def test_an_approved_model_becomes_a_gateway_in_front_of_its_replicas(approved: dict[str, Any]) -> None:
    gateway = build(approved)._bound_deployment
    (replica,) = gateway.init_args
    assert gateway.name == "gateway"
    assert replica._bound_deployment.name == "model"
    assert replica._bound_deployment.ray_actor_options["num_cpus"] == approved["cpus"]


def test_a_model_that_was_never_reviewed_is_not_served(approved: dict[str, Any], tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as store:
        Registry(store).register(make_run(tmp_path / "other"), name="other")
    with pytest.raises(NotApproved, match="has not been reviewed"):
        build(approved | {"model": "other"})


def test_a_model_whose_files_have_changed_is_not_served(approved: dict[str, Any], tmp_path: Path) -> None:
    file = next((tmp_path / "run").rglob("config.json"))
    file.write_text(file.read_text() + "\n")
    with pytest.raises((ModelError, NotApproved)):
        build(approved)


def test_no_key_is_made_where_nobody_would_see_it(approved: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no API key"):
        build(approved | {"keys": str(tmp_path / "none.json")})
    assert not (tmp_path / "none.json").exists()


@pytest.mark.parametrize(("field", "value"), [("host", "0.0.0.0"), ("port", 9000), ("new_key", "x")])
def test_a_setting_without_effect_is_refused(approved: dict[str, Any], field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} has no effect"):
        build(approved | {field: value})


def test_a_misspelt_setting_is_refused(approved: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="replica"):
        build(approved | {"replica": 2})
