"""What `raysafe serve` does at Ctrl-C, and what it writes instead of starting anything."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import yaml
from rich.console import Console

from raysafe.cli import serve
from raysafe.control.key_store import KeyStore
from raysafe.errors import ConfigError
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.serving import service as service_module
from raysafe.serving.service import Service
from tests.oversight.helpers import add, approve
from tests.records.test_registry import make_run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class _Deployment:
    """In place of Serve: Ctrl-C comes while it waits, and again while it drains where `impatient`."""

    url, ingress, running = "http://127.0.0.1:1", None, True

    def __init__(self, impatient: bool = False) -> None:
        self.impatient = impatient
        self.did: list[str] = []

    def drain(self, told: Callable[[int], None] | None = None) -> None:
        self.did.append("drain")
        assert told is not None
        told(3)
        if self.impatient:
            raise KeyboardInterrupt

    def stop(self, now: bool = False) -> None:
        self.did.append("stop now" if now else "stop")


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store with the approved model `m` and a key."""
    url = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    with open_store(url) as store, AuditLog(audit_folder(url), "review") as audit:
        KeyStore(store).make("first")
        version = Registry(store).register(make_run(tmp_path / "run"), name="m")[0]
        add(store, version, 0.1)
        approve(store, audit, "m")
    return url


@pytest.fixture
def run(approved: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[_Deployment], int]:
    def interrupt(service: Service) -> None:
        raise KeyboardInterrupt

    def start(deployment: _Deployment) -> int:
        monkeypatch.setattr(service_module, "deploy", lambda *arguments: deployment)
        monkeypatch.setattr(Service, "wait", interrupt)
        return serve.main(["m", "--store", approved])

    return start


def test_ctrl_c_drains_and_then_stops(run: Callable[[_Deployment], int]) -> None:
    deployment = _Deployment()
    assert run(deployment) == 0
    assert deployment.did == ["drain", "stop"]


def test_a_second_ctrl_c_ends_at_once(run: Callable[[_Deployment], int]) -> None:
    deployment = _Deployment(impatient=True)
    with pytest.raises(KeyboardInterrupt):
        run(deployment)
    assert deployment.did == ["drain", "stop now"]


def test_draining_says_how_many_requests_it_waits_for() -> None:
    shown: list[str] = []

    class Status:
        def __enter__(self) -> Status:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            return None

        def update(self, text: str) -> None:
            shown.append(text)

    class Told(Console):
        def status(self, *arguments: Any, **options: Any) -> Any:
            return Status()

    serve.drain(_Deployment(), Told(file=io.StringIO()))  # type: ignore[arg-type]
    assert shown == ["waiting for 3 requests under way"]


def test_a_written_config_is_one_that_serve_takes_and_builds(approved: str, tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    from raysafe.serving.serve_config import gateway, model

    (tmp_path / "policy.yaml").write_text("guards: []")
    path, policy = tmp_path / "app.yaml", str(tmp_path / "policy.yaml")
    assert serve.main(["m", "--store", approved, "--policy", policy, "--write-config", str(path)]) == 0
    config = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text()))
    assert config.http_options.host == "127.0.0.1"
    behind, front = config.applications
    assert (behind.route_prefix, front.route_prefix) == (None, "/")
    assert front.args == {"model": "m:1", "name": "m", "store": approved, "policy": policy}
    # a new policy is no reason to load the model anew
    assert behind.args == {"model": "m:1", "name": "m", "store": approved}
    assert gateway(front.args)._bound_deployment.name == "gateway"
    assert model(behind.args)._bound_deployment.name == "model"


def test_a_config_without_a_key_to_open_it_is_not_written(approved: str, tmp_path: Path) -> None:
    with open_store(approved) as store:
        KeyStore(store).revoke("first", reason="lost")
    with pytest.raises(ConfigError, match="holds no API key"):
        serve.main(["m", "--store", approved, "--write-config", str(tmp_path / "app.yaml")])
    assert not (tmp_path / "app.yaml").exists()


def test_a_config_needs_a_port_of_its_own(approved: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="port 0 takes a free port"):
        serve.main(["m", "--store", approved, "--port", "0", "--write-config", str(tmp_path / "app.yaml")])
