"""The head of a request to an HTTP proxy (RFC 9110, RFC 9112), read strictly: what two readers could take for two
things is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from raysafe.control.sandbox.proxy.rules import NetworkRules, plain_host

MOST_BYTES, MOST_FIELDS = 1 << 14, 100
_LINE = re.compile(r"([A-Z]{1,20}) ([!-~]{1,8192}) HTTP/1\.([01])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_AUTHORITY = re.compile(r"([A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(r"[Hh][Tt][Tt][Pp]://([^/?#]+)([/?][^#\\]*)?")
_LENGTH = re.compile(r"[0-9]{1,15}")
_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host",
}  # fmt: skip


class Refused(Exception):
    """A request that does not pass: the status to answer and the reason, which quotes nothing but a plain host.

    host, port, method: of the request, as far as they could be read.
    """

    def __init__(self, status: int, reason: str, host: str = "", port: int = 0, method: str = "") -> None:
        super().__init__(status, reason)
        self.status, self.reason = status, reason
        self.host, self.port, self.method = host, port, method


@dataclass(frozen=True)
class Head:
    """A request that may be made, as far as its head tells."""

    method: str
    host: str
    port: int
    forwarded: bytes = b""
    """The head as the host gets it; empty for CONNECT."""
    body_bytes: int = 0

    @property
    def tunnel(self) -> bool:
        return self.method == "CONNECT"


def read_head(raw: bytes, rules: NetworkRules) -> Head:
    """The request of a head, the empty line at its end included; raises Refused."""
    lines = raw[:-4].decode("latin-1").split("\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None or len(lines) > MOST_FIELDS + 1:
        raise Refused(400, "the request is not plain HTTP/1.1")
    named = [_field(text) for text in lines[1:]]
    method, target = line[1], line[2]
    hosts = [value for name, value, _ in named if name == "host"]
    if len(hosts) > 1:
        raise Refused(400, "the request names more than one host")
    tunnel, absolute = method == "CONNECT", _ABSOLUTE.fullmatch(target)
    if not tunnel and absolute is None:
        raise Refused(400, "the request's target is not http:// and a host, or CONNECT's host and port", method=method)
    if not tunnel and line[3] == "1" and not hosts:
        raise Refused(400, "the request has no Host field", method=method)
    host, port = _authority(target if absolute is None or tunnel else absolute[1], None if tunnel else 80)
    against = _against(method, host, port, hosts, rules)
    if against is not None:
        raise Refused(*against, host, port, method)
    if tunnel or absolute is None:
        return Head(method, host, port)
    path = absolute[2] or "/"
    path = path if path.startswith("/") else f"/{path}"
    return Head(method, host, port, _forwarded(method, path, host, port, named), _body_bytes(named))


def _field(text: str) -> tuple[str, str, str]:
    """(name in lower case, value, name as it came); raises Refused. Each step is linear in the text."""
    name, colon, value = text.partition(":")
    if not colon or _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise Refused(400, "a field of the request is not plain HTTP/1.1")
    return name.lower(), value.strip(" \t"), name


def _authority(text: str, default: int | None) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(text)
    host = plain_host(found[1]) if found else None
    if found is None or host is None:
        raise Refused(403, "the host is no name: addresses, users and ports of other spellings are not taken")
    if found[2] is None and default is None:
        raise Refused(400, "CONNECT needs a port")
    return host, int(found[2]) if found[2] is not None else (default or 0)


def _against(method: str, host: str, port: int, hosts: list[str], rules: NetworkRules) -> tuple[int, str] | None:
    """What the rules have against a request; hosts: its Host fields."""
    default, ports = (443, rules.tls_ports) if method == "CONNECT" else (80, rules.http_ports)
    if not rules.reaches(host):
        return 403, f"the host {host} is not one of the allowed domains"
    if port not in ports:
        return 403, f"the port {port} is not allowed for this kind of request"
    if hosts and _authority(hosts[0], default) not in ((host, port), (host, default)):
        return 400, "the Host field names another host than the request"
    if method != "CONNECT" and method not in rules.methods:
        return 405, f"the method {method} is not allowed"
    return None


def _body_bytes(named: list[tuple[str, str, str]]) -> int:
    if any(name == "transfer-encoding" for name, _, _ in named):
        raise Refused(411, "a body needs a Content-Length here")
    lengths = {value for name, value, _ in named if name == "content-length"}
    if len(lengths) > 1 or any(_LENGTH.fullmatch(length) is None for length in lengths):
        raise Refused(400, "the Content-Length is no single number")
    return int(lengths.pop()) if lengths else 0


def _forwarded(method: str, path: str, host: str, port: int, named: list[tuple[str, str, str]]) -> bytes:
    """In origin form, for one request only: what is said to the proxy alone stays here."""
    listed = {word.strip().lower() for name, value, _ in named if name == "connection" for word in value.split(",")}
    kept = [f"{own}: {value}" for name, value, own in named if name not in _HOP_BY_HOP | (listed - {"content-length"})]
    shown = host if port == 80 else f"{host}:{port}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {shown}", *kept, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")
