"""A small network on loopback: an HTTP server, a TLS server with its own certificate, and names that lead there."""

from __future__ import annotations

import datetime
import http.server
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from raysafe.control.sandbox.proxy.rules import NetworkRules
from raysafe.control.sandbox.proxy.server import Proxy

NAME, OTHER = "data.example.org", "other.example.org"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; a path that is a number gets so many bytes."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, Any]]

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append({"line": self.requestline, "headers": dict(self.headers), "body": body})
        size = self.path.strip("/")
        answer = b"x" * int(size) if size.isdigit() else f"{self.command} {self.path} {body.decode()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        return None


class World:
    """The servers' ports, what they saw, and the certificate that clients trust."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = certificate(folder)
        self.seen: list[dict[str, Any]] = []
        handler = type("Own", (Handler,), {"seen": self.seen})
        self.plain = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.tls = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.tls.socket = context.wrap_socket(self.tls.socket, server_side=True)
        for server in (self.plain, self.tls):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.http_port, self.tls_port = self.plain.server_address[1], self.tls.server_address[1]

    def rules(self, **more: Any) -> NetworkRules:
        given = {
            "domains": (NAME,),
            "tls_ports": (self.tls_port,),
            "http_ports": (self.http_port,),
            "addresses": ("127.0.0.0/8",),
            "bytes_per_s": 1 << 30,
        }
        return NetworkRules(**(given | more))

    @contextmanager
    def proxy(self, names: Any = None, **rules: Any) -> Iterator[Proxy]:
        """names: host -> addresses, or a function of the host."""
        known = names or {NAME: ["127.0.0.1"], OTHER: ["127.0.0.1"]}

        async def resolve(host: str) -> list[str]:
            return known(host) if callable(known) else known[host]

        with Proxy(self.rules(**rules), resolve) as proxy:
            yield proxy

    def close(self) -> None:
        for server in (self.plain, self.tls):
            server.shutdown()
            server.server_close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate for NAME, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in (NAME, OTHER, "localhost")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(private)
    return paths


def say(proxy: Proxy, *parts: bytes) -> bytes:
    """All that the proxy answers to these bytes."""
    with connect(proxy) as client:
        for part in parts:
            client.sendall(part)
        return read_all(client)


def connect(proxy: Proxy) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(proxy.path))
    return client


def read_all(client: socket.socket) -> bytes:
    found = b""
    with suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            found += data
    return found


def hello(name: str | None) -> bytes:
    """The first message of a real TLS client that asks for a server of this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()
