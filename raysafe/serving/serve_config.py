"""The guarded service as `serve deploy` and a RayService take it: a Serve config, and the builders that it names.

They build what `raysafe serve` starts, from the same settings and after the same checks. Where it listens is Serve's
affair there, and keys are made beforehand: nobody would see a secret that is made on a cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from raysafe.control.key_store import KeyStore
from raysafe.errors import ConfigError, StorageError
from raysafe.records.store import default_url, open_store
from raysafe.serving.application import QUIET, gateway_application, model_application
from raysafe.serving.ingress import choose
from raysafe.serving.service import Plan, ServiceConfig, absolute, acknowledge, plan_service

_ELSEWHERE = {
    "host": "http_options",
    "port": "http_options",
    "way_in": "controller_options",
    "address": "the cluster",
    "new_key": "`raysafe keys make`",
    "monitor": "`raysafe monitor run`",
}
_PATHS = ("policy", "chat_template", "sandbox_policy", "upstream_capabilities")
_GATEWAYS_OWN = (
    "policy",
    "gateways",
    "max_gateways",
    "python_tool",
    "sandbox_policy",
    "python_calls",
    "dashboard",
    "trusted",
    "observe_s",
)


def gateway(args: dict[str, Any]) -> Any:
    """The gateways. args: fields of ServiceConfig; the Serve application must bear the service's `name`.

    Raises ConfigError for what has no effect here or where there is no key, NotApproved and ModelError as
    `raysafe serve` does.
    """
    config = _parse(args)
    plan = plan_service(config)
    _check_keys(config)
    acknowledge(config, plan)
    return gateway_application(plan.application, config)


def model(args: dict[str, Any]) -> Any:
    """The model's replicas, of the same args; the Serve application is called as the gateways', with -model behind."""
    config = _parse(args)
    plan = plan_service(config)
    if plan.application.model_name is None:
        raise ConfigError("an upstream has no model to start here: leave the application with import_path :model out")
    return model_application(plan.application, config)


def _parse(args: dict[str, Any]) -> ServiceConfig:
    for field in sorted(_ELSEWHERE.keys() & args.keys()):
        raise ConfigError(
            f"{field} has no effect in a Serve application's args: leave it out; it belongs to {_ELSEWHERE[field]}"
        )
    return ServiceConfig.parse(args, "the Serve application's args")


def _check_keys(config: ServiceConfig) -> None:
    url = absolute(config.store or default_url())
    with open_store(url) as store:
        if not KeyStore(store).live():
            raise ConfigError("the store holds no API key that opens: make one with `raysafe keys make NAME` first")


def serve_config(config: ServiceConfig, plan: Plan) -> dict[str, Any]:
    """What `serve deploy` takes, for a cluster that sees this machine's store, model and policy by the same paths."""
    if config.port == 0:
        raise ConfigError("port 0 takes a free port, and a config that is written down needs one: give --port")
    args = config.model_dump(mode="json", exclude_defaults=True, include=set(ServiceConfig.model_fields))
    args = {name: value for name, value in args.items() if name not in _ELSEWHERE}
    args |= {"name": plan.application.gateway.model, "store": absolute(config.store or default_url())}
    if plan.version is not None:
        # this version, and not what its name stands for when the cluster starts
        args["model"] = plan.version.label
    if config.trusted is not None and Path(config.trusted).exists():
        args["trusted"] = str(Path(config.trusted).absolute())
    for name in _PATHS:
        if args.get(name) not in (None, "auto", "plain"):
            args[name] = str(Path(args[name]).absolute())
    applications = [_application(plan.application.name, "/", "gateway", args)]
    if plan.application.model_name is not None:
        # Serve starts anew what has other args: what only the gateways go by must not load the model again
        behind = {name: value for name, value in args.items() if name not in _GATEWAYS_OWN}
        applications.insert(0, _application(plan.application.model_name, None, "model", behind))
    options: dict[str, Any] = {
        "proxy_location": "HeadOnly",
        "http_options": {
            "host": config.host,
            "port": config.port,
            "request_timeout_s": plan.application.longest_s,
        },
        "logging_config": dict(QUIET),
    }
    limits = plan.application.gateway
    environment = choose(config.way_in, plan.application.longest_s, body_s=limits.body_timeout_s).environment
    options["controller_options"] = {"runtime_env": {"env_vars": dict(environment)}}
    return options | {"applications": applications}


def _application(name: str, route: str | None, builder: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "route_prefix": route, "import_path": f"{__name__}:{builder}", "args": dict(args)}


def write_config(config: ServiceConfig, path: Path) -> None:
    """Write the Serve config of an approved model's service; raises NotApproved, ModelError, ConfigError, StorageError.

    Raises before anything is written where the service could not be started, for want of a key for instance.
    """
    plan = plan_service(config)
    _check_keys(config)
    text = yaml.safe_dump(serve_config(config, plan), sort_keys=False, allow_unicode=True)
    header = f"# {plan.label} as '{plan.application.gateway.model}': serve deploy {path.name}\n"
    try:
        path.write_text(header + text)
    except OSError as error:
        raise StorageError(f"can't write the Serve config to {path}: {error.strerror}") from None
