"""A guarded service as Ray Serve runs it: two applications, gateways in front and the model's replicas behind.

Two, and not one: the gateways are taken down or replaced while the model still stands, so that what they have under
way ends; and a new policy doesn't load the model anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.gateway import Gateway
from raysafe.serving.ingress import DEREGISTER_S, GATEWAY_ENVIRONMENT, WayIn
from raysafe.serving.replicas import ModelReplica, ReplicaSettings
from raysafe.serving.settings import GatewaySettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from raysafe.serving.upstream import UpstreamSettings

GATEWAY, REPLICA = "gateway", "model"
_MODEL_ENVIRONMENT = {
    # nothing but the gateways' calls reaches a model: with its application's own port, HTTP would
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
    "RAY_SERVE_ENABLE_HA_PROXY": "0",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "0",
}
QUIET: dict[str, Any] = {"log_level": "WARNING", "enable_access_log": False}
"""What Serve's actors log: not each request."""
_KEPT: dict[str, Any] = {
    "health_check_period_s": 2.0,
    "health_check_timeout_s": 30.0,
    "graceful_shutdown_wait_loop_s": 0.2,
    "logging_config": QUIET,
}
"""How soon Serve replaces what died: at its own 10 s, a killed model is away for ten seconds more."""
_BESIDE = 64
"""Health checks and metrics beside the requests that a gateway counts."""


class Placement(Config):
    """Where a service listens, how requests come in, and what its gateways and its model's replicas get."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 opens it to the network."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    way_in: WayIn = Field(
        default="auto",
        description="haproxy (HAProxy before the gateways' own ports), serve (Ray Serve's own proxy, slower), or auto: "
        "HAProxy where it is installed.",
    )
    gateways: int = Field(
        default=1,
        ge=1,
        description="Gateways side by side. Rate guards count in each by itself; budgets count across all of them.",
    )
    max_gateways: int | None = Field(
        default=None, ge=1, description="Gateways under load: Serve adds some to `gateways` up to this, and takes them."
    )
    replicas: int = Field(default=1, ge=1, description="Copies of the model.")
    cpus: float = Field(default=1, gt=0, description="CPUs of each copy.")
    gpus: float = Field(default=0, ge=0, description="GPUs of each copy.")
    address: str | None = Field(default=None, description="Ray cluster to join; a local Ray is started by default.")

    def model_post_init(self, context: Any, /) -> None:
        if self.max_gateways is not None and self.max_gateways < self.gateways:
            raise ConfigError(
                f"max_gateways must be at least gateways ({self.gateways}), got {self.max_gateways}: raise it, or "
                "leave it out for a fixed number"
            )


@dataclass(frozen=True)
class Application:
    """What a service is made of. `open_room` is called in each gateway's own process."""

    name: str
    gateway: GatewaySettings
    model: ReplicaSettings | UpstreamSettings
    open_room: Callable[[], ControlRoom]

    @property
    def model_name(self) -> str | None:
        """Name of the model's own Serve application; None where the model is elsewhere."""
        return f"{self.name}-model" if isinstance(self.model, ReplicaSettings) else None

    @property
    def longest_s(self) -> float:
        """A request from its first byte to its answer's last, guards included: what draining waits for."""
        return self.gateway.body_timeout_s + self.gateway.request_timeout_s + 30.0


def model_application(application: Application, placement: Placement) -> Any:
    """The model's replicas, under the name `application.model_name` and without a route."""
    from ray import serve

    settings = application.model
    assert isinstance(settings, ReplicaSettings)
    replica = serve.deployment(ModelReplica).options(
        name=REPLICA,
        num_replicas=placement.replicas,
        # the replica's own bound answers that it is full, not Serve's queue, which would wait
        max_ongoing_requests=settings.max_batch + settings.max_waiting + _BESIDE,
        ray_actor_options={
            "num_cpus": placement.cpus,
            "num_gpus": placement.gpus,
            "runtime_env": {"env_vars": _MODEL_ENVIRONMENT},
        },
        graceful_shutdown_timeout_s=application.gateway.request_timeout_s + 5,
        **_KEPT,
    )
    return replica.bind(settings)


def gateway_application(application: Application, placement: Placement) -> Any:
    """The gateways. Each builds its app in its own process: metrics, rate limits and audit chain live there."""
    from ray import serve

    scale: dict[str, Any] = {"num_replicas": placement.gateways}
    if placement.max_gateways is not None:
        scale = {
            "num_replicas": "auto",
            "autoscaling_config": {
                "min_replicas": placement.gateways,
                "max_replicas": placement.max_gateways,
                "target_ongoing_requests": application.gateway.max_requests / 8,
            },
        }

    def build_app() -> FastAPI:
        return gateway_app(application)

    # a gateway waits more than it works, so it asks no CPU
    front = serve.deployment(serve.ingress(build_app)()).options(
        name=GATEWAY,
        max_ongoing_requests=application.gateway.max_requests + _BESIDE,
        ray_actor_options={"num_cpus": 0, "runtime_env": {"env_vars": GATEWAY_ENVIRONMENT}},
        graceful_shutdown_timeout_s=application.longest_s + DEREGISTER_S + 5,
        # a new gateway stands before the old one goes; of models there may be no room for two
        max_surge_percent=100,
        **_KEPT,
        **scale,
    )
    return front.bind()


def gateway_app(application: Application) -> FastAPI:
    """One gateway, in the process that calls this, before the model's replicas or the upstream server."""
    if application.model_name is not None:
        from ray import serve

        from raysafe.serving.handle import HandleBackend

        handle = serve.get_deployment_handle(REPLICA, app_name=application.model_name)
        return Gateway(application.gateway, HandleBackend(handle), application.open_room()).app()
    from raysafe.serving.upstream import UpstreamBackend, UpstreamSettings

    assert isinstance(application.model, UpstreamSettings)
    backend = UpstreamBackend(application.model)
    app = Gateway(application.gateway, backend, application.open_room()).app()
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with inner(app) as state:
            yield state
        await backend.close()

    app.router.lifespan_context = lifespan
    return app
