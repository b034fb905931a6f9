"""The edge to Ray Serve: gateway and model as one application behind Serve's proxy. Nothing else here knows of Serve.

Serve's own proxy is used, not its HAProxy mode, which answers faster but opens its metrics and statistics ports on all
interfaces, whatever host it is given (Ray 2.60).
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError, ResourceError
from raysafe.runtime.cluster import Needs, connect
from raysafe.serving.gateway import GatewaySettings, create_app
from raysafe.serving.ledger import AuditWriter
from raysafe.serving.replicas import HandleBackend, ModelReplica, ReplicaSettings

READY_TIMEOUT_S = 30.0
_REPLICA = "model"


class Placement(Config):
    """Where a service listens and what its model's replicas get."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 opens it to the network."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    replicas: int = Field(default=1, ge=1, description="Copies of the model.")
    cpus: float = Field(default=1, gt=0, description="CPUs of each copy.")
    gpus: float = Field(default=0, ge=0, description="GPUs of each copy.")
    address: str | None = Field(default=None, description="Ray cluster to join; a local Ray is started by default.")


class Deployment:
    """A running application. `stop` takes down what `deploy` started, and nothing else."""

    def __init__(self, name: str, url: str, owns_ray: bool, owns_serve: bool) -> None:
        self.name, self.url = name, url
        self._owns_ray, self._owns_serve = owns_ray, owns_serve

    @property
    def running(self) -> bool:
        """Whether Serve still says so."""
        from ray import serve

        application = serve.status().applications.get(self.name)
        return application is not None and application.status == "RUNNING"

    def stop(self) -> None:
        import ray
        from ray import serve

        if self._owns_serve:
            serve.shutdown()
        else:
            serve.delete(self.name)
        if self._owns_ray:
            ray.shutdown()


def deploy(
    name: str,
    gateway: GatewaySettings,
    model: ReplicaSettings,
    placement: Placement,
    open_audit: Callable[[], AuditWriter],
) -> Deployment:
    """Start the application and wait until it answers; raises ResourceError or ConfigError with one sentence.

    open_audit is called in the gateway's own process.
    """
    import ray
    from ray import serve

    owns_ray = not ray.is_initialized()
    connect(placement.address, needs=Needs(workers=placement.replicas, cpus=placement.cpus, gpus=placement.gpus))
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    started: Deployment | None = None
    try:
        owns_serve = not _serve_runs()
        port = placement.port or _free_port(placement.host)
        if owns_serve:
            _check_port(placement.host, port)
            options = {"host": placement.host, "port": port, "request_timeout_s": None}
            serve.start(proxy_location="HeadOnly", http_options=options)
        elif name in serve.status().applications:
            raise ConfigError(f"a service called '{name}' is running already: stop it, or give this one another --name")
        shown = "127.0.0.1" if placement.host in ("0.0.0.0", "::") else placement.host
        started = Deployment(name, f"http://{f'[{shown}]' if ':' in shown else shown}:{port}", owns_ray, owns_serve)
        serve.run(make_application(name, gateway, model, placement, open_audit), name=name, route_prefix="/")
        _wait_until_it_answers(started.url, gateway.model)
    except BaseException as error:
        failed = isinstance(error, RuntimeError | ValueError)
        reason = _why(name, error) if failed else ""
        with suppress(Exception):  # the first error is the one to tell
            if started is not None:
                started.stop()
            elif owns_ray:
                ray.shutdown()
        if failed:
            raise ResourceError(f"the service '{name}' didn't start: {reason}") from error
        raise
    return started


def make_application(
    name: str,
    gateway: GatewaySettings,
    model: ReplicaSettings,
    placement: Placement,
    open_audit: Callable[[], AuditWriter],
) -> Any:
    """Gateway -> model. The gateway's app is built in its own process: metrics, buckets and audit log live there."""
    from ray import serve

    def build_app() -> Any:
        handle = serve.get_deployment_handle(_REPLICA, app_name=name)
        return create_app(gateway, HandleBackend(handle), open_audit())

    replica = serve.deployment(ModelReplica).options(
        name=_REPLICA,
        num_replicas=placement.replicas,
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": placement.cpus, "num_gpus": placement.gpus},
        graceful_shutdown_timeout_s=5,
    )
    # one gateway: rate limits and the audit chain are a process's own. It waits more than it works, so it asks no CPU
    front = serve.deployment(serve.ingress(build_app)()).options(
        name="gateway",
        num_replicas=1,
        max_ongoing_requests=256,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=5,
    )
    return front.bind(replica.bind(model))


def _serve_runs() -> bool:
    """Whether this cluster has a Serve instance already."""
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _check_port(host: str, port: int) -> None:
    """Raise ResourceError where the port is taken: Serve shares ports, and would not notice."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"can't listen on {host}:{port} ({error.strerror}): give another --host or --port"
            ) from None


def _wait_until_it_answers(url: str, model: str) -> None:
    """Until /healthz names the model; raises ResourceError, for instance where Serve runs at another address."""
    deadline, found = time.monotonic() + READY_TIMEOUT_S, "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/healthz", timeout=5)
            if answer.status_code == 200 and answer.json().get("model") == model:
                return
            found = f"status {answer.status_code}"
        except (httpx.HTTPError, ValueError) as error:
            found = type(error).__name__
        time.sleep(0.1)
    raise ResourceError(
        f"the service doesn't answer at {url} ({found}): if Serve runs on this cluster already, give its host and port"
    )


def _why(name: str, error: BaseException) -> str:
    """The last line of a failed replica's message, which is its error; Serve's own error says less."""
    from ray import serve

    messages = [str(error)]
    with suppress(Exception):  # Serve may not have come up at all
        application = serve.status().applications.get(name)
        messages += [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else type(error).__name__)
