"""The edge to Ray Serve: a service is started, watched, drained and taken down here."""

from __future__ import annotations

import logging
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

from raysafe.errors import ConfigError, ResourceError
from raysafe.runtime.cluster import Needs, connect
from raysafe.serving.application import QUIET, Application, Placement, gateway_application, model_application
from raysafe.serving.drain import drain, kill
from raysafe.serving.ingress import DEREGISTER_S, Ingress, choose, state_folder

if TYPE_CHECKING:
    from ray.serve import RunTarget

READY_TIMEOUT_S = 30.0
_KEPT_UP = ("RUNNING", "DEPLOYING", "UNHEALTHY")


class Deployment:
    """A running service. `drain` lets its requests end; `stop` takes down what `deploy` started, and nothing else."""

    def __init__(
        self,
        application: Application,
        placement: Placement,
        url: str,
        ingress: Ingress | None,
        owns_ray: bool,
        owns_serve: bool,
    ) -> None:
        self.name, self.url, self.ingress = application.name, url, ingress
        self._application, self._placement = application, placement
        self._owns_ray, self._owns_serve = owns_ray, owns_serve

    @property
    def running(self) -> bool:
        """Whether Serve still keeps gateways and model up: what died among them is replaced."""
        from ray import serve

        found = serve.status().applications
        return all(name in found and found[name].status in _KEPT_UP for name in self._names())

    def drain(self, told: Callable[[int], None] | None = None) -> None:
        """Admit nothing more and let what is under way end; told: called with the number of requests, now and then.

        The model goes after the gateways: what they have admitted may not have reached it yet.
        """
        for name in self._names():
            drain(name, self._application.longest_s + DEREGISTER_S + 30.0, told if name == self.name else None)

    def replace(self, application: Application) -> None:
        """Serve another version under the same name; returns once it answers. Raises ResourceError.

        The model is replaced before the gateways: a new gateway must never ask the version before.
        """
        from ray import serve

        assert application.name == self.name
        try:
            for target in reversed(targets(application, self._placement)):
                serve.run_many([target])
        except (RuntimeError, ValueError) as error:
            raise ResourceError(
                f"the service '{self.name}' couldn't be replaced: {_why(application, error)}"
            ) from error
        self._application = application

    def stop(self, now: bool = False) -> None:
        """Drain, then take down; `now`: without draining."""
        import ray
        from ray import serve

        if not now:
            self.drain()
        for name in self._names():
            if now:
                kill(name)
                serve.delete(name, _blocking=False)
        if self._owns_serve:
            node = ray.get_runtime_context().get_node_id()
            serve.shutdown()
            shutil.rmtree(state_folder() / node, ignore_errors=True)
        if self._owns_ray:
            ray.shutdown()

    def _names(self) -> list[str]:
        model = self._application.model_name
        return [self.name, *([model] if model else [])]


def deploy(application: Application, placement: Placement) -> Deployment:
    """Start the service and wait until it answers; raises ResourceError or ConfigError with one sentence."""
    import ray
    from ray import serve

    name = application.name
    owns_ray = not ray.is_initialized()
    needs = Needs(workers=placement.replicas, cpus=placement.cpus, gpus=placement.gpus)
    connect(placement.address, needs=needs if application.model_name else None)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    started: Deployment | None = None
    try:
        owns_serve = not _serve_runs()
        port = placement.port or _free_port(placement.host)
        ingress = None
        if owns_serve:
            _check_port(placement.host, port)
            ingress = _start_serve(application, placement, port)
        elif name in serve.status().applications:
            raise ConfigError(f"a service called '{name}' is running already: stop it, or give this one another --name")
        shown = "127.0.0.1" if placement.host in ("0.0.0.0", "::") else placement.host
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
        started = Deployment(application, placement, url, ingress, owns_ray, owns_serve)
        serve.run_many(targets(application, placement))
        _wait_until_it_answers(started.url, application.gateway.model)
    except BaseException as error:
        failed = isinstance(error, RuntimeError | ValueError)
        reason = _why(application, error) if failed else ""
        with suppress(Exception):  # the first error is the one to tell
            if started is not None:
                started.stop(now=True)
            elif owns_ray:
                ray.shutdown()
        if failed:
            raise ResourceError(f"the service '{name}' didn't start: {reason}") from error
        raise
    return started


def targets(application: Application, placement: Placement) -> list[RunTarget]:
    """The service's Serve applications, for serve.run_many."""
    from ray.serve import RunTarget

    found = [RunTarget(gateway_application(application, placement), name=application.name, route_prefix="/")]
    if application.model_name is not None:
        model = model_application(application, placement)
        found.append(RunTarget(model, name=application.model_name, route_prefix=None))
    return found


def _start_serve(application: Application, placement: Placement, port: int) -> Ingress:
    """Start Serve with the way in that the placement asks for."""
    from ray import serve

    ingress = choose(
        placement.way_in,
        application.longest_s,
        body_s=application.gateway.body_timeout_s,
        head_is_here=_head_is_here(),
        fallback_port=_free_port("127.0.0.1"),
    )
    serve.start(
        proxy_location="HeadOnly",
        # no gateway takes this long: it ends what waits for one that doesn't come
        http_options={"host": placement.host, "port": port, "request_timeout_s": application.longest_s},
        logging_config=QUIET,
        controller_options={"runtime_env": {"env_vars": dict(ingress.environment)}},
    )
    return ingress


def _head_is_here() -> bool:
    """Whether the node that this process has joined is the cluster's head."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    return any(node["NodeID"] == here and "node:__internal_head__" in node["Resources"] for node in ray.nodes())


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


def _why(application: Application, error: BaseException) -> str:
    """The last line of a failed replica's message, which is its error; Serve's own error says less."""
    from ray import serve

    messages = [str(error)]
    with suppress(Exception):  # Serve may not have come up at all
        found = serve.status().applications
        for name in (application.model_name, application.name):
            if name in found:
                messages += [deployment.message for deployment in found[name].deployments.values()]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else type(error).__name__)
