"""The filtering proxy before servers on loopback: what passes, and what doesn't."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raysafe.control.sandbox.inside import forwarder
from raysafe.control.sandbox.proxy.server import Proxy
from tests.control.sandbox.proxy.world import NAME, OTHER, World, connect, hello, read_all, say


def get(world: World, path: str = "/x", host: str = NAME, method: str = "GET", more: str = "") -> bytes:
    head = f"{method} http://{host}:{world.http_port}{path} HTTP/1.1\r\nHost: {host}:{world.http_port}\r\n{more}\r\n"
    return head.encode()


def tunnel(world: World, host: str = NAME, port: int | None = None) -> bytes:
    port = world.tls_port if port is None else port
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


def verdict(proxy: Proxy) -> str:
    return proxy.traffic.requests[-1].verdict


def test_an_allowed_host_is_reached_over_plain_http(world: World) -> None:
    with world.proxy() as proxy:
        answer = say(proxy, get(world, "/here?a=1"))
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"GET /here?a=1 ")
    record = proxy.traffic.requests[0]
    assert (record.host, record.port, record.method, record.verdict) == (NAME, world.http_port, "GET", "allowed")
    assert record.received_bytes == len(answer)


def test_a_body_is_passed_on_and_no_more_than_it(world: World) -> None:
    with world.proxy() as proxy:
        answer = say(proxy, get(world, "/p", method="POST", more="Content-Length: 5\r\n") + b"hello")
        assert answer.endswith(b"POST /p hello")
        say(proxy, get(world, "/p", method="POST", more="Content-Length: 5\r\n") + b"hello" + get(world, "/second"))
    assert verdict(proxy) == "a second request came on one connection"
    assert not any("/second" in one["line"] for one in world.seen)


def test_tls_passes_to_the_host_that_it_names(world: World) -> None:
    context = ssl.create_default_context(cafile=str(world.certificate))
    with world.proxy() as proxy, connect(proxy) as client:
        client.sendall(tunnel(world))
        assert client.recv(1 << 12).startswith(b"HTTP/1.1 200 ")
        with context.wrap_socket(client, server_hostname=NAME) as secure:
            secure.sendall(f"GET /secret HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
            assert read_all(secure).endswith(b"GET /secret ")
    record = proxy.traffic.requests[0]
    assert (record.method, record.verdict) == ("CONNECT", "allowed")
    assert record.sent_bytes > 100 and record.received_bytes > 100


@pytest.mark.parametrize("name", [OTHER, None, "127.0.0.1"])
def test_tls_that_asks_for_another_server_ends(world: World, name: str | None) -> None:
    with world.proxy() as proxy:
        said = say(proxy, tunnel(world), hello(name))
    assert said == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert verdict(proxy) in (f"TLS asks for another server than {NAME}", "the server isn't named")
    assert proxy.traffic.requests[0].sent_bytes == 0


def test_what_is_not_tls_does_not_pass_a_tunnel(world: World) -> None:
    with world.proxy(tls_ports=(world.http_port,)) as proxy:
        say(proxy, tunnel(world, port=world.http_port), b"GET /through HTTP/1.1\r\n\r\n")
    assert verdict(proxy) == "what was sent is not TLS"
    assert not any("/through" in one["line"] for one in world.seen)


@pytest.mark.parametrize(
    ("head", "status", "why"),
    [
        (f"GET http://{OTHER}/ HTTP/1.1\r\nHost: {OTHER}", 403, "not one of the allowed domains"),
        (f"CONNECT {OTHER}:443 HTTP/1.1", 403, "not one of the allowed domains"),
        (f"CONNECT {NAME}.evil.net:443 HTTP/1.1", 403, "not one of the allowed domains"),
        (f"CONNECT sub.{NAME}:443 HTTP/1.1", 403, "not one of the allowed domains"),
        (f"CONNECT {NAME}:22 HTTP/1.1", 403, "the port 22"),
        (f"CONNECT {NAME} HTTP/1.1", 400, "needs a port"),
        ("CONNECT 127.0.0.1:443 HTTP/1.1", 403, "no name"),
        ("CONNECT [::1]:443 HTTP/1.1", 403, "no name"),
        ("CONNECT 2130706433:443 HTTP/1.1", 403, "no name"),
        ("CONNECT 0x7f000001:443 HTTP/1.1", 403, "no name"),
        ("CONNECT 127.1:443 HTTP/1.1", 403, "no name"),
        ("GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1", 403, "no name"),
        (f"GET http://{NAME}@127.0.0.1/ HTTP/1.1\r\nHost: {NAME}", 403, "no name"),
        (f"GET http://user:pass@{NAME}/ HTTP/1.1\r\nHost: {NAME}", 403, "no name"),
        (f"GET http://{NAME}%2eevil.net/ HTTP/1.1\r\nHost: {NAME}", 403, "no name"),
        (f"GET http://evil.net\\@{NAME}/ HTTP/1.1\r\nHost: {NAME}", 403, "no name"),
        (f"GET http://{NAME}#@evil.net/ HTTP/1.1\r\nHost: {NAME}", 400, "target"),
        (f"GET http:///{NAME}/ HTTP/1.1\r\nHost: {NAME}", 400, "target"),
        (f"GET / HTTP/1.1\r\nHost: {NAME}", 400, "target"),
        (f"GET //{NAME}/ HTTP/1.1\r\nHost: {NAME}", 400, "target"),
        (f"GET https://{NAME}/ HTTP/1.1\r\nHost: {NAME}", 400, "target"),
        ("GET file:///etc/passwd HTTP/1.1\r\nHost: x", 400, "target"),
        ("OPTIONS * HTTP/1.1\r\nHost: x", 400, "target"),
    ],
)
def test_other_requests_are_refused(world: World, head: str, status: int, why: str) -> None:
    with world.proxy(http_ports=(80,), tls_ports=(443,)) as proxy:
        answer = say(proxy, f"{head}\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert why in verdict(proxy) and why.encode() in answer
    assert proxy.traffic.requests[0].host in ("", NAME, OTHER, f"{NAME}.evil.net", f"sub.{NAME}")


@pytest.mark.parametrize(
    "more",
    [
        "Host: {other}\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: 1\r\n folded\r\n",
        "X: 1\nHost: {other}\r\n",
        "X: 1\rHost: {other}\r\n",
        "X: \x00\r\n",
        "no colon\r\n",
        " : x\r\n",
        "X" * 20_000 + ": 1\r\n",
        "X: 1\r\n" * 101,
    ],
)
def test_heads_that_two_readers_could_read_differently_are_refused(world: World, more: str) -> None:
    before = len(world.seen)
    with world.proxy() as proxy:
        answer = say(proxy, get(world, more=more.format(other=OTHER)))
    assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 411")
    assert len(world.seen) == before


def test_a_refused_request_is_recorded_with_what_it_asked_for(world: World) -> None:
    with world.proxy() as proxy:
        say(proxy, get(world, host=OTHER))
    [record] = proxy.requests()
    assert (record.host, record.port, record.method) == (OTHER, world.http_port, "GET")


def test_a_host_field_that_names_another_host_is_refused(world: World) -> None:
    head = f"GET http://{NAME}:{world.http_port}/ HTTP/1.1\r\nHost: {OTHER}\r\n\r\n"
    with world.proxy(domains=(NAME, OTHER)) as proxy:
        assert say(proxy, head.encode()).startswith(b"HTTP/1.1 400")


def test_a_line_end_in_a_target_makes_no_second_request(world: World) -> None:
    head = f"GET http://{NAME}:{world.http_port}/a\r\nGET /smuggled HTTP/1.1\r\nHost: {NAME}\r\n\r\n"
    with world.proxy() as proxy:
        assert say(proxy, head.encode()).startswith(b"HTTP/1.1 400")
    assert not any("/smuggled" in one["line"] for one in world.seen)


def test_what_is_said_to_the_proxy_alone_stays_with_it(world: World) -> None:
    more = "Proxy-Authorization: Basic c2VjcmV0\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Own: 2\r\nUpgrade: h2c\r\n"
    with world.proxy() as proxy:
        say(proxy, get(world, "/hop", more=more))
    headers = {name.lower(): value for name, value in world.seen[-1]["headers"].items()}
    assert headers["x-own"] == "2" and headers["connection"] == "close"
    assert not {"proxy-authorization", "x-hop", "upgrade"} & set(headers)


def test_a_method_that_is_not_allowed_is_refused(world: World) -> None:
    with world.proxy() as proxy:
        assert say(proxy, get(world, method="DELETE")).startswith(b"HTTP/1.1 405")
    with world.proxy(methods=("DELETE",)) as proxy:
        assert say(proxy, get(world, method="DELETE")).startswith(b"HTTP/1.1 200")


def test_a_wildcard_is_all_below_a_domain_and_not_the_domain(world: World) -> None:
    names = {host: ["127.0.0.1"] for host in ("example.org", "a.example.org", "a.b.example.org", "badexample.org")}
    found = {}
    with world.proxy(names, domains=("*.example.org",)) as proxy:
        for host in names:
            found[host] = say(proxy, get(world, host=host))[9:12]
    assert found == {
        "example.org": b"403", "a.example.org": b"200", "a.b.example.org": b"200", "badexample.org": b"403",
    }  # fmt: skip


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.7"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["fd00:ec2::254"], [],
     ["93.184.216.34", "192.168.0.1"]],
)  # fmt: skip
def test_a_name_that_leads_into_a_private_network_is_refused(world: World, addresses: list[str]) -> None:
    with world.proxy({NAME: addresses}, addresses=()) as proxy:
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 403")
    assert "address" in verdict(proxy)


def test_a_name_is_looked_up_once_so_that_it_cannot_change_between_check_and_use(world: World) -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    with world.proxy(lambda host: answers.pop(0)) as proxy:
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 200")
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 403")
    assert answers == []


def test_the_machine_s_own_public_address_is_refused(world: World) -> None:
    with world.proxy({NAME: ["8.8.8.8"]}, addresses=()) as proxy:
        proxy._own = frozenset({"8.8.8.8"})
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 403")
    assert "this machine's own" in verdict(proxy)


def test_a_name_that_cannot_be_looked_up_is_a_bad_gateway(world: World) -> None:
    def fails(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with world.proxy(fails) as proxy:
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 502")


def test_no_more_bytes_pass_than_the_bandwidth_lets(world: World) -> None:
    size, rate, burst = 150_000, 200_000, 50_000
    with world.proxy(bytes_per_s=rate, burst_bytes=burst) as proxy, connect(proxy) as client:
        started, passed, most = time.monotonic(), 0, 0.0
        client.sendall(get(world, f"/{size}"))
        while data := client.recv(1 << 16):
            passed += len(data)
            most = max(most, passed - rate * (time.monotonic() - started))
    assert passed > size
    assert most <= burst


def test_single_bytes_are_counted_as_the_work_that_they_are(world: World) -> None:
    rate, burst, pieces = 100_000, 10_000, 60
    with world.proxy(bytes_per_s=rate, burst_bytes=burst) as proxy, connect(proxy) as client:
        client.sendall(get(world, "/p", method="POST", more=f"Content-Length: {pieces}\r\n"))
        while not proxy.traffic.requests[-1:] or not proxy.traffic.requests[-1].sent_bytes:
            time.sleep(0.005)
        before, began = proxy.traffic.requests[-1].sent_bytes, time.monotonic()
        for at in range(pieces):
            client.sendall(b"x")
            while proxy.traffic.requests[-1].sent_bytes < before + at + 1:
                time.sleep(0.0005)
        assert time.monotonic() - began >= (512 * pieces - burst) / rate


def test_both_directions_and_all_connections_share_the_bandwidth(world: World) -> None:
    rate, burst, size = 400_000, 10_000, 60_000
    with world.proxy(bytes_per_s=rate, burst_bytes=burst) as proxy:
        started = time.monotonic()
        clients = [connect(proxy) for _ in range(3)]
        for client in clients:
            client.sendall(get(world, f"/{size}", method="POST", more=f"Content-Length: {size // 6}\r\n"))
            client.sendall(b"y" * (size // 6))
        passed = sum(len(read_all(client)) for client in clients) + 3 * (size // 6)
        assert passed <= burst + rate * (time.monotonic() - started)
        for client in clients:
            client.close()


def test_no_more_bytes_pass_in_all_than_are_allowed(world: World) -> None:
    with world.proxy(total_bytes=100_000) as proxy:
        assert len(say(proxy, get(world, "/90000"))) > 90_000
        assert len(say(proxy, get(world, "/90000"))) < 10_000
        assert "100,000 bytes in all" in verdict(proxy)


def test_more_connections_than_allowed_wait_for_one_to_end(world: World) -> None:
    with world.proxy(connections=2) as proxy:
        first, second = connect(proxy), connect(proxy)
        third = connect(proxy)
        third.sendall(get(world))
        while len(proxy.traffic.requests) < 2:
            time.sleep(0.005)
        third.settimeout(0.1)
        with pytest.raises(TimeoutError):
            third.recv(1)
        first.close()
        third.settimeout(20)
        assert read_all(third).startswith(b"HTTP/1.1 200")
        second.close()
        third.close()


def test_connections_are_bounded_in_all(world: World) -> None:
    with world.proxy(requests=2) as proxy:
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 200")
        assert say(proxy, get(world)).startswith(b"HTTP/1.1 200")
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    assert len(proxy.traffic.requests) == 2


def test_who_says_nothing_is_sent_away(world: World) -> None:
    with world.proxy(head_timeout_s=0.05) as proxy:
        assert say(proxy, b"GET ").startswith(b"HTTP/1.1 408")
        assert say(proxy, tunnel(world)).startswith(b"HTTP/1.1 200")
        assert verdict(proxy) == "TLS didn't begin"


def test_a_silent_host_is_given_up(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with world.proxy(idle_timeout_s=0.05, http_ports=(port,)) as proxy:
            say(proxy, f"GET http://{NAME}:{port}/ HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n".encode())
        assert verdict(proxy) == "neither side said anything more"


def test_the_end_of_the_proxy_ends_its_connections_and_leaves_no_file(world: World) -> None:
    with world.proxy() as proxy:
        client, unseen = connect(proxy), connect(proxy)
        client.sendall(b"GET ")
        folder = proxy.path.parent
    assert read_all(client) == read_all(unseen) == b""
    assert not folder.exists()
    client.close()
    unseen.close()


CLIENT = """
import json, ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
found = []
for url in sys.argv[2:]:
    try:
        found.append(urllib.request.urlopen(url, context=context if url.startswith("https") else None).read().decode())
    except OSError as error:
        found.append(str(error))
print(json.dumps(found))
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


FORWARD = """
import os, sys
sys.path.insert(0, sys.argv[1])
import forwarder
forwarder.start(sys.argv[2], int(sys.argv[3]))
os.environ.update(dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:" + sys.argv[3]))
os.execvp(sys.argv[4], sys.argv[4:])
"""


def through(proxy: Proxy, port: int, *program: str) -> Any:
    folder = str(Path(forwarder.__file__).parent)
    command = [sys.executable, "-I", "-c", FORWARD, folder, str(proxy.path), str(port), *program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_program_that_goes_by_the_environment_reaches_allowed_hosts_alone(
    world: World, port: int, tmp_path: Path
) -> None:
    urls = [
        f"https://{NAME}:{world.tls_port}/secure",
        f"http://{NAME}:{world.http_port}/plain",
        f"https://{OTHER}:{world.tls_port}/x",
        f"http://{OTHER}:{world.http_port}/x",
        f"http://{NAME}:{world.http_port}/200000",
    ]
    with world.proxy() as proxy:
        said = json.loads(through(proxy, port, sys.executable, "-c", CLIENT, str(world.certificate), *urls))
    assert said[:2] == ["GET /secure ", "GET /plain "]
    assert "403 Forbidden" in said[2] and "403: Forbidden" in said[3]
    assert said[4] == "x" * 200_000
    assert [one.verdict == "allowed" for one in proxy.traffic.requests] == [True, True, False, False, True]


def test_requests_works_with_the_proxy(world: World, port: int) -> None:
    code = "import requests, sys; print(requests.get(sys.argv[1], verify=sys.argv[2]).text)"
    with world.proxy() as proxy:
        url = f"https://{NAME}:{world.tls_port}/r"
        said = through(proxy, port, sys.executable, "-c", code, url, str(world.certificate))
    assert said == "GET /r \n"


def test_curl_works_with_the_proxy(world: World, port: int) -> None:
    with world.proxy() as proxy:
        url = f"https://{NAME}:{world.tls_port}/c"
        assert through(proxy, port, "curl", "-sS", "--cacert", str(world.certificate), url) == "GET /c "


def test_a_large_body_goes_through(world: World, port: int) -> None:
    with world.proxy() as proxy:
        posted = through(proxy, port, "curl", "-sS", "-d", "z" * 70_000, f"http://{NAME}:{world.http_port}/d")
    assert posted == f"POST /d {'z' * 70_000}"
