"""The guarded service as a Ray Serve application: what a RayService's `import_path` names.

It builds what `raysafe serve` starts, from the same settings and after the same checks. Where it listens is Serve's
affair there, and keys are made beforehand: nobody would see a secret that is made on a cluster.
"""

from __future__ import annotations

from typing import Any

from raysafe.errors import ConfigError
from raysafe.serving.deploy import make_application
from raysafe.serving.service import ServiceConfig, key_file, plan_service

_ELSEWHERE = {"host": "http_options", "port": "http_options", "address": "the RayService", "new_key": "`raysafe serve`"}


def application(args: dict[str, Any]) -> Any:
    """args: fields of ServiceConfig; the Serve application must bear the service's `name`.

    Raises ConfigError for what has no effect here or where there is no key, NotApproved and ModelError as
    `raysafe serve` does.
    """
    for field in sorted(_ELSEWHERE.keys() & args.keys()):
        raise ConfigError(
            f"{field} has no effect in a RayService's args: leave it out; it belongs to {_ELSEWHERE[field]}"
        )
    config = ServiceConfig.parse(args, "serveConfigV2: args")
    keys = key_file(config)
    known = tuple(keys.read())
    if not known:
        raise ConfigError(f"{keys.path} holds no API key: make one first, as cluster/README.md says")
    plan = plan_service(config, known)
    return make_application(plan.application, plan.gateway, plan.replica, config, plan.open_audit)
