"""What a sandbox with domains reaches: the filtering proxy by the environment's variables, and nothing past it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raysafe.control.sandbox.policy import Policy
from raysafe.control.sandbox.result import Result
from raysafe.control.sandbox.running import run
from raysafe.errors import ConfigError
from tests.control.sandbox.proxy.world import World

pytestmark = pytest.mark.usefixtures("isolation")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    yield made
    made.close()


def policy(world: World, **more: object) -> Policy:
    network = {
        "addresses": ("127.0.0.0/8", "::1/128"),
        "tls_ports": (world.tls_port,),
        "http_ports": (world.http_port,),
        **more,
    }
    # the one name that every system's resolver leads to loopback
    return Policy(domains=("localhost",), wall_seconds=20, memory_bytes=256 << 20, network=network)  # type: ignore[arg-type]


CODE = """
import json, os, socket, ssl, urllib.request

def tried(work):
    try:
        return work()
    except OSError as error:
        return type(error).__name__ + ": " + str(error)

def get(url):
    trusted = ssl.create_default_context(cafile="ca.pem") if url.startswith("https") else None
    return urllib.request.urlopen(url, timeout=10, context=trusted).read().decode()

def direct(kind, address):
    with socket.socket(kind, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        one.connect(address)

def raw(text):
    with socket.create_connection(("127.0.0.1", 3128)) as one:
        one.sendall(text)
        return one.recv(4096).decode()

HTTP, TLS = {http}, {tls}
print(json.dumps({{
    "allowed": tried(lambda: get("http://localhost:%d/here" % HTTP)),
    "secure": tried(lambda: get("https://localhost:%d/there" % TLS)),
    "other": tried(lambda: get("http://example.org/")),
    "direct": tried(lambda: direct(socket.AF_INET, ("127.0.0.1", HTTP))),
    "out": tried(lambda: direct(socket.AF_INET, ("93.184.216.34", 80))),
    "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("9.9.9.9", 53))),
    "v6": tried(lambda: socket.socket(socket.AF_INET6)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "name": tried(lambda: socket.getaddrinfo("example.org", 80)),
    "raw": tried(lambda: raw(b"CONNECT 127.0.0.1:22 HTTP/1.1\\r\\n\\r\\n")),
    "replaced": tried(lambda: os.rename("/run/raysafe-proxy", "/tmp/sandbox/x")),
}}))
"""


@pytest.fixture(scope="module")
def ran(world: World) -> Result:
    files = {"ca.pem": world.certificate.read_bytes()}
    return run(CODE.format(http=world.http_port, tls=world.tls_port), policy(world), files)


@pytest.fixture(scope="module")
def found(ran: Result) -> dict[str, str]:
    import json

    assert ran.exit_code == 0, ran.stderr
    return json.loads(ran.stdout)


def test_an_allowed_domain_is_reached(found: dict[str, str]) -> None:
    assert (found["allowed"], found["secure"]) == ("GET /here ", "GET /there ")


@pytest.mark.parametrize("name", ["other", "raw"])
def test_another_is_refused_by_the_proxy(found: dict[str, str], name: str) -> None:
    assert "403" in found[name]


@pytest.mark.parametrize("name", ["direct", "out", "udp", "v6", "unix", "netlink", "name", "replaced"])
def test_nothing_leads_past_the_proxy(found: dict[str, str], name: str) -> None:
    assert "Error" in found[name] or "error" in found[name]


def test_what_was_asked_is_in_the_result(ran: Result, world: World) -> None:
    allowed, secure, other, raw = ran.usage.network
    assert (allowed.host, allowed.port, allowed.verdict) == ("localhost", world.http_port, "allowed")
    assert allowed.received_bytes > 0
    assert (secure.method, secure.port, secure.verdict) == ("CONNECT", world.tls_port, "allowed")
    assert other.host == "example.org" and "not one of the allowed domains" in other.verdict
    assert "no name" in raw.verdict


def test_without_domains_there_is_no_network_and_no_proxy() -> None:
    code = "import os, socket\nprint(os.path.exists('/run/raysafe-proxy'), os.environ.get('https_proxy'))\n"
    code += "try:\n    socket.socket(socket.AF_INET)\nexcept OSError as error:\n    print(error.errno)"
    result = run(code, Policy(wall_seconds=20, memory_bytes=256 << 20))
    assert result.stdout.split() == ["False", "None", "13"] and result.usage.network == ()


def test_the_forwarder_takes_no_process_of_the_policy_s(world: World) -> None:
    code = "import os\nfor at in range(2):\n    if os.fork() == 0:\n        import time; time.sleep(5)\nprint('ok')"
    limited = policy(world).model_copy(update={"pids": 3})
    assert run(code, limited).stdout == "ok\n"


def test_the_bandwidth_binds_in_the_sandbox(world: World) -> None:
    code = (
        "import time, urllib.request\nbegan = time.monotonic()\n"
        f"size = len(urllib.request.urlopen('http://localhost:{world.http_port}/200000').read())\n"
        "print(size, time.monotonic() - began)"
    )
    slow = policy(world, burst_bytes=20_000).model_copy(update={"bandwidth_bytes_per_s": 400_000})
    size, seconds = run(code, slow).stdout.split()
    assert size == "200000" and float(seconds) >= (200_000 - 20_000) / 400_000


def test_a_domain_is_a_name() -> None:
    with pytest.raises(ConfigError, match="domains"):
        Policy(domains=("10.0.0.1",))
