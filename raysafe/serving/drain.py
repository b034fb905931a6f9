"""Ending a service without losing what it has begun: the gateways first, each when its last answer is out."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from raysafe.errors import ResourceError

_POLL_S = 0.2
_NAMESPACE, _PREFIX = "serve", "SERVE_REPLICA::"


def replicas(application: str) -> list[str]:
    """Names of the actors that stand for a Serve application, those that are ending included."""
    import ray

    # with all namespaces each is a mapping, whatever Ray's annotation says
    actors = cast("list[Any]", ray.util.list_named_actors(all_namespaces=True))
    found: list[str] = [actor["name"] for actor in actors if actor["namespace"] == _NAMESPACE]
    return [name for name in found if name.startswith(f"{_PREFIX}{application}#")]


def under_way(application: str) -> int:
    """Requests that its replicas work on now."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    count = 0
    for name in replicas(application):
        try:
            replica: Any = ray.get_actor(name, namespace=_NAMESPACE)
            count += cast(int, ray.get(replica.get_num_ongoing_requests.remote(), timeout=2))
        except (ValueError, RayError, GetTimeoutError):
            # it ended meanwhile
            continue
    return count


def drain(application: str, longest_s: float, told: Callable[[int], None] | None = None) -> None:
    """Take a Serve application down; returns when its replicas are gone, each after its last request.

    told: called with the number of requests under way, now and then. Raises ResourceError after `longest_s`, which is
    more than Serve itself gives a replica.
    """
    from ray import serve

    serve.delete(application, _blocking=False)
    deadline = time.monotonic() + longest_s
    while application in serve.status().applications:
        if time.monotonic() > deadline:
            raise ResourceError(f"the service '{application}' didn't end within {longest_s:.0f} s; Ray's logs say why")
        if told is not None:
            told(under_way(application))
        time.sleep(_POLL_S)


def kill(application: str) -> None:
    """End a Serve application's replicas at once, whatever they work on."""
    import ray

    for name in replicas(application):
        try:
            ray.kill(ray.get_actor(name, namespace=_NAMESPACE), no_restart=True)
        except ValueError:
            continue
