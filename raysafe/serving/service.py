"""From a registered model to a running service: only an approved model whose files are still the approved ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import Field

from raysafe.guards.policy import Policy, load_policy
from raysafe.oversight.safety_case import approved_case
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import Store, default_url, open_store
from raysafe.records.versions import ModelVersion
from raysafe.serving.deploy import Deployment, Placement, deploy
from raysafe.serving.gateway import GatewaySettings
from raysafe.serving.keys import Key, KeyFile
from raysafe.serving.ledger import AuditWriter
from raysafe.serving.replicas import ReplicaSettings


class ServiceConfig(Placement):
    """`raysafe serve`: a guarded, OpenAI-compatible HTTP service of one approved model."""

    model: str = Field(description="Registered model: name, name:version, digest, or the path that was registered.")
    policy: str | None = Field(default=None, description="YAML policy of guards; the packaged one by default.")
    name: str | None = Field(default=None, description="Name that clients ask for; the registered name by default.")
    store: str | None = Field(default=None, description="URL of the store with registry and audit log.")
    keys: str | None = Field(default=None, description="File of API keys; api-keys.json beside the store by default.")
    new_key: str | None = Field(
        default=None, description="Make one more API key of this name; one is made at the first start."
    )
    chat_template: str = Field(
        default="auto", description="auto (the tokenizer's own), plain, or the path of a Jinja file."
    )
    max_tokens: int = Field(
        default=1024, ge=1, description="Longest answer where a request asks for none in particular."
    )
    request_timeout_s: float = Field(default=120.0, gt=0, description="Longest generation.")


class Service:
    """A running service. `key` is the secret of the API key that this start made, None where it made none."""

    def __init__(
        self, deployment: Deployment, model: str, version: ModelVersion, policy: Policy, key: str | None
    ) -> None:
        self._deployment = deployment
        self.model, self.version, self.policy, self.key = model, version, policy, key

    @property
    def url(self) -> str:
        """Without a path: clients take `url` + /v1 as their base."""
        return self._deployment.url

    def wait(self) -> None:
        """Until the application ends of itself, or Ctrl-C."""
        while self._deployment.running:
            time.sleep(1.0)

    def stop(self) -> None:
        self._deployment.stop()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


@dataclass(frozen=True)
class Plan:
    """What a service is made of, once its model's approval was checked."""

    application: str
    """Name of the Serve application."""
    version: ModelVersion
    gateway: GatewaySettings
    replica: ReplicaSettings
    open_audit: Callable[[], AuditWriter]


def plan_service(config: ServiceConfig, keys: tuple[Key, ...]) -> Plan:
    """Check the model's approval and files; raises NotApproved with the reason, before Ray is touched."""
    policy = load_policy(config.policy)
    url = absolute(config.store or default_url())
    with open_store(url) as store:
        version = approved_version(store, config.model)
    name = config.name or version.name
    template = config.chat_template
    replica = ReplicaSettings(
        folder=version.path,
        digest=version.digest,
        chat_template=template if template in ("auto", "plain") else str(Path(template).absolute()),
        max_tokens=config.max_tokens,
    )
    gateway = GatewaySettings(model=name, policy=policy, keys=keys, request_timeout_s=config.request_timeout_s)
    application = re.sub(r"[^\w-]+", "-", name)
    return Plan(application, version, gateway, replica, partial(_open_audit, url, application))


def _open_audit(url: str, application: str) -> AuditWriter:
    return AuditLog(audit_folder(url), writer=f"gateway-{application}", unique=True)


def key_file(config: ServiceConfig) -> KeyFile:
    """Where the service's API keys are."""
    return KeyFile(config.keys or default_keys(absolute(config.store or default_url())))


def start_service(config: ServiceConfig) -> Service:
    """Check the model's approval, then serve it; raises NotApproved with the reason before Ray is touched."""
    keys = key_file(config)
    made = make_key(keys, config.new_key)
    plan = plan_service(config, (*keys.read(), *([made[0]] if made else [])))
    deployment = deploy(plan.application, plan.gateway, plan.replica, config, plan.open_audit)
    if made:
        # kept only now: a key whose secret was never shown opens nothing and would look like the first start's
        try:
            keys.keep(made[0])
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                deployment.stop()
            raise
    return Service(deployment, plan.gateway.model, plan.version, plan.gateway.policy, made[1] if made else None)


def approved_version(store: Store, model: str) -> ModelVersion:
    """The version that `model` names; raises NotApproved, also where the audit log says otherwise than the store.

    Raises ModelError where its files have changed since.
    """
    version = approved_case(store, model).version
    Registry(store).check_files(version)
    return version


def make_key(keys: KeyFile, new_key: str | None) -> tuple[Key, str] | None:
    """A key made now and its secret: the one asked for, or the first of all."""
    if new_key is not None:
        return keys.make(new_key)
    return None if keys.read() else keys.make("default")


def absolute(store_url: str) -> str:
    """The URL for a process with another working directory."""
    path = store_url.removeprefix("sqlite:///")
    return store_url if path == store_url else f"sqlite:///{Path(path).absolute()}"


def default_keys(store_url: str) -> Path:
    """api-keys.json beside a SQLite store, in ./runs otherwise."""
    path = store_url.removeprefix("sqlite:///")
    return Path(path).parent / "api-keys.json" if path != store_url else Path("runs/api-keys.json")
