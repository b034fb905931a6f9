"""From a registered model to a running service: only an approved model whose files are still the approved ones.

A server that runs elsewhere has no files to approve: it is served as an upstream, under a name that no registered model
bears, and only where who starts it says so, which the audit log keeps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from pydantic import Field

from raysafe.control.budgets import WAIT_S, Budgets
from raysafe.control.capabilities import Capabilities
from raysafe.control.holds import Holds
from raysafe.control.key_store import KeyStore
from raysafe.control.kill_orders import why_killed
from raysafe.control.people import person
from raysafe.control.sandbox.opening import check_isolation
from raysafe.control.sandbox.policy import Policy as SandboxPolicy
from raysafe.control.sandbox.pool import Pool
from raysafe.control.trusted import TrustedConfig
from raysafe.control.watch import ControlPlane
from raysafe.errors import ConfigError, NotApproved
from raysafe.guards.policy import Policy, load_policy
from raysafe.monitoring.recorder import Recorder
from raysafe.oversight.committee.binding import check_terms
from raysafe.oversight.safety_case import SafetyCase, approved_case
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import Store, default_url, open_store
from raysafe.records.versions import ModelVersion
from raysafe.serving.application import Application, Placement
from raysafe.serving.beside import Beside
from raysafe.serving.control_room import ControlRoom, Records
from raysafe.serving.deploy import Deployment, deploy
from raysafe.serving.python_tool import PythonToolSettings
from raysafe.serving.replicas import ReplicaSettings
from raysafe.serving.settings import GatewaySettings

if TYPE_CHECKING:
    from raysafe.serving.upstream import UpstreamSettings


PEOPLE_WAIT_S = 5.0
"""Longest wait of the dashboard for the store."""


class ServiceConfig(Placement):
    """`raysafe serve`: a guarded, OpenAI-compatible HTTP service of one approved model, or before another server."""

    model: tyro.conf.Positional[str | None] = Field(
        default=None, description="Registered model: name, name:version, digest, or the path that was registered."
    )
    policy: str | None = Field(default=None, description="YAML policy of guards; the packaged one by default.")
    name: str | None = Field(default=None, description="Name that clients ask for; the registered name by default.")
    store: str | None = Field(default=None, description="URL of the store with registry, keys and audit log.")
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
    upstream: str | None = Field(
        default=None,
        description="Guard this OpenAI-compatible server, by its base URL (http://host:port/v1), in place of a model.",
    )
    upstream_model: str | None = Field(default=None, description="The model to ask the upstream server for.")
    upstream_key_env: str | None = Field(
        default=None, description="Environment variable of the gateways that holds the upstream server's API key."
    )
    upstream_capabilities: str | None = Field(
        default=None, description="YAML file of what the upstream's model may do; by default it writes, without tools."
    )
    python_tool: bool = Field(
        default=False,
        description="Let the model call the tool python, where its capabilities grant it: the gateway runs the program "
        "in a sandbox and shows the model what it printed. Without isolation the service doesn't start.",
    )
    sandbox_policy: str | None = Field(
        default=None, description="YAML policy of the tool's sandbox; the default one where it is left out."
    )
    python_calls: int = Field(default=4, ge=1, le=64, description="Most calls of the tool python in one answer.")
    dashboard: bool = Field(
        default=True, description="Serve /dashboard, for people with a reviewer's or an operator's key."
    )
    trusted: str | None = Field(
        default=None,
        description="Model that answers while an intervention degrades the service: openai:MODEL@URL, module:function, "
        "a settings file or a model folder.",
    )
    observe_s: float = Field(
        default=5.0, gt=0, le=300, description="Seconds of a window of figures, which the safety monitor reads."
    )
    monitor: str | None = Field(
        default=None, description="YAML file of rules: run the safety monitor of them beside the service."
    )
    unreviewed_upstream: bool = Field(
        default=False, description="Say that nobody has reviewed the model behind the upstream; kept in the audit log."
    )


class Service:
    """A running service. `key` is the secret of the API key that this start made, None where it made none."""

    def __init__(
        self,
        deployment: Deployment,
        plan: Plan,
        key: str | None,
        *,
        dashboard: bool = False,
        beside: Beside | None = None,
    ) -> None:
        self._deployment, self._dashboard, self._beside = deployment, dashboard, beside
        self.label, self.policy, self.key = plan.label, plan.policy, key
        self.model = plan.application.gateway.model

    @property
    def url(self) -> str:
        """Without a path: clients take `url` + /v1 as their base."""
        return self._deployment.url

    @property
    def dashboard(self) -> str | None:
        """Where people look on; None where there is no such page."""
        return f"{self.url}/dashboard" if self._dashboard else None

    @property
    def note(self) -> str | None:
        """What an operator should know about the way in."""
        return self._deployment.ingress.note if self._deployment.ingress else None

    def wait(self) -> None:
        """Until the service ends of itself, or Ctrl-C."""
        while self._deployment.running:
            time.sleep(1.0)
            if self._beside is not None:
                self._beside.look(self._deployment)

    def drain(self, told: Callable[[int], None] | None = None) -> None:
        """See Deployment.drain."""
        self._deployment.drain(told)

    def stop(self, now: bool = False) -> None:
        self._deployment.stop(now)
        if self._beside is not None:
            self._beside.stop()

    def __enter__(self) -> Service:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # a second Ctrl-C, or an error: nobody waits any more
        self.stop(now=kind is not None)


@dataclass(frozen=True)
class Plan:
    """A service whose model's approval was checked, before Ray is touched."""

    application: Application
    label: str
    """What is served, for people."""
    policy: Policy
    version: ModelVersion | None
    """None before an upstream server."""


def plan_service(config: ServiceConfig) -> Plan:
    """Check what may be served; raises NotApproved with the reason, ConfigError, or ModelError for changed files.

    Not approved is also what the audit log, which has the last word, says otherwise of than the store.
    """
    policy = load_policy(config.policy)
    url = absolute(config.store or default_url())
    with open_store(url) as store:
        if config.upstream is None:
            case = approved_case(store, _registered(config))
            version, granted = case.version, case.capabilities
            Registry(store).check_files(version)
            approved_guards = _bound_guards(case, policy)
            name, label, model = config.name or version.name, version.label, _replica(config, version)
            names = (version.name, version.label, version.digest)
        else:
            # what nobody has reviewed writes, and calls no tools, unless the operator answers for it
            granted = (
                Capabilities.load(config.upstream_capabilities) if config.upstream_capabilities else Capabilities()
            )
            version, names, approved_guards = None, (), None
            name, model = _upstream_name(store, config), _upstream(config)
            label = f"{config.upstream_model} at {config.upstream}"
        killed = why_killed(store, {name, *names})
    if killed is not None:
        raise NotApproved(f"'{name}' may not be served: {killed}; `raysafe restore` opens it again")
    application = re.sub(r"[^\w-]+", "-", name)
    gateway = GatewaySettings(
        model=name,
        version=version and version.label,
        policy=policy,
        policy_file=config.policy and str(Path(config.policy).absolute()),
        granted=granted,
        trusted=_trusted(config),
        approved_guards=approved_guards,
        answer_tokens=config.max_tokens,
        request_timeout_s=config.request_timeout_s,
        python_tool=_python_tool(config),
    )
    parts = {"observe_s": config.observe_s, "dashboard": config.dashboard, "python_tool": gateway.python_tool}
    room = partial(open_room, url, application, name, names, **parts)
    return Plan(Application(application, gateway, model, room), label, policy, version)


def _registered(config: ServiceConfig) -> str:
    """The model that is named; raises ConfigError where none is, or where settings of an upstream have no effect."""
    if config.model is None:
        raise ConfigError("what should be served? Name a registered model, or give --upstream with a server's base URL")
    for field in ("upstream_model", "upstream_key_env", "upstream_capabilities", "unreviewed_upstream"):
        if getattr(config, field):
            raise ConfigError(f"{field} has no effect without upstream: leave it out, or give the server's base URL")
    return config.model


def _bound_guards(case: SafetyCase, policy: Policy) -> str | None:
    """Digest of the only policy of guards that the approval is for, None where it is for any; raises NotApproved."""
    if case.decision is None:
        return None
    check_terms(case.version.label, case.decision.terms, policy)
    return case.decision.terms.guards


def _replica(config: ServiceConfig, version: ModelVersion) -> ReplicaSettings:
    template = config.chat_template
    return ReplicaSettings(
        folder=version.path,
        digest=version.digest,
        chat_template=template if template in ("auto", "plain") else str(Path(template).absolute()),
        max_tokens=config.max_tokens,
    )


def _upstream(config: ServiceConfig) -> UpstreamSettings:
    """The server to stand before; raises ConfigError where something is missing, or wasn't said."""
    from raysafe.serving.upstream import UpstreamSettings

    if config.model is not None:
        raise ConfigError(f"either a registered model or an upstream is served: leave out '{config.model}' or upstream")
    if config.upstream_model is None:
        raise ConfigError("upstream needs upstream_model: the name by which that server knows its model")
    if not config.unreviewed_upstream:
        raise ConfigError(
            f"no safety case speaks for what answers at {config.upstream}: it may be another model tomorrow. Give "
            "unreviewed_upstream to serve it all the same; the audit log keeps that"
        )
    return UpstreamSettings(
        base_url=config.upstream or "", model=config.upstream_model, api_key_env=config.upstream_key_env
    )


def _upstream_name(store: Store, config: ServiceConfig) -> str:
    """The name that clients ask for; raises ConfigError where there is none, or it is a registered model's."""
    if config.name is None:
        raise ConfigError("upstream needs name: what clients ask for, and `raysafe kill` takes")
    version = Registry(store).find(config.name)
    if version is not None:
        raise ConfigError(
            f"'{config.name}' is the registered model {version.label}, and an upstream is not that: give another name"
        )
    return config.name


def _python_tool(config: ServiceConfig) -> PythonToolSettings | None:
    """The tool that the model may call; raises ConfigError, or SandboxUnavailable where there is no isolation here."""
    if not config.python_tool:
        for field in ("sandbox_policy", "python_calls"):
            if getattr(config, field) != ServiceConfig.model_fields[field].default:
                raise ConfigError(f"{field} has no effect without python_tool: leave it out, or give python_tool")
        return None
    policy = SandboxPolicy.load(config.sandbox_policy) if config.sandbox_policy else SandboxPolicy()
    check_isolation(policy)
    return PythonToolSettings(policy=policy, calls=config.python_calls)


def _trusted(config: ServiceConfig) -> TrustedConfig | None:
    """The trusted model's settings; a folder or file by its whole path, for gateways run elsewhere."""
    if config.trusted is None:
        return None
    local = Path(config.trusted)
    return TrustedConfig.parse({"model": str(local.absolute()) if local.exists() else config.trusted}, "trusted")


def open_room(
    url: str,
    application: str,
    name: str,
    names: tuple[str, ...],
    *,
    observe_s: float,
    dashboard: bool = False,
    python_tool: PythonToolSettings | None = None,
) -> ControlRoom:
    """A gateway's, all of it over one store; names: others by which a kill order reaches the service `name`."""
    folder = audit_folder(url)
    audit = AuditLog(folder, writer=f"gateway-{application}", unique=True)
    plane = ControlPlane(url, name, names=names)
    return ControlRoom(
        audit,
        plane,
        Budgets(url),
        Holds(Store(url, wait_s=WAIT_S)),
        Recorder(url, name, window_s=observe_s),
        # of its own: what people look at waits longer than what requests wait for, and in no request's way
        Records(Store(url, wait_s=PEOPLE_WAIT_S), folder) if dashboard else None,
        None if python_tool is None else Pool(python_tool.policy, python_tool.ready),
    )


def start_service(config: ServiceConfig) -> Service:
    """Check what may be served, then serve it; raises NotApproved with the reason before Ray is touched."""
    plan = plan_service(config)
    url = absolute(config.store or default_url())
    beside = _beside(config, plan, url)
    acknowledge(config, plan)
    with open_store(url) as store:
        keys = KeyStore(store)
        made = keys.make(config.new_key) if config.new_key is not None else keys.make_first()
    try:
        deployment = deploy(plan.application, config)
    except BaseException:
        if made:
            # a key whose secret was never shown opens nothing and would look like the first start's
            with suppress(Exception), open_store(url) as store:  # the first error is the one to tell
                KeyStore(store).forget(made[0].id)
        raise
    beside.start()
    secret = made[1] if made else None
    return Service(deployment, plan, secret, dashboard=config.dashboard, beside=beside)


def _beside(config: ServiceConfig, plan: Plan, url: str) -> Beside:
    version, gateway = plan.version, plan.application.gateway
    names = frozenset({gateway.model, version.name, version.label, version.digest} if version else {gateway.model})

    def application_of(label: str) -> Application:
        return plan_service(config.model_copy(update={"model": label})).application

    return Beside(url, version and version.label, names, application_of, config.monitor)


def acknowledge(config: ServiceConfig, plan: Plan) -> None:
    """Keep in the audit log who serves an upstream that nobody has reviewed; nothing to keep for an approved model."""
    if config.upstream is None:
        return
    url = absolute(config.store or default_url())
    details = {"upstream": config.upstream, "upstream_model": config.upstream_model, "policy": plan.policy.name}
    granted = plan.application.gateway.granted
    details["capabilities"] = granted.model_dump(mode="json") if granted else None
    with AuditLog(audit_folder(url), writer="service", unique=True) as audit:
        audit.append("unreviewed upstream served", person(), plan.application.gateway.model, details)


def absolute(store_url: str) -> str:
    """The URL for a process with another working directory."""
    path = store_url.removeprefix("sqlite:///")
    return store_url if path == store_url else f"sqlite:///{Path(path).absolute()}"
