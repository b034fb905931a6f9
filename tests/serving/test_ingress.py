"""Which way in is taken, and that HAProxy starts on a configuration that is closed, or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from raysafe.errors import ConfigError
from raysafe.serving import ingress
from raysafe.serving.ingress import LAUNCHER, choose, haproxy_binary

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def ray_config(folder: Path, host: str = "127.0.0.1", port: int = 8123) -> Path:
    """The configuration as the installed Ray writes it, with one gateway."""
    node = folder / "node"
    config = HAProxyConfig(
        socket_path=str(node / "admin.sock"),
        server_state_base=str(node),
        server_state_file=str(node / "state"),
        metrics_socket_path=str(node / "metrics.sock"),
        http_options=HTTPOptions(host=host, port=port),
        is_head=True,
    )
    gateway = BackendConfig("http-app", "/", servers=[ServerConfig("gateway", "127.0.0.1", 30000)], app_name="app")
    api = HAProxyApi(config, {"http-app": gateway}, config_file_path=str(node / "haproxy.cfg"))
    api._generate_config_file_internal()
    return node / "haproxy.cfg"


def launch(config: Path, binary: str = "/bin/true", *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(LAUNCHER), "-db", "-f", str(config), *more]
    return subprocess.run(
        command, env=os.environ | {"RAYSAFE_HAPROXY": binary}, capture_output=True, text=True, timeout=30
    )


def binds(config: Path) -> list[str]:
    lines = [line.split() for line in config.read_text().splitlines()]
    return [words[1] for words in lines if words[:1] == ["bind"]]


def test_rays_own_configuration_listens_on_all_interfaces(tmp_path: Path) -> None:
    assert [bind for bind in binds(ray_config(tmp_path)) if not bind.startswith("127.0.0.1:")]


def test_a_launched_haproxy_listens_where_the_service_does_and_nowhere_else(tmp_path: Path) -> None:
    config = ray_config(tmp_path)
    assert launch(config).returncode == 0
    assert binds(config) == ["127.0.0.1:8123"]


def test_an_operator_who_opens_the_service_opens_its_own_port_only(tmp_path: Path) -> None:
    config = ray_config(tmp_path, host="0.0.0.0")
    assert launch(config).returncode == 0
    assert binds(config) == ["*:8123"]


def test_the_admin_socket_and_its_folders_are_their_owners(tmp_path: Path) -> None:
    config = ray_config(tmp_path)
    launch(config)
    (line,) = [line for line in config.read_text().splitlines() if line.strip().startswith("stats socket")]
    assert " mode 600 level admin " in line
    assert [folder.stat().st_mode & 0o777 for folder in (config.parent, tmp_path)] == [0o700, 0o700]


def test_a_listener_that_is_not_known_ends_the_start(tmp_path: Path) -> None:
    config = ray_config(tmp_path)
    config.write_text(config.read_text() + "frontend new\n    bind *:9999\n")
    ended = launch(config)
    assert ended.returncode == 3 and "frontend new would listen at *:9999 too" in ended.stderr


def test_a_folder_that_is_a_link_elsewhere_ends_the_start(tmp_path: Path) -> None:
    config = ray_config(tmp_path / "real")
    (tmp_path / "link").symlink_to(config.parent)
    ended = launch(tmp_path / "link" / "haproxy.cfg")
    assert ended.returncode == 2 and "belongs to another user" in ended.stderr


def test_haproxy_itself_takes_the_closed_configuration(tmp_path: Path) -> None:
    binary = haproxy_binary()
    if binary is None:
        pytest.skip("no HAProxy on this machine")
    checked = launch(ray_config(tmp_path), binary, "-c")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.serve
def test_a_request_that_does_not_come_in_time_is_told_so_in_json(tmp_path: Path) -> None:
    binary = haproxy_binary()
    if binary is None:
        pytest.skip("no HAProxy on this machine")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    config = ray_config(tmp_path, port=port)
    environment = os.environ | {"RAYSAFE_HAPROXY": binary, "RAYSAFE_BODY_S": "1"}
    running = subprocess.Popen([str(LAUNCHER), "-db", "-f", str(config)], env=environment, stderr=subprocess.DEVNULL)
    try:
        with connected(port) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
    finally:
        running.kill()
        running.wait()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408") and b"application/json" in head
    assert "in time" in json.loads(body)["error"]["message"]


def connected(port: int) -> socket.socket:
    """A connection to what is starting at this port."""
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=20)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens at {port}")


def test_the_body_is_waited_for_as_long_as_the_gateway_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "haproxy_binary", lambda: "/opt/haproxy")
    assert choose("haproxy", 120.0, body_s=12.5).environment["RAYSAFE_BODY_S"] == "13"


def test_haproxy_is_the_way_in_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "haproxy_binary", lambda: "/opt/haproxy")
    chosen = choose("auto", 120.0)
    assert chosen.way == "haproxy" and chosen.note is None
    assert chosen.environment["RAY_SERVE_HAPROXY_BINARY_PATH"] == str(LAUNCHER)


def test_an_old_haproxy_lives_as_long_as_the_longest_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "haproxy_binary", lambda: "/opt/haproxy")
    assert int(choose("haproxy", 1000.5).environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > 1000


def test_without_haproxy_serves_own_proxy_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "haproxy_binary", lambda: None)
    chosen = choose("auto", 120.0)
    assert chosen.way == "serve" and "no HAProxy was found" in (chosen.note or "")
    with pytest.raises(ConfigError, match="way_in is haproxy"):
        choose("haproxy", 120.0)


def test_a_head_on_another_machine_is_not_assumed_to_have_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "haproxy_binary", lambda: "/opt/haproxy")
    assert choose("auto", 120.0, head_is_here=False).way == "serve"
    assert choose("haproxy", 120.0, head_is_here=False).way == "haproxy"


def test_the_launcher_can_be_executed() -> None:
    assert os.access(LAUNCHER, os.X_OK)
